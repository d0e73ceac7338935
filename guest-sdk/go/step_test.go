package guest

import (
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
