package guest

import (
	"slices"

	"steward.dev/guest/internal/world"
)

// Owner is who calls and who holds: a session and one of that client's threads or tasks. Never reused.
type Owner struct {
	Session uint64
	// Thread is the client's own number for it.
	Thread uint64
}

// Why says why a waiting call was given up.
type Why uint8

const (
	// Deadline: its deadline has passed, or it was not to wait at all.
	Deadline Why = iota
	// Client: its client gave it up.
	Client
	// SessionEnded: its session has ended.
	SessionEnded
)

// OwnerLost says that a session has ended: for the hook of that name.
type OwnerLost struct {
	// Session is the one whose owners are all lost. Its waiting calls were cancelled before.
	Session uint64
	// Orderly: the client said goodbye. What CPython leaves without owner (a Lock) then stays as it is; what has an owner is let go.
	Orderly bool
}

// Undelivered is a result that never reached its client: for the hook of that name. Several arrive newest first.
type Undelivered struct {
	// Method is the name on the wire of the one that gave it.
	Method string
	// Sent: it was sent, and never acknowledged. Its client may have seen it, and begun with what it was granted. Then the next
	// one should know ([Context.GrantAbandoned]).
	Sent bool
	item []byte
}

// Result decodes the lost result into what a pointer points to. Errors: it is no such value.
func (u Undelivered) Result(into any) error { return decode(u.item, into) }

// Returned says that a call asked for with [Context.Invoke] has ended: for the hook of that name.
type Returned struct {
	// Tag is the number given when it was asked for.
	Tag   uint64
	item  []byte
	fault *world.Fault
}

// Result decodes its result into what a pointer points to. Errors: the [Fault] that it raised, or TypeError if its result is
// no such value.
func (r Returned) Result(into any) error {
	if r.fault != nil {
		fault := &Fault{Kind: r.fault.Kind, Message: r.fault.Message}
		if r.fault.Data != nil {
			fault.Data, fault.HasData = AnyOf(r.fault.Data), true
		}
		return fault
	}
	if err := decode(r.item, into); err != nil {
		return Raise("TypeError", "%s", err.Error())
	}
	return nil
}

// Level is a log level.
type Level uint8

const (
	// Error: something is wrong.
	Error Level = iota
	// Warn: something may be wrong.
	Warn
	// Info: worth knowing.
	Info
	// Debug: for whoever writes the plugin.
	Debug
)

// Context is what one turn of an object knows and what it may ask for. It is valid until the method or hook returns.
//
// All of it is in the turn's input, so the same input gives the same turn: there is no other clock and no other randomness.
type Context struct {
	shell *shell
	owner Owner
	call  uint64
}

// NowMs is the host's clock in milliseconds. It never goes back.
func (c *Context) NowMs() int64 { return int64(c.shell.nowMs) }

// Owner is who calls. In a constructor and in hooks without a call: nobody, the zero Owner.
func (c *Context) Owner() Owner { return c.owner }

// CallID is the call's number within this object, never reused; 0 where there is no call.
func (c *Context) CallID() uint64 { return c.call }

// Tenant is whose object this is.
func (c *Context) Tenant() string { return c.shell.tenant }

// Random is a random number, decided by the seed that came with this turn (SplitMix64). Not for secrets.
func (c *Context) Random() uint64 {
	c.shell.seed += 0x9e3779b97f4a7c15
	mixed := c.shell.seed
	mixed = (mixed ^ mixed>>30) * 0xbf58476d1ce4e5b9
	mixed = (mixed ^ mixed>>27) * 0x94d049bb133111eb
	return mixed ^ mixed>>31
}

// RandomFloat is a random number from 0 up to, not including, 1.
func (c *Context) RandomFloat() float64 { return float64(c.Random()>>11) / (1 << 53) }

// Grant says that this call is granted something that is held from now on: its reply carries a fence, a number that
// rises with every grant of this object, and calls may be guarded by it until [Context.Freed]. Counts only if the
// method returns a value.
func (c *Context) Grant() { c.shell.grant = world.CleanGrant }

// GrantAbandoned is the same, of something whose former holder was lost while holding it: what it protects may be half done, and the
// client that holds it now can see that.
func (c *Context) GrantAbandoned() { c.shell.grant = world.AbandonedGrant }

// Freed says that nobody holds any more what this object has granted so far: from now on calls that are guarded by one of
// its earlier fences are refused. An object whose calls grant must say so whenever the last holder is gone, by release, by
// the end of its session, by a reply that was not delivered.
func (c *Context) Freed() { c.shell.out.Freed, c.shell.hasOut = true, true }

// WakeAt asks for the hook Tick at a time of [Context.NowMs]; the earliest wish counts, until its time has come.
func (c *Context) WakeAt(ms int64) {
	at := uint64(max(ms, 0))
	if !c.shell.hasAlarm || at < c.shell.alarmMs {
		c.shell.alarmMs, c.shell.hasAlarm = at, true
	}
}

// Complete answers a call that a method left with [ByHand]: with a value, or with an error, which it raises. False if it does
// not wait (any more).
func (c *Context) Complete(call uint64, value any) bool { return c.answer(call, value, world.NoGrant) }

// CompleteWithGrant is the same, as a grant.
func (c *Context) CompleteWithGrant(call uint64, value any) bool {
	return c.answer(call, value, world.CleanGrant)
}

func (c *Context) answer(call uint64, value any, grant world.Grant) bool {
	s := c.shell
	at := slices.IndexFunc(s.byHand, func(w *waiting) bool { return w.id == call })
	if at < 0 {
		return false
	}
	s.forget(s.byHand[at])
	s.byHand = slices.Delete(s.byHand, at, at+1)
	err, isError := value.(error)
	var item []byte
	if !isError {
		item, err = appendValue(nil, value)
		if err != nil {
			err = Raise("TypeError", "%s", err.Error())
		}
	}
	s.complete(call, item, err, grant)
	return true
}

// Invoke asks for a call on another object, whose handle this one stores. Its end arrives at the hook Returned, with the tag. The
// arguments are made by [Args].
func (c *Context) Invoke(tag uint64, on Handle, method string, args Arguments) {
	c.shell.hasOut = true
	c.shell.out.Invocations = append(c.shell.out.Invocations, world.Invocation{
		Tag: tag, Ident: on.ident, Method: method, Args: args.Encode(),
	})
}

// Log writes a line to the host's log. Lines are cut at 4 KiB; what exceeds 64 KiB a step is dropped.
func (c *Context) Log(level Level, message string) { world.Log(uint8(level), message) }

// Arguments are those of a call: see [Args].
type Arguments struct {
	places   []Any
	keywords Keywords
}

// Args encodes arguments as a client does: `guest.Args(1, "two").With("three", 3)`. It panics if a value has no encoding.
func Args(places ...any) Arguments {
	args := Arguments{places: make([]Any, len(places))}
	for at, place := range places {
		args.places[at] = mustEncode(place)
	}
	return args
}

// With adds an argument by name.
func (a Arguments) With(name string, value any) Arguments {
	a.keywords = append(slices.Clip(a.keywords), Keyword{name, mustEncode(value)})
	return a
}

func mustEncode(value any) Any {
	item, err := Encode(value)
	if err != nil {
		panic("guest: " + err.Error())
	}
	return item
}
