//go:build wasip1

package guest

import (
	"runtime"
	"runtime/debug"
	"unsafe"

	"steward.dev/guest/internal/world"
)

// prepare is called once, at build time, after the inits. What it leaves is what every instance begins with: all types settled,
// nothing that the collector would have to find, room in the heap, and pages of common sizes in use. Each page that an object
// needs not write to is shared by all.
//
//go:wasmexport steward_prepare
func prepare() {
	world.Plugin.Describe()
	room = make([]byte, roomBytes)
	room = nil
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	percent = percentFor(stats.HeapInuse)
	debug.SetGCPercent(percent)
	rehearse()
	reset()
}

// roomBytes is what the heap has before it asks for more memory, which takes long.
const roomBytes = 1 << 20

var room []byte

// rehearsed is a type that no plugin offers.
type rehearsed struct {
	Total int64
	Items map[string]Any
}

func newRehearsed(total int64) *rehearsed { return &rehearsed{total, map[string]Any{}} }

func (r *rehearsed) Add(n int64) int64 {
	r.Total += n
	return r.Total
}

func (r *rehearsed) Keep(name string, item Any) { r.Items[name] = item }

// rehearse does with an object of no plugin what the host will do with others.
func rehearse() {
	kindsBefore, textsBefore := kinds, texts
	Source([]Text{{Type: "rehearsed", Params: []string{"total"}, Methods: []MethodText{
		{Name: "Add", Params: []string{"n"}, Function: (*rehearsed).Add},
		{Name: "Keep", Params: []string{"name", "item"}, Function: (*rehearsed).Keep},
	}}})
	Register[rehearsed]("0.0.0", newRehearsed, "total=0")
	k := kinds[len(kinds)-1]
	k.resolve()
	kinds, texts = kindsBefore, textsBefore
	for range 3 {
		turn(0, 0)
		// `[[1], {}]`, `[["a", 1], {}]`
		s, fault := create(k, borrow(arrive("\x82\x81\x01\xa0")), world.Context{Tenant: takeText(arrive("default"))})
		if fault != nil {
			panic("guest: " + fault.Message)
		}
		for method, args := range []string{"\x82\x81\x01\xa0", "\x82\x82\x61a\x01\xa0"} {
			turn(0, 0)
			item, changed, more := s.StepCall(0, 0, 0, uint32(method), world.Owner{}, borrow(arrive(args)))
			if more != nil {
				putOutcome(more)
			} else {
				putAnswer(0, item, changed)
			}
		}
		if _, fault := s.Save(); fault != nil {
			panic("guest: " + fault.Message)
		}
	}
	lent.isNew, lent.taken = 0, 0
}

// arrive puts a text where the host would.
func arrive(text string) (at, length uint32) {
	at = lent.taken
	lent.taken += (uint32(copy(lent.room[at:], text)) + 7) &^ 7
	return address(unsafe.Pointer(&lent.room[at])), uint32(len(text))
}
