// Package guesttest runs a type as a host would, natively, with a clock that the test turns: for the tests of plugins.
//
// The harness plays by the host's rules and checks the guest's. It fails the test, naming what happened, when a call that
// parks has changed the object, when a call is answered that does not wait, when a token is let go that is not held, when a
// wake-up is asked for that was just had.
package guesttest

import (
	"bytes"
	"slices"
	"testing"

	"steward.dev/guest"
	"steward.dev/guest/internal/world"
)

// Harness is an object and the host around it.
type Harness struct {
	t      testing.TB
	typ    world.Type
	object world.Object
	nowMs  uint64
	seed   uint64
	calls  uint64
	// waiting are the calls without answer, by number.
	waiting map[uint64]world.Input
	// answers are those to calls that waited, until somebody asks.
	answers  map[uint64]Answer
	wakeAtMs uint64
	hasWake  bool
	// held says how often each token is held.
	held        map[uint64]int
	version     int
	isFree      bool
	invocations []world.Invocation
}

// Arguments of a call are made by [guest.Args]; what has none is guest.Args().
type Arguments = guest.Arguments

// New makes an object of a registered type at time 0, and fails the test if its constructor raises.
func New[T any](t testing.TB, args ...any) *Harness {
	t.Helper()
	h, err := Try[T](t, guest.Args(args...))
	if err != nil {
		t.Fatalf("the constructor raised %v", err)
	}
	return h
}

// Try makes an object of a registered type at time 0. Errors: the [guest.Fault] that its constructor raises.
func Try[T any](t testing.TB, args Arguments) (*Harness, error) {
	t.Helper()
	h := &Harness{
		t: t, waiting: map[uint64]world.Input{}, answers: map[uint64]Answer{}, held: map[uint64]int{}, isFree: true,
	}
	typeid := world.Plugin.TypeID((*T)(nil))
	for _, typ := range world.Plugin.Describe() {
		if typ.ID == typeid {
			h.typ = typ
		}
	}
	if typeid == "" {
		t.Fatalf("%T is not registered", *new(T))
	}
	object, fault := world.Plugin.Create(typeid, args.Encode(), h.context())
	if fault != nil {
		return nil, faultOf(fault)
	}
	h.adopt(object)
	for _, ident := range object.Held() {
		h.held[ident]++
	}
	return h, nil
}

// At lets the object's life begin, or go on, at a time of the virtual clock without waking it.
func (h *Harness) At(nowMs int64) *Harness {
	h.nowMs = uint64(nowMs)
	return h
}

func (h *Harness) context() world.Context {
	return world.Context{NowMs: h.nowMs, Seed: h.seed, Tenant: "test"}
}

func (h *Harness) adopt(object world.Object) {
	h.object = object
	object.CheckParking()
}

// Call calls a method, by its name on the wire, as thread 1 of session 1.
func (h *Harness) Call(method string, args ...any) Answer {
	h.t.Helper()
	return h.CallAs(guest.Owner{Session: 1, Thread: 1}, method, guest.Args(args...))
}

// CallAs calls a method as somebody.
func (h *Harness) CallAs(owner guest.Owner, method string, args Arguments) Answer {
	h.t.Helper()
	h.calls++
	return h.issue(world.Input{
		Kind: world.Call, Call: h.calls, Method: h.method(method), Owner: world.Owner(owner), Item: args.Encode(),
	})
}

func (h *Harness) method(name string) uint32 {
	h.t.Helper()
	at := slices.IndexFunc(h.typ.Methods, func(m world.Method) bool { return m.Name == name })
	if at < 0 {
		h.t.Fatalf("%s has no method %s", h.typ.ID, name)
	}
	return uint32(at)
}

func (h *Harness) issue(input world.Input) Answer {
	h.t.Helper()
	h.waiting[input.Call] = input
	h.step(input)
	if answer, has := h.answers[input.Call]; has {
		delete(h.answers, input.Call)
		return answer
	}
	return Answer{t: h.t, call: input.Call, waits: true}
}

// Answer is the answer to a call that waited, once; one that says Waits while it waits.
func (h *Harness) Answer(call uint64) Answer {
	h.t.Helper()
	if answer, has := h.answers[call]; has {
		delete(h.answers, call)
		return answer
	}
	if _, waits := h.waiting[call]; !waits {
		h.t.Fatalf("call %d was answered before, or never made", call)
	}
	return Answer{t: h.t, call: call, waits: true}
}

// Advance lets time pass, waking the object whenever it asked for it.
func (h *Harness) Advance(byMs int64) {
	h.t.Helper()
	end := h.nowMs + uint64(byMs)
	for h.hasWake && h.wakeAtMs <= end {
		at := h.wakeAtMs
		h.nowMs, h.hasWake = max(h.nowMs, at), false
		h.step(world.Input{Kind: world.Tick})
		if h.hasWake && h.wakeAtMs <= at {
			h.t.Fatalf("%s asks again for the wake-up at %d ms that it just had", h.typ.ID, at)
		}
	}
	h.nowMs = end
}

// Cancel gives up a call that waits. For [guest.Deadline], Answer has what the method answers to that.
func (h *Harness) Cancel(call uint64, why guest.Why) {
	h.t.Helper()
	if _, waits := h.waiting[call]; !waits {
		h.t.Fatalf("call %d does not wait", call)
	}
	h.step(world.Input{Kind: world.Cancel, Call: call, Why: world.Why(why)})
	if _, waits := h.waiting[call]; waits {
		h.t.Fatalf("call %d still waits after it was given up", call)
	}
	if why != guest.Deadline {
		delete(h.answers, call)
	}
}

// OwnerLost ends a session as a host does: its waiting calls are given up, then the object learns of it.
func (h *Harness) OwnerLost(session uint64, orderly bool) {
	h.t.Helper()
	for _, call := range h.Parked() {
		if input, waits := h.waiting[call]; waits && input.Owner.Session == session {
			h.Cancel(call, guest.SessionEnded)
		}
	}
	h.step(world.Input{Kind: world.OwnerLost, Session: session, Orderly: orderly})
}

// Undelivered tells the object that a result never reached its client, and whether it was sent. Calls are numbered from 1, in the
// order they were made.
func (h *Harness) Undelivered(call uint64, method string, result any, sent bool) {
	h.t.Helper()
	h.step(world.Input{
		Kind: world.Undelivered, Call: call, Method: h.method(method), Item: item(h.t, result), Sent: sent,
	})
}

// Returned tells the object how a call that it asked for ended: with a value, or with an error.
func (h *Harness) Returned(tag uint64, outcome any) {
	h.t.Helper()
	input := world.Input{Kind: world.Returned, Tag: tag}
	switch outcome := outcome.(type) {
	case *guest.Fault:
		input.Fault = &world.Fault{Kind: outcome.Kind, Message: outcome.Message}
	default:
		input.Item = item(h.t, outcome)
	}
	h.step(input)
}

// Reload moves the object to a new instance as an upgrade does: saves, loads, calls again what waits.
func (h *Harness) Reload() {
	h.t.Helper()
	h.Load(h.Save(), h.typ.Version)
}

// Load puts a saved state in the object's place, as an upgrade from a version does, and calls again what waits.
func (h *Harness) Load(saved []byte, from string) {
	h.t.Helper()
	object, fault := world.Plugin.Load(h.typ.ID, bytes.Clone(saved), from, h.context())
	if fault != nil {
		h.t.Fatalf("%s does not load: %v", h.typ.ID, faultOf(fault))
	}
	h.adopt(object)
	clear(h.held)
	for _, ident := range object.Held() {
		h.held[ident]++
	}
	calls := h.Parked()
	inputs := h.waiting
	h.waiting = map[uint64]world.Input{}
	for _, call := range calls {
		input := inputs[call]
		input.Item = bytes.Clone(input.Item)
		if answer := h.issue(input); !answer.waits {
			h.answers[call] = answer
		}
	}
}

// Save is the saved state.
func (h *Harness) Save() []byte {
	h.t.Helper()
	saved, fault := h.object.Save()
	if fault != nil {
		h.t.Fatalf("%s does not save: %v", h.typ.ID, faultOf(fault))
	}
	return saved
}

// Object is the object itself: a *T.
func (h *Harness) Object() any { return h.object.Value() }

// Parked are the calls that wait, in the order they were made.
func (h *Harness) Parked() []uint64 {
	calls := []uint64{}
	for call := range h.waiting {
		calls = append(calls, call)
	}
	slices.Sort(calls)
	return calls
}

// NowMs is the virtual clock.
func (h *Harness) NowMs() int64 { return int64(h.nowMs) }

// Version is how many steps have changed the object.
func (h *Harness) Version() int { return h.version }

// Held are the idents of the tokens that the object stores, waiting calls' arguments included, ascending.
func (h *Harness) Held() []uint64 {
	idents := []uint64{}
	for ident := range h.held {
		idents = append(idents, ident)
	}
	slices.Sort(idents)
	return idents
}

// IsFree says whether no call can be guarded by a grant of this object: it has granted nothing yet, or has said Freed since it
// last did.
func (h *Harness) IsFree() bool { return h.isFree }

// Invocation is a call that the object asked for.
type Invocation struct {
	Tag, Ident uint64
	Method     string
	// Args is `[[positional...], {keyword: ...}]`.
	Args guest.Any
}

// Invoked takes the calls that the object asked for.
func (h *Harness) Invoked() []Invocation {
	var taken []Invocation
	for _, call := range h.invocations {
		taken = append(taken, Invocation{call.Tag, call.Ident, call.Method, guest.AnyOf(call.Args)})
	}
	h.invocations = nil
	return taken
}

func (h *Harness) step(input world.Input) {
	h.t.Helper()
	h.seed++
	// The object may keep what it is handed, but for a call's arguments, whose memory the host uses again.
	input.Item = bytes.Clone(input.Item)
	outcome := h.object.Step(h.nowMs, h.seed, &input)
	if input.Kind == world.Call {
		clear(input.Item)
	}
	for _, ident := range outcome.Held {
		h.held[ident]++
	}
	for _, ident := range outcome.LetGo {
		switch h.held[ident] {
		case 0:
			h.t.Fatalf("%s let go of token %d, which it does not hold", h.typ.ID, ident)
		case 1:
			delete(h.held, ident)
		default:
			h.held[ident]--
		}
	}
	// As a host does it: what a step grants is held after what it freed.
	h.isFree = h.isFree || outcome.Freed
	for _, completion := range outcome.Completions {
		if _, waits := h.waiting[completion.Call]; !waits {
			h.t.Fatalf("%s answered call %d, which does not wait", h.typ.ID, completion.Call)
		}
		delete(h.waiting, completion.Call)
		if completion.Grant != world.NoGrant && completion.Fault == nil {
			h.isFree = false
		}
		h.answers[completion.Call] = Answer{
			t: h.t, call: completion.Call, item: guest.AnyOf(completion.Item), fault: completion.Fault, grant: completion.Grant,
		}
	}
	if outcome.Changed {
		h.version++
	}
	if outcome.HasWake {
		h.wakeAtMs, h.hasWake = outcome.WakeAtMs, true
	}
	h.invocations = append(h.invocations, outcome.Invocations...)
	if known := h.object.Waiting(); !slices.Equal(known, h.Parked()) {
		h.t.Fatalf("%s lost a call: %v of %v wait", h.typ.ID, known, h.Parked())
	}
}

// Answer is what became of a call.
type Answer struct {
	t     testing.TB
	call  uint64
	waits bool
	item  guest.Any
	fault *world.Fault
	grant world.Grant
}

// Waits says whether the call has no answer yet.
func (a Answer) Waits() bool { return a.waits }

// Item is the value that was returned. Fails the test if none was.
func (a Answer) Item() guest.Any {
	a.t.Helper()
	switch {
	case a.waits:
		a.t.Fatalf("expected a value, but the call waits")
	case a.fault != nil:
		a.t.Fatalf("expected a value, found %v", faultOf(a.fault))
	}
	return a.item
}

// Is fails the test unless the call returned this value.
func (a Answer) Is(want any) {
	a.t.Helper()
	if got := a.Item(); got != guest.AnyOf(item(a.t, want)) {
		var shown any
		_ = got.Decode(&shown)
		a.t.Fatalf("returned %v (%v), not %v", shown, got, want)
	}
}

// Granted is Is for a call that was granted something at the same time, and says whether its former holder was lost.
func (a Answer) Granted(want any) (abandoned bool) {
	a.t.Helper()
	a.Is(want)
	if a.grant == world.NoGrant {
		a.t.Fatal("the call was granted nothing")
	}
	return a.grant == world.AbandonedGrant
}

// Raised is the kind and message of what was raised. Fails the test if nothing was.
func (a Answer) Raised() (kind, message string) {
	a.t.Helper()
	if a.fault == nil {
		a.t.Fatalf("expected a fault, found %v", a.item)
	}
	return a.fault.Kind, a.fault.Message
}

// Raises fails the test unless the call raised this.
func (a Answer) Raises(kind, message string) {
	a.t.Helper()
	if k, m := a.Raised(); k != kind || m != message {
		a.t.Fatalf("raised %s: %s\nnot    %s: %s", k, m, kind, message)
	}
}

// Parked is the number of the call. Fails the test if it does not wait.
func (a Answer) Parked() uint64 {
	a.t.Helper()
	if !a.waits {
		a.t.Fatalf("the call does not wait: it gave %v, %v", a.item, a.fault)
	}
	return a.call
}

// Value is the value that an answer returned, as a V. Fails the test if there is none.
func Value[V any](a Answer) V {
	a.t.Helper()
	var value V
	if err := a.Item().Decode(&value); err != nil {
		a.t.Fatalf("%v: %v", a.item, err)
	}
	return value
}

func item(t testing.TB, value any) []byte {
	t.Helper()
	encoded, err := guest.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	return encoded.Bytes()
}

func faultOf(fault *world.Fault) *guest.Fault {
	out := &guest.Fault{Kind: fault.Kind, Message: fault.Message}
	if fault.Data != nil {
		out.Data, out.HasData = guest.AnyOf(fault.Data), true
	}
	return out
}
