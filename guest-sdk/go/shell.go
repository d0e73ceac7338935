package guest

import (
	"bytes"
	"slices"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/world"
)

// shell is what stands between the host and an object: it turns inputs into calls of methods and hooks, and keeps the lines
// of parked calls.
type shell struct {
	// First what every call comes by, side by side.
	object any
	kind   *kind

	// What the turn knows.
	nowMs, seed uint64
	context     Context

	// results is where the answers of a step are encoded.
	results []byte
	// lines are the parked calls. A line belongs to one method or to several that share it.
	lines [][]*waiting
	// told are the tokens that the host knows to be held, ascending. While there are none, nobody looks for any.
	told []uint64
	// lookForTokens: this step may have changed what is held.
	lookForTokens bool
	checksParking bool
	// hasOut: there may be something in out.
	hasOut bool
	// grant is what the method under way has said.
	grant world.Grant
	// hasAlarm: the hook Tick is wished for, at alarmMs.
	hasAlarm bool
	// hasTold: toldMs is what the host was last asked to wake the object at, and has not yet.
	hasTold         bool
	alarmMs, toldMs uint64

	// out is what the step gives.
	out world.Outcome
	// byHand are the calls that the object completes itself.
	byHand []*waiting
	tenant string
}

// waiting is a call that has no answer yet.
type waiting struct {
	id     uint64
	method *method
	owner  Owner
	args   []byte
	// tokens among the arguments are held while the call waits.
	tokens []uint64
	// untilMs is when it is tried again at the latest, if hasUntil.
	untilMs  uint64
	hasUntil bool
}

// tried is what became of a try.
type tried uint8

const (
	answered tried = iota
	answeredUnchanged
	parks
	leftToObject
)

// retry says which parked calls to try again.
type retry uint8

const (
	retryNothing retry = iota
	// retryDue: those whose time has come.
	retryDue
	// retryAll: all that are to be tried after a change.
	retryAll
)

// resultsBytesMax is how much of the memory of large answers is kept for later ones.
const resultsBytesMax = 16 << 10

func newShell(k *kind, context world.Context) *shell {
	s := &shell{kind: k, tenant: context.Tenant, nowMs: context.NowMs, seed: context.Seed}
	s.context.shell = s
	s.lines = make([][]*waiting, k.lines)
	return s
}

// create makes an object.
func create(k *kind, args []byte, context world.Context) (*shell, *world.Fault) {
	s := newShell(k, context)
	err := catch(func() (err error) {
		s.object, err = k.construct(&s.context, args)
		return err
	})
	return s.made(err, "a constructor cannot wait")
}

// load makes an object from what save gave.
func load(k *kind, saved []byte, from string, context world.Context) (*shell, *world.Fault) {
	s := newShell(k, context)
	malformed := &world.Fault{Kind: "ValueError", Message: "state is malformed"}
	r := cbor.NewReader(saved)
	if parts, err := r.Array(); err != nil || parts != 2 {
		return nil, malformed
	}
	if !r.Null() {
		at, err := r.Uint()
		if err != nil {
			return nil, malformed
		}
		s.alarmMs, s.hasAlarm = at, true
	}
	state, err := r.Bytes()
	if err != nil {
		return nil, malformed
	}
	err = catch(func() (err error) {
		s.object, err = k.load(&s.context, state, from)
		return err
	})
	return s.made(err, "loading cannot wait")
}

func (s *shell) made(err error, cannotWait string) (*shell, *world.Fault) {
	if _, waits := err.(*stop); waits {
		return nil, &world.Fault{Kind: "RuntimeError", Message: cannotWait}
	}
	if err != nil {
		return nil, faultOf(err)
	}
	s.told = tokensOf(s.object)
	return s, nil
}

// catch turns what Require throws into the error that it is.
func catch(do func() error) (err error) {
	defer func() {
		switch thrown := recover().(type) {
		case nil:
		case required:
			err = thrown.fault
		default:
			panic(thrown)
		}
	}()
	return do()
}

// Save is the object's state and its wish to be woken: `[wake-at or null, state]`.
func (s *shell) Save() ([]byte, *world.Fault) {
	state, err := s.kind.save(s.object)
	if err != nil {
		return nil, faultOf(err)
	}
	saved := cbor.AppendArray(make([]byte, 0, len(state)+16), 2)
	if s.hasAlarm {
		saved = cbor.AppendUint(saved, s.alarmMs)
	} else {
		saved = cbor.AppendNull(saved)
	}
	return cbor.AppendBytes(saved, state), nil
}

func (s *shell) Held() []uint64 { return s.told }
func (s *shell) Value() any     { return s.object }
func (s *shell) CheckParking()  { s.checksParking = s.kind.saves }

func (s *shell) Waiting() []uint64 {
	var ids []uint64
	for _, line := range append(slices.Clip(s.lines), s.byHand) {
		for _, call := range line {
			ids = append(ids, call.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Step takes one turn.
func (s *shell) Step(nowMs, seed uint64, input *world.Input) *world.Outcome {
	if input.Kind == world.Call {
		item, changed, more := s.StepCall(nowMs, seed, input.Call, input.Method, input.Owner, input.Item)
		if more != nil {
			return more
		}
		s.hasOut = true
		s.out.Completions = append(s.out.Completions, world.Completion{Call: input.Call, Item: item})
		s.out.Changed = changed
		return &s.out
	}
	s.begin(nowMs, seed)
	s.lookForTokens = mayHoldTokens(input.Item)
	return s.end(s.take(input))
}

// StepCall is Step for a call. The item is all there is to say, beside whether the object changed, unless there is more.
//
// Most calls find nobody waiting and no token, and are answered at once. What a call costs is how much code and memory it
// comes by, rather than how often: so these have a short way of their own.
func (s *shell) StepCall(
	nowMs, seed, id uint64, number uint32, owner world.Owner, args []byte,
) (item []byte, changed bool, more *world.Outcome) {
	s.begin(nowMs, seed)
	s.lookForTokens = mayHoldTokens(args)
	if int(number) >= len(s.kind.methods) {
		return nil, false, s.noMethod(id, number)
	}
	m := s.kind.methods[number]
	if s.lookForTokens || len(s.told) > 0 || s.checksParking && m.wait != never || s.someWait() {
		return nil, false, s.callAmongOthers(waiting{id: id, method: m, owner: Owner(owner), args: args})
	}
	s.context.owner, s.context.call, s.grant = Owner(owner), id, world.NoGrant
	err := s.invoke(m, args)
	if err == nil && s.grant == world.NoGrant && !s.hasAlarm && !s.hasOut {
		return s.results, !m.readOnly, nil
	}
	return nil, false, s.callWithMore(waiting{id: id, method: m, owner: Owner(owner), args: args}, err)
}

// noMethod ends the step of a call of no method.
func (s *shell) noMethod(id uint64, number uint32) *world.Outcome {
	s.complete(id, nil, Raise("AttributeError", "there is no method number %d", number), world.NoGrant)
	return s.end(false, retryNothing)
}

// callAmongOthers takes the step of a new call: behind those of its line that wait, or tried at once.
func (s *shell) callAmongOthers(call waiting) *world.Outcome {
	if call.method.wait == fifo && len(s.lines[call.method.line]) > 0 {
		s.park(&call)
		return s.end(false, retryNothing)
	}
	return s.end(s.settle(&call, s.attempt(&call)))
}

// callWithMore ends the step of a call that was tried, which has waited, raised, or said more than its answer.
func (s *shell) callWithMore(call waiting, err error) *world.Outcome {
	return s.end(s.settle(&call, s.became(&call, 0, err)))
}

// someWait says whether a line has somebody in it.
func (s *shell) someWait() bool {
	for _, line := range s.lines {
		if len(line) > 0 {
			return true
		}
	}
	return false
}

// begin begins a step.
func (s *shell) begin(nowMs, seed uint64) {
	s.nowMs, s.seed = nowMs, seed
	if s.hasOut {
		s.clearOut()
	}
	if cap(s.results) > resultsBytesMax {
		s.results = nil
	}
	s.results = s.results[:0]
}

func (s *shell) clearOut() {
	clear(s.out.Completions)
	clear(s.out.Invocations)
	s.out = world.Outcome{Completions: s.out.Completions[:0], Invocations: s.out.Invocations[:0]}
	s.hasOut = false
}

// end ends a step, in which the object changed or not, with those that are to be tried again.
func (s *shell) end(changed bool, again retry) *world.Outcome {
	s.hasOut = true
	if again != retryNothing {
		changed = s.retry(again) || changed
	}
	s.out.Changed = changed
	if s.lookForTokens || changed && len(s.told) > 0 {
		s.findTokens()
	}
	s.out.WakeAtMs, s.out.HasWake = s.wakeAt()
	return &s.out
}

// take brings an input that is no call to the object. It says whether the object changed, and whom to try again.
func (s *shell) take(input *world.Input) (changed bool, again retry) {
	switch input.Kind {
	case world.Cancel:
		return s.cancel(input.Call, Why(input.Why))
	case world.OwnerLost:
		changed = s.ownerLost(s.hooked(0), OwnerLost{input.Session, input.Orderly})
	case world.Undelivered:
		name := ""
		if int(input.Method) < len(s.kind.methods) {
			name = s.kind.methods[input.Method].name
		}
		lost := Undelivered{name, input.Sent, input.Item}
		changed = s.undelivered(s.hooked(input.Call), lost)
	case world.Returned:
		changed = s.returned(s.hooked(0), Returned{input.Tag, input.Item, input.Fault})
	case world.Tick:
		s.hasTold = false
		if !s.hasAlarm || s.alarmMs > s.nowMs {
			return false, retryDue
		}
		s.hasAlarm = false
		changed = s.tick(s.hooked(0))
	}
	return changed, retryAll
}

// hooked is the context of a hook.
func (s *shell) hooked(call uint64) *Context {
	s.context.owner, s.context.call = Owner{}, call
	return &s.context
}

// settle puts a new call where it belongs after it was tried.
func (s *shell) settle(call *waiting, became tried) (changed bool, again retry) {
	switch became {
	case answered:
		return true, retryAll
	case parks:
		s.park(call)
	case leftToObject:
		s.byHand = append(s.byHand, s.kept(call))
	}
	return false, retryNothing
}

func (s *shell) park(call *waiting) {
	s.lines[call.method.line] = append(s.lines[call.method.line], s.kept(call))
}

// kept is a call that outlives its step.
func (s *shell) kept(call *waiting) *waiting {
	kept := *call
	// The memory that they came in is used again.
	kept.args = bytes.Clone(call.args)
	if mayHoldTokens(call.args) {
		var visit tokenVisit
		visit.item(string(call.args))
		kept.tokens = visit.idents
	}
	return &kept
}

// forget notes that a call waits no more.
func (s *shell) forget(call *waiting) {
	s.lookForTokens = s.lookForTokens || len(call.tokens) > 0
}

// cancel gives a waiting call up.
func (s *shell) cancel(id uint64, why Why) (changed bool, again retry) {
	call := s.remove(id)
	if call == nil {
		return false, retryNothing
	}
	s.forget(call)
	s.context.owner, s.context.call = call.owner, call.id
	changed = s.cancelled(&s.context, why)
	var item []byte
	var err error
	if why == Deadline {
		err = catch(func() (err error) {
			item, err = call.method.atDeadline(s.object, &s.context)
			return err
		})
		if _, waits := err.(*stop); waits {
			err = Raise("RuntimeError", "the answer at the deadline cannot wait")
		}
	} else {
		// Nobody reads it, but the host counts the call as waiting until it has an answer.
		err = Raise("Cancelled", "the call was given up")
	}
	s.complete(id, item, err, world.NoGrant)
	return changed, retryAll
}

// remove takes a waiting call out of where it waits.
func (s *shell) remove(id uint64) *waiting {
	if at := slices.IndexFunc(s.byHand, func(w *waiting) bool { return w.id == id }); at >= 0 {
		call := s.byHand[at]
		s.byHand = slices.Delete(s.byHand, at, at+1)
		return call
	}
	for i, line := range s.lines {
		// Calls arrive in the order of their numbers.
		at, found := slices.BinarySearchFunc(line, id, func(w *waiting, id uint64) int {
			switch {
			case w.id < id:
				return -1
			case w.id > id:
				return 1
			}
			return 0
		})
		if found {
			call := line[at]
			s.lines[i] = slices.Delete(line, at, at+1)
			return call
		}
	}
	return nil
}

// retry tries parked calls again, until no more of them is answered. It says whether the object changed.
func (s *shell) retry(which retry) (changed bool) {
	// After a change everything is worth a try; it ends because each change took a call out of its line.
	for {
		changedNow := false
		for i := range s.lines {
			at := 0
			for at < len(s.lines[i]) {
				call := s.lines[i][at]
				isFifo := call.method.wait == fifo
				if which == retryDue && !changedNow && (!call.hasUntil || call.untilMs > s.nowMs) {
					if isFifo {
						break
					}
					at++
					continue
				}
				became := s.attempt(call)
				if became == parks {
					if isFifo {
						break
					}
					at++
					continue
				}
				s.removeAt(i, at)
				if became == leftToObject {
					s.byHand = append(s.byHand, call)
					continue
				}
				s.forget(call)
				changedNow = changedNow || became == answered
			}
		}
		changed = changed || changedNow
		if !changedNow {
			return changed
		}
		which = retryAll
	}
}

func (s *shell) removeAt(line, at int) {
	if at == 0 {
		// The head, without moving those behind it.
		s.lines[line][0] = nil
		s.lines[line] = s.lines[line][1:]
		return
	}
	s.lines[line] = slices.Delete(s.lines[line], at, at+1)
}

// attempt calls a method and notes its answer, if it has one.
func (s *shell) attempt(call *waiting) tried {
	s.context.owner, s.context.call, s.grant = call.owner, call.id, world.NoGrant
	start := len(s.results)
	if !s.checksParking {
		return s.became(call, start, s.invoke(call.method, call.args))
	}
	before, _ := s.kind.save(s.object)
	became := s.became(call, start, s.invoke(call.method, call.args))
	if became == parks || became == leftToObject {
		if after, _ := s.kind.save(s.object); string(before) != string(after) {
			panic(s.kind.goName + "." + call.method.name +
				" changed the object and then parked: a call that parks must be safe to call again")
		}
	}
	return became
}

// became notes the answer of a call that was tried, if it has one: the results from start on, or the error.
func (s *shell) became(call *waiting, start int, err error) tried {
	m := call.method
	if stopped, waits := err.(*stop); waits {
		if m.wait != never {
			s.results = s.results[:start]
			if stopped.byHand {
				return leftToObject
			}
			call.untilMs, call.hasUntil = stopped.untilMs, stopped.hasUntil
			return parks
		}
		err = Raise("RuntimeError", "%s.%s waits, but is not declared guest.Fifo or guest.All", s.kind.goName, m.name)
	}
	s.complete(call.id, s.results[start:len(s.results):len(s.results)], err, s.grant)
	// One that raised may have changed something first.
	if m.readOnly {
		return answeredUnchanged
	}
	return answered
}

// invoke calls a method, whose result it appends to the results.
func (s *shell) invoke(m *method, args []byte) (err error) {
	// As catch, without a closure on the way of every call, nor asking whether one panics that has returned.
	returned := false
	defer func() {
		if returned {
			return
		}
		if thrown := recover(); thrown != nil {
			raised, isRequired := thrown.(required)
			if !isRequired {
				panic(thrown)
			}
			err = raised.fault
		}
	}()
	s.results, err = m.call(s.object, &s.context, args, s.results)
	returned = true
	return err
}

func (s *shell) complete(call uint64, item []byte, err error, grant world.Grant) {
	completion := world.Completion{Call: call, Item: item, Grant: grant}
	if err != nil {
		completion = world.Completion{Call: call, Fault: faultOf(err)}
	}
	s.hasOut = true
	s.out.Completions = append(s.out.Completions, completion)
}

// wakeAt is when to be woken, if that is not what the host was last told.
func (s *shell) wakeAt() (ms uint64, isNew bool) {
	ms, has := s.alarmMs, s.hasAlarm
	for _, line := range s.lines {
		for _, call := range line {
			if call.hasUntil && (!has || call.untilMs < ms) {
				ms, has = call.untilMs, true
			}
			// Behind the head of a fifo line nobody has been tried, so nobody has a wish.
			if call.method.wait == fifo {
				break
			}
		}
	}
	if !has || s.hasTold && s.toldMs == ms {
		return 0, false
	}
	s.toldMs, s.hasTold = ms, true
	return ms, true
}

// findTokens notes which tokens are held since this step, and which are no more.
func (s *shell) findTokens() {
	held := tokensOf(s.object)
	for _, line := range append(slices.Clip(s.lines), s.byHand) {
		for _, call := range line {
			held = append(held, call.tokens...)
		}
	}
	slices.Sort(held)
	s.out.Held, s.out.LetGo = difference(s.told, held)
	s.told = held
}
