//go:build wasip1

package guest

import (
	"runtime"
	"runtime/debug"
)

// Go's collector first runs when the heap has 4 MiB, and then whenever it has doubled. Every object that lives long enough would touch
// as much. Here it runs when half a MiB was allocated since, and only large heaps double: else they would be gone through for little.

const (
	// heapBytesMin is what Go lets a heap have, by 100 percent, before the collector runs.
	heapBytesMin = 4 << 20
	// garbageBytes may be left lying in a small heap.
	garbageBytes = 512 << 10
	// looksEverySteps is how often the heap's size is looked at, which stops the world for some microseconds.
	looksEverySteps = 1024
)

var percent = percentFor(0)

func init() { debug.SetGCPercent(percent) }

// percentFor is the percentage by which a heap of so many bytes, and of garbageBytes more, is collected.
func percentFor(live uint64) int {
	return int(min(100, 100*(live+garbageBytes)/heapBytesMin))
}

// afterStep sets how much a heap may grow that has grown. By counting: a finalizer, which would know when to look, never runs, as no
// other goroutine does while the host's calls wait for none.
func afterStep() {
	if lent.steps++; lent.steps%looksEverySteps == 0 {
		look()
	}
}

// look is apart, as it is not what a step comes by.
//
//go:noinline
func look() {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	if now := percentFor(stats.HeapAlloc); now != percent {
		percent = now
		debug.SetGCPercent(percent)
	}
}
