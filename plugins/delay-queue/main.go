// A queue whose items may be got when their time has come: retries with back-off, reminders, timeouts.
package main

import (
	"container/heap"
	"math"
	"slices"

	"steward.dev/guest"
)

// DelayQueue hands out items when they are due, the earliest first.
//
// An item whose getter's session ends without acknowledging it is handed out again, before all others. Times are those of the host's
// clock, which `now_ms` tells.
type DelayQueue struct {
	// Maxsize 0: no limit.
	Maxsize int64
	// NextID is never given twice.
	NextID uint64
	// Later are the items by time: a heap, whose first is due first.
	Later entries
	// Returned were handed out and came back; they are due, in this order.
	Returned []Entry
}

// Entry is an item and its time. Items of the same time go by their numbers, as they were put.
type Entry struct {
	ID    uint64
	DueMs int64
	Item  guest.Any
}

// NewDelayQueue makes an empty queue; it has no limit if maxsize is 0.
func NewDelayQueue(maxsize int64) *DelayQueue {
	guest.Require(maxsize >= 0, "maxsize is %d, must be 0 or more", maxsize)
	return &DelayQueue{Maxsize: maxsize, NextID: 1}
}

// Put adds an item that is due in `delay` seconds, or at `at_ms` if that is given. Returns its number. Raises Full if there are
// `maxsize` items.
func (q *DelayQueue) Put(c *guest.Context, item guest.Any, delay float64, atMs *int64) (uint64, error) {
	guest.Require(delay >= 0 && delay < 1e12, "delay is %g, must be from 0 to 1e12 seconds", delay)
	if q.Maxsize > 0 && int64(q.Len()) >= q.Maxsize {
		return 0, guest.Raise("Full", "")
	}
	due := c.NowMs() + int64(math.Ceil(delay*1e3))
	if atMs != nil {
		guest.Require(delay == 0, "delay and at_ms are given, must be one of them")
		due = *atMs
	}
	id := q.NextID
	q.NextID++
	heap.Push(&q.Later, Entry{id, due, item})
	return id, nil
}

// Get removes the next item that is due and returns its number and the item, parking in turn until there is one. Raises Empty
// at the deadline.
func (q *DelayQueue) Get(c *guest.Context) (guest.Tuple, error) {
	var next Entry
	switch {
	case len(q.Returned) > 0:
		next = q.Returned[0]
		q.Returned = slices.Delete(q.Returned, 0, 1)
	case len(q.Later) == 0:
		return nil, guest.Pending
	case q.Later[0].DueMs > c.NowMs():
		return nil, guest.PendingUntil(q.Later[0].DueMs)
	default:
		next = heap.Pop(&q.Later).(Entry)
	}
	return guest.Tuple{next.ID, next.Item}, nil
}

// Cancel removes an item by its number. Returns whether it was still there.
func (q *DelayQueue) Cancel(id uint64) bool {
	isIt := func(entry Entry) bool { return entry.ID == id }
	if at := slices.IndexFunc(q.Returned, isIt); at >= 0 {
		q.Returned = slices.Delete(q.Returned, at, at+1)
		return true
	}
	at := slices.IndexFunc(q.Later, isIt)
	if at >= 0 {
		heap.Remove(&q.Later, at)
	}
	return at >= 0
}

// Peek returns number, time in milliseconds and item of what is handed out next, due or not, or None.
func (q *DelayQueue) Peek() any {
	switch {
	case len(q.Returned) > 0:
		return q.Returned[0].tuple()
	case len(q.Later) > 0:
		return q.Later[0].tuple()
	}
	return nil
}

// Len returns the number of items, due or not.
func (q *DelayQueue) Len() int { return len(q.Returned) + len(q.Later) }

// NowMs returns the host's clock in milliseconds.
func (q *DelayQueue) NowMs(c *guest.Context) int64 { return c.NowMs() }

// Undelivered takes an item back that nobody got. Those lost last come first.
func (q *DelayQueue) Undelivered(_ *guest.Context, lost guest.Undelivered) bool {
	var result [2]guest.Any
	var id uint64
	if lost.Method != "get" || lost.Result(&result) != nil || result[0].Decode(&id) != nil {
		return false
	}
	q.Returned = slices.Insert(q.Returned, 0, Entry{ID: id, Item: result[1]})
	return true
}

func (e Entry) tuple() guest.Tuple { return guest.Tuple{e.ID, e.DueMs, e.Item} }

// entries are a heap.
type entries []Entry

func (e entries) Len() int      { return len(e) }
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *entries) Push(x any)   { *e = append(*e, x.(Entry)) }

func (e entries) Less(i, j int) bool {
	return e[i].DueMs < e[j].DueMs || e[i].DueMs == e[j].DueMs && e[i].ID < e[j].ID
}

func (e *entries) Pop() any {
	last := len(*e) - 1
	popped := (*e)[last]
	// What is cut off must not keep the item's proxies.
	(*e)[last] = Entry{}
	*e = (*e)[:last]
	return popped
}

func init() {
	guest.Register[DelayQueue]("1.0.0", NewDelayQueue, "maxsize=0",
		guest.Method("Put(item, delay=0.0, *, at_ms=None) -> int"),
		guest.Fifo("Get", guest.AtDeadline(guest.Raise("Empty", ""))),
		guest.Read("Peek"),
		guest.Read("Len"),
		guest.Read("NowMs"),
	)
}

func main() {}
