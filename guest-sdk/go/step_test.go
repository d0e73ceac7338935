package guest

import (
	"slices"
	"testing"

	"steward.dev/guest/internal/world"
)

type counter struct{ N int64 }

func newCounter() *counter                          { return &counter{} }
func (c *counter) Add(_ *Context, n int64) int64    { c.N += n; return c.N }
func (c *counter) AddTwo(n, m int64) (int64, error) { c.N += n + m; return c.N, nil }
func (c *counter) Get() int64                       { return c.N }

func init() {
	Register[counter]("1.0.0", newCounter, "", Read("Get"), Method("Add(n=1)"), Method("AddTwo(n, m)"))
}

// says has more to say than its answers.
type says struct{ held Handle }

func newSays() *says                 { return &says{} }
func (s *says) Nothing() int64       { return 7 }
func (s *says) Grant(c *Context)     { c.Grant() }
func (s *says) Free(c *Context)      { c.Freed() }
func (s *says) Wake(c *Context)      { c.WakeAt(5) }
func (s *says) Invoke(c *Context)    { c.Invoke(3, s.held, "get", Args()) }
func (s *says) Hold(handle Handle)   { s.held = handle }
func (s *says) Let()                 { s.held = Handle{} }
func (s *says) Fail() (int64, error) { return 0, Raise("ValueError", "no") }

func init() { Register[says]("1.0.0", newSays, "") }

// The way of a call that is answered and done with is a short one. What else a step says is not lost on it, nor said once more.
func TestNothingThatAStepSaysIsLost(t *testing.T) {
	object, fault := world.Plugin.Create("says", Args().Encode(), world.Context{})
	if fault != nil {
		t.Fatal(fault)
	}
	s := object.(*shell)
	call := func(name string, args Arguments) (outcome world.Outcome, isShort bool) {
		number := slices.IndexFunc(s.kind.methods, func(m *method) bool { return m.name == name })
		item, changed, more := s.StepCall(1, 1, 9, uint32(number), world.Owner{}, args.Encode())
		if more == nil {
			return world.Outcome{Completions: []world.Completion{{Call: 9, Item: item}}, Changed: changed}, true
		}
		if len(more.Completions) != 1 || more.Completions[0].Call != 9 {
			t.Fatalf("%s is answered by %v", name, more.Completions)
		}
		return *more, false
	}
	null, seven := "\xf6", "\x07"
	token := Handle{typeid: "counter", ident: 4}
	for _, step := range []struct {
		method string
		args   Arguments
		item   string
		says   func(world.Outcome) bool
	}{
		{"grant", Args(), null, func(o world.Outcome) bool { return o.Completions[0].Grant == world.CleanGrant }},
		{"free", Args(), null, func(o world.Outcome) bool { return o.Freed }},
		{"fail", Args(), "", func(o world.Outcome) bool { return o.Completions[0].Fault.Kind == "ValueError" }},
		{"hold", Args(token), null, func(o world.Outcome) bool { return len(o.Held) == 1 && o.Held[0] == 4 }},
		{"invoke", Args(), null, func(o world.Outcome) bool { return len(o.Invocations) == 1 && o.Invocations[0].Ident == 4 }},
		{"let", Args(), null, func(o world.Outcome) bool { return len(o.LetGo) == 1 && o.LetGo[0] == 4 }},
		{"wake", Args(), null, func(o world.Outcome) bool { return o.HasWake && o.WakeAtMs == 5 }},
	} {
		outcome, _ := call(step.method, step.args)
		if !step.says(outcome) || string(outcome.Completions[0].Item) != step.item || !outcome.Changed {
			t.Errorf("%s says %+v", step.method, outcome)
		}
		plain, isShort := call("nothing", Args())
		if isShort == (s.hasAlarm || len(s.told) > 0) {
			t.Errorf("after %s: the short way is %v", step.method, isShort)
		}
		if c := plain.Completions[0]; string(c.Item) != seven || c.Fault != nil || c.Grant != world.NoGrant {
			t.Errorf("after %s: the answer is %+v", step.method, c)
		}
		if plain.Freed || !plain.Changed || plain.HasWake || plain.Held != nil || plain.LetGo != nil || len(plain.Invocations) != 0 {
			t.Errorf("after %s: %+v", step.method, plain)
		}
	}
}

// Arguments that are plain are taken from where they lie, and others told apart.
func TestArgumentsOfAllShapesAreBound(t *testing.T) {
	object, fault := world.Plugin.Create("counter", Args().Encode(), world.Context{})
	if fault != nil {
		t.Fatal(fault)
	}
	s := object.(*shell)
	for _, call := range []struct {
		method, args string
		item, raises string
	}{
		{"add", "\x82\x81\x05\xa0", "\x05", ""},
		{"add", "\x82\x80\xa0", "\x06", ""},
		{"add", "\x82\x81\x18\x64\xa0", "\x18\x6a", ""},
		{"add", "\x82\x81\x38\x63\xa0", "\x06", ""},
		{"add", "\x82\x81\x1b\x00\x00\x00\x00\x00\x00\x00\x01\xa0", "\x07", ""},
		{"add", "\x82\x80\xa1\x61n\x03", "\x0a", ""},
		{"add", "\x82\x81\xf5\xa0", "\x0b", ""},
		{"add", "\x82\x81\xf6\xa0", "", "counter.add() argument 'n' must be int, not NoneType"},
		{"add", "\x82\x81\x61\xa0\xa0", "", "counter.add() argument 'n' must be int, not str"},
		{"add", "\x82\x81\xa0\xa0", "", "counter.add() argument 'n' must be int, not dict"},
		{"add", "\x82\x82\x05\x05\xa0", "", "counter.add() takes from 1 to 2 positional arguments but 3 were given"},
		{"add", "\x82\x81\x05\xa1\x61n\x03", "", "counter.add() got multiple values for argument 'n'"},
		{"add_two", "\x82\x82\x01\x02\xa0", "\x0e", ""},
		{"add_two", "\x82\x81\x01\xa0", "", "counter.add_two() missing 1 required positional argument: 'm'"},
		{"add_two", "\x82\x81\x01\xa1\x61m\x01", "\x10", ""},
		{"get", "\x82\x80\xa0", "\x10", ""},
		// The host has checked that arguments are well formed; nothing is read beyond them all the same.
		{"add", "\x82\x81\x19\x01\xa0", "", "counter.add() got malformed arguments"},
		{"add", "\x82\xa0", "", "counter.add() got malformed arguments"},
		{"add", "\x82\x81\xa0", "", "counter.add() got malformed arguments"},
		{"add", "", "", "counter.add() got malformed arguments"},
	} {
		input := world.Input{Kind: world.Call, Item: []byte(call.args)}
		for at, m := range s.kind.methods {
			if m.name == call.method {
				input.Method = uint32(at)
			}
		}
		answer := s.Step(1, 1, &input).Completions[0]
		raised := ""
		if answer.Fault != nil {
			raised = answer.Fault.Message
		}
		if string(answer.Item) != call.item || raised != call.raises {
			t.Errorf("%s of %x: %x, `%s`", call.method, call.args, answer.Item, raised)
		}
	}
}

func stepped(t testing.TB, method string, args Arguments) func() *world.Outcome {
	object, fault := world.Plugin.Create("counter", Args().Encode(), world.Context{})
	if fault != nil {
		t.Fatal(fault)
	}
	input := world.Input{Kind: world.Call, Item: args.Encode()}
	for at, m := range object.(*shell).kind.methods {
		if m.name == method {
			input.Method = uint32(at)
		}
	}
	return func() *world.Outcome {
		input.Call++
		return object.Step(1, 1, &input)
	}
}

// Otherwise the collector would be busy with calls and not with what objects hold.
func TestPlainCallsTakeNoMemory(t *testing.T) {
	for method, args := range map[string]Arguments{"get": Args(), "add": Args(5)} {
		step := stepped(t, method, args)
		step()
		if allocated := testing.AllocsPerRun(100, func() { step() }); allocated != 0 {
			t.Errorf("%s: %v pieces of memory a call", method, allocated)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	for method, args := range map[string]Arguments{"get": Args(), "add": Args(5), "add_two": Args(1, 2)} {
		b.Run(method, func(b *testing.B) {
			step := stepped(b, method, args)
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
