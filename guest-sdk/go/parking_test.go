package guest_test

import (
	"slices"
	"strings"
	"testing"

	"steward.dev/guest"
	"steward.dev/guest/guesttest"
)

// Permits are what callers take some of, each way of waiting once.
type Permits struct {
	Free      uint32
	Lost      []uint64
	Abandoned []uint64
	Ticks     []int64
	byHand    []uint64
}

func NewPermits(free uint32) *Permits { return &Permits{Free: free} }

func (p *Permits) Take(n uint32) (uint32, error) {
	if p.Free < n {
		return 0, guest.Pending
	}
	p.Free -= n
	return p.Free, nil
}

func (p *Permits) TakeAny(n uint32) (uint32, error) { return p.Take(n) }

func (p *Permits) TakeUntil(c *guest.Context, atMs int64) (bool, error) {
	switch {
	case p.Free > 0:
		p.Free--
		return true, nil
	case c.NowMs() >= atMs:
		return false, nil
	}
	return false, guest.PendingUntil(atMs)
}

func (p *Permits) Wait() error {
	if p.Free == 0 {
		return guest.Pending
	}
	return nil
}

func (p *Permits) Give(n uint32)     { p.Free += n }
func (p *Permits) FreeNow() uint32   { return p.Free }
func (p *Permits) Undeclared() error { return guest.Pending }

func (p *Permits) Rash() error {
	p.Free++
	return guest.Pending
}

func (p *Permits) Join(c *guest.Context) error {
	p.byHand = append(p.byHand, c.CallID())
	return guest.ByHand
}

func (p *Permits) AnswerJoined(c *guest.Context) (answered int) {
	for _, call := range p.byHand {
		if c.CompleteWithGrant(call, call) {
			answered++
		}
	}
	p.byHand = nil
	return answered
}

func (p *Permits) Alarm(c *guest.Context, atMs int64) { c.WakeAt(atMs) }

func (p *Permits) Random(c *guest.Context) guest.Tuple {
	return guest.Tuple{c.Random() >> 1, c.RandomFloat()}
}

func (p *Permits) OwnerLost(_ *guest.Context, lost guest.OwnerLost) {
	p.Lost = append(p.Lost, lost.Session)
	p.Free++
}

func (p *Permits) Cancelled(c *guest.Context, _ guest.Why) bool {
	p.Abandoned = append(p.Abandoned, c.CallID())
	return false
}

func (p *Permits) Tick(c *guest.Context) {
	p.Ticks = append(p.Ticks, c.NowMs())
	p.Free++
}

func (p *Permits) Load(_ *guest.Context, state guest.Any, from string) error {
	switch from {
	case "1.1.0":
		p.Free = 7
		return nil
	case "1.2.0":
		return state.Decode(p)
	}
	return guest.Raise("ValueError", "state of %s", from)
}

// Cupboard holds proxies and whatever else.
type Cupboard struct {
	Handle *guest.Handle
	Items  []guest.Any
}

func NewCupboard(items ...guest.Any) *Cupboard        { return &Cupboard{Items: items} }
func (c *Cupboard) Keep(handle guest.Handle)          { c.Handle = &handle }
func (c *Cupboard) Ask(cx *guest.Context, n uint32)   { cx.Invoke(9, *c.Handle, "put", guest.Args(n)) }
func (c *Cupboard) Pairs(all guest.Keywords) []string { return names(all) }
func (c *Cupboard) Undelivered(_ *guest.Context, lost guest.Undelivered) bool {
	var item guest.Any
	guest.Require(lost.Result(&item) == nil, "a result is any item")
	c.Items = append(c.Items, item)
	return lost.Method == "pop"
}

func (c *Cupboard) Put(item guest.Any) error {
	if len(c.Items) == 1 {
		return guest.Pending
	}
	c.Items = append(c.Items, item)
	return nil
}

func (c *Cupboard) Pop() *guest.Any {
	if len(c.Items) == 0 {
		return nil
	}
	last := c.Items[len(c.Items)-1]
	c.Items = c.Items[:len(c.Items)-1]
	return &last
}

func (c *Cupboard) Returned(_ *guest.Context, returned guest.Returned) {
	var text string
	if err := returned.Result(&text); err != nil {
		text = err.Error()
	}
	item, _ := guest.Encode(text)
	c.Items = append(c.Items, item)
}

func names(keywords guest.Keywords) []string {
	found := []string{}
	for _, keyword := range keywords {
		found = append(found, keyword.Name)
	}
	return found
}

func init() {
	guest.Register[Permits]("1.2.0", NewPermits, "free=0",
		guest.Fifo("Take(n=1)"),
		guest.All("TakeAny(n)", guest.AtDeadline(func(p *Permits) uint32 { return p.Free })),
		guest.Fifo("TakeUntil(at_ms)"),
		guest.Fifo("Wait", guest.ReadOnly),
		guest.Method("Give(n=1)"),
		guest.Read("FreeNow", guest.Named("free")),
		guest.Fifo("Rash"),
		guest.Fifo("Join"),
		guest.Read("Random"),
	)
	guest.Register[Cupboard]("1.0.0", NewCupboard, "*items", guest.Fifo("Put(item)"), guest.Read("Pairs(**all)"))
}

func permits(t *testing.T, free uint32) *guesttest.Harness {
	return guesttest.New[Permits](t, free)
}

func TestHeadOfTheLineIsNotOvertaken(t *testing.T) {
	p := permits(t, 1)
	first := p.Call("take", 2).Parked()
	// One would be free for it.
	second := p.Call("take", 1).Parked()
	p.Call("give").Is(nil)
	p.Answer(first).Is(0)
	if !slices.Equal(p.Parked(), []uint64{second}) {
		t.Fatal(p.Parked())
	}
	p.Call("give", 5).Is(nil)
	p.Answer(second).Is(4)
}

func TestOneStepAnswersAsManyAsItCan(t *testing.T) {
	p := permits(t, 0)
	var calls []uint64
	for range 5 {
		calls = append(calls, p.Call("take").Parked())
	}
	p.Call("give", 3).Is(nil)
	if !slices.Equal(p.Parked(), calls[3:]) {
		t.Fatal(p.Parked())
	}
}

func TestAllAreTriedInTheOrderTheyCame(t *testing.T) {
	p := permits(t, 1)
	two, three := p.Call("take_any", 2).Parked(), p.Call("take_any", 3).Parked()
	p.Call("take_any", 1).Is(0)
	one := p.Call("take_any", 1).Parked()
	p.Call("give", 2).Is(nil)
	p.Answer(two).Is(0)
	if !slices.Equal(p.Parked(), []uint64{three, one}) {
		t.Fatal(p.Parked())
	}
	p.Call("give", 2).Is(nil)
	p.Answer(one).Is(1)
}

func TestDeadlineRaisesTimeoutErrorOrWhatTheMethodSays(t *testing.T) {
	p := permits(t, 0)
	take, anyOne := p.Call("take").Parked(), p.Call("take_any", 1).Parked()
	p.Cancel(take, guest.Deadline)
	p.Cancel(anyOne, guest.Deadline)
	p.Answer(take).Raises("TimeoutError", "the call waited until its deadline")
	p.Answer(anyOne).Is(0)
	if object := p.Object().(*Permits); !slices.Equal(object.Abandoned, []uint64{take, anyOne}) {
		t.Fatal(object)
	}
}

func TestCancelledHeadLetsTheNextThrough(t *testing.T) {
	p := permits(t, 1)
	head, next := p.Call("take", 2).Parked(), p.Call("take", 1).Parked()
	p.Cancel(head, guest.Client)
	p.Answer(next).Is(0)
}

func TestLostSessionWaitsNoMoreAndItsHoldingsServeOthers(t *testing.T) {
	p := permits(t, 0)
	gone := p.CallAs(guest.Owner{Session: 2, Thread: 1}, "take", guest.Args()).Parked()
	stays := p.Call("take").Parked()
	p.OwnerLost(2, false)
	p.Answer(stays).Is(0)
	object := p.Object().(*Permits)
	if !slices.Equal(object.Lost, []uint64{2}) || !slices.Equal(object.Abandoned, []uint64{gone}) {
		t.Fatal(object)
	}
}

func TestCallThatOnlyParksOrReadsChangesNoVersion(t *testing.T) {
	p := permits(t, 0)
	take, wait := p.Call("take").Parked(), p.Call("wait").Parked()
	p.Call("free").Is(0)
	if p.Version() != 0 {
		t.Fatal(p.Version())
	}
	p.Call("give", 2).Is(nil)
	p.Answer(take).Is(1)
	p.Answer(wait).Is(nil)
	if p.Version() != 1 {
		t.Fatal(p.Version())
	}
}

func TestTimeWakesTheHeadAlone(t *testing.T) {
	p := permits(t, 0)
	late, early := p.Call("take_until", 500).Parked(), p.Call("take_until", 100).Parked()
	p.Advance(499)
	if len(p.Parked()) != 2 {
		t.Fatal(p.Parked())
	}
	p.Advance(1)
	p.Answer(late).Is(false)
	// The next is tried as soon as it is the head.
	p.Answer(early).Is(false)
}

func TestOwnAlarmAndWaitingCallsShareTheClock(t *testing.T) {
	p := permits(t, 0)
	p.Call("alarm", 300).Is(nil)
	givesUp := p.Call("take_until", 200).Parked()
	p.Reload()
	p.Advance(250)
	p.Answer(givesUp).Is(false)
	getsIt := p.Call("take_until", 10_000).Parked()
	p.Advance(250)
	if ticks := p.Object().(*Permits).Ticks; !slices.Equal(ticks, []int64{300}) {
		t.Fatal(ticks)
	}
	p.Answer(getsIt).Is(true)
}

func TestCallsLeftToTheObjectAreAnsweredByItAndSurviveAnUpgrade(t *testing.T) {
	p := permits(t, 0)
	first, second := p.Call("join").Parked(), p.Call("join").Parked()
	p.Cancel(first, guest.Deadline)
	p.Answer(first).Raises("TimeoutError", "the call waited until its deadline")
	p.Reload()
	p.Call("answer_joined").Is(1)
	if p.Answer(second).Granted(second) {
		t.Fatal("nobody was lost")
	}
}

func TestMethodThatWaitsUndeclaredRaises(t *testing.T) {
	permits(t, 0).Call("undeclared").
		Raises("RuntimeError", "Permits.undeclared waits, but is not declared guest.Fifo or guest.All")
}

func TestHarnessRefusesCallsThatChangeAndPark(t *testing.T) {
	defer func() {
		if thrown, _ := recover().(string); !strings.Contains(thrown, "Permits.rash changed the object and then parked") {
			t.Fatal(thrown)
		}
	}()
	permits(t, 0).Call("rash")
}

func TestOlderStatesGoThroughTheLoadHook(t *testing.T) {
	p := permits(t, 3)
	saved := p.Save()
	p.Load(saved, "1.1.0")
	p.Call("free").Is(7)
	p.Load(saved, "1.2.0")
	p.Call("free").Is(3)
}

func TestRandomnessIsTheSeedS(t *testing.T) {
	p, again := permits(t, 0), permits(t, 0)
	first := p.Call("random").Item()
	if first != again.Call("random").Item() || first == p.Call("random").Item() {
		t.Fatal(first)
	}
}

func TestArgumentsBindByNameWithDefaults(t *testing.T) {
	p := permits(t, 5)
	by := guest.Owner{Session: 1}
	p.CallAs(by, "take", guest.Args().With("n", 2)).Is(3)
	p.CallAs(by, "take", guest.Args().With("n", "2")).
		Raises("TypeError", "Permits.take() argument 'n' must be int, not str")
	p.Call("take", -1).Raises("OverflowError", "Permits.take() argument 'n' is out of range")
	_, err := guesttest.Try[Permits](t, guest.Args(1, 2))
	want := "TypeError: Permits.__init__() takes from 1 to 2 positional arguments but 3 were given"
	if err == nil || err.Error() != want {
		t.Fatal(err)
	}
}

// token is one as a client sends it: tag 54210 around ["Queue", ident, null].
func token(ident byte) guest.Any {
	return guest.AnyOf([]byte("\xd9\xd3\xc2\x83\x65Queue" + string(rune(ident)) + "\xf6"))
}

func holds(t *testing.T, h *guesttest.Harness, idents ...uint64) {
	t.Helper()
	if !slices.Equal(h.Held(), idents) {
		t.Fatalf("holds %v, not %v", h.Held(), idents)
	}
}

func TestStoredTokensAreHeldAndRemovedOnesLetGo(t *testing.T) {
	c := guesttest.New[Cupboard](t)
	c.Call("keep", token(3)).Is(nil)
	holds(t, c, 3)
	c.Call("keep", token(4)).Is(nil)
	holds(t, c, 4)

	c.Call("put", []guest.Any{token(5)}).Is(nil)
	waits := c.Call("put", token(6)).Parked()
	holds(t, c, 4, 5, 6)
	c.Reload()
	holds(t, c, 4, 5, 6)
	c.Call("pop").Is([]guest.Any{token(5)})
	c.Answer(waits).Is(nil)
	holds(t, c, 4, 6)
}

func TestConstructorStoresTokens(t *testing.T) {
	holds(t, guesttest.New[Cupboard](t, token(1), token(2)), 1, 2)
}

func TestTokenThatPassesThroughIsNotHeld(t *testing.T) {
	c := guesttest.New[Cupboard](t, 1)
	waits := c.Call("put", token(7)).Parked()
	holds(t, c, 7)
	c.Cancel(waits, guest.Client)
	holds(t, c)
}

func TestCallsOnOtherObjectsComeBack(t *testing.T) {
	c := guesttest.New[Cupboard](t)
	c.Call("keep", token(3)).Is(nil)
	c.Call("ask", 1).Is(nil)
	asked := c.Invoked()
	if len(asked) != 1 || asked[0].Tag != 9 || asked[0].Ident != 3 || asked[0].Method != "put" ||
		asked[0].Args != guest.AnyOf(guest.Args(1).Encode()) {
		t.Fatal(asked)
	}
	c.Returned(9, "done")
	c.Call("pop").Is("done")
	c.Returned(9, guest.Raise("Full", ""))
	c.Call("pop").Is("Full")
}

func TestLostResultComesBackToTheObject(t *testing.T) {
	c := guesttest.New[Cupboard](t, 1)
	lost := c.Call("pop").Item()
	c.Undelivered(1, "pop", lost, true)
	c.Call("pop").Is(1)
}

func TestKeywordsKeepTheirOrder(t *testing.T) {
	c := guesttest.New[Cupboard](t)
	c.CallAs(guest.Owner{}, "pairs", guest.Args().With("b", 1).With("a", 2)).Is([]string{"b", "a"})
}
