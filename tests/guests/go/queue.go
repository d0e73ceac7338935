package main

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"steward.dev/guest"
)

// batchBytesMax are the bytes of items that one get_many hands out, unless the first item alone is larger.
const batchBytesMax = 1 << 20

// Whether a queue takes and gives.
const (
	open = iota
	// What is there may still be got.
	draining
	// What was there is gone.
	dropped
)

// A queue: first in, first out.
type Queue struct {
	// Maxsize 0: no limit.
	Maxsize int
	Held    []guest.Any
	// Unfinished items were put and not yet dealt with.
	Unfinished int
	Shut       int
}

// An empty queue; it has no limit if `maxsize` is not above 0.
func NewQueue(maxsize int64) *Queue {
	return &Queue{Maxsize: int(min(max(maxsize, 0), math.MaxInt))}
}

// Adds an item, parking while the queue is full. Raises Full at the deadline, ShutDown if the queue is shut down.
func (q *Queue) Put(item guest.Any) error { return q.PutMany([]guest.Any{item}) }

// Removes and returns an item, parking while the queue is empty.
func (q *Queue) Get() (guest.Any, error) {
	switch {
	case len(q.Held) > 0:
		item := q.Held[0]
		q.Held[0] = guest.Any{}
		q.Held = q.Held[1:]
		return item, nil
	case q.Shut == open:
		return guest.Any{}, guest.Pending
	}
	return guest.Any{}, guest.Raise("ShutDown", "")
}

// Adds an item. Raises Full if there is no room.
func (q *Queue) PutNowait(item guest.Any) error {
	err := q.Put(item)
	if errors.Is(err, guest.Pending) {
		return guest.Raise("Full", "")
	}
	return err
}

// Removes and returns an item. Raises Empty if there is none.
func (q *Queue) GetNowait() (guest.Any, error) {
	item, err := q.Get()
	if errors.Is(err, guest.Pending) {
		return item, guest.Raise("Empty", "")
	}
	return item, err
}

// Adds all items of a list at once, parking until there is room for all.
func (q *Queue) PutMany(items []guest.Any) error {
	switch {
	case q.Shut != open:
		return guest.Raise("ShutDown", "")
	case q.Maxsize > 0 && len(items) > q.Maxsize:
		return guest.Raise("ValueError", "%d items never fit, maxsize is %d", len(items), q.Maxsize)
	case q.Maxsize > 0 && len(q.Held)+len(items) > q.Maxsize:
		return guest.Pending
	}
	q.Held = append(q.Held, items...)
	q.Unfinished += len(items)
	return nil
}

// Removes and returns a list of up to `n` items, parking while the queue is empty.
func (q *Queue) GetMany(n int64) ([]guest.Any, error) {
	if n < 1 {
		return nil, guest.Raise("ValueError", "n must be one or more")
	}
	first, err := q.Get()
	if err != nil {
		return nil, err
	}
	batch, bytes := []guest.Any{first}, first.Len()
	for int64(len(batch)) < n && len(q.Held) > 0 {
		if bytes += q.Held[0].Len(); bytes > batchBytesMax {
			break
		}
		next, _ := q.Get()
		batch = append(batch, next)
	}
	return batch, nil
}

// How many items there are.
func (q *Queue) Qsize() int { return len(q.Held) }

// Whether there are no items.
func (q *Queue) Empty() bool { return len(q.Held) == 0 }

// Whether there are as many items as `maxsize` allows.
func (q *Queue) Full() bool { return q.Maxsize > 0 && len(q.Held) >= q.Maxsize }

// Says that an item that was got is dealt with.
func (q *Queue) TaskDone() error {
	if q.Unfinished == 0 {
		return guest.Raise("ValueError", "task_done() called too many times")
	}
	q.Unfinished--
	return nil
}

// Parks until every item that was put is dealt with. Raises TimeoutError at the deadline.
func (q *Queue) Join() error {
	if q.Unfinished > 0 {
		return guest.Pending
	}
	return nil
}

// Ends the queue; if `immediate`, all items are dropped and count as dealt with.
func (q *Queue) Shutdown(immediate bool) {
	switch {
	case immediate:
		q.Shut = dropped
		q.Unfinished = max(q.Unfinished-len(q.Held), 0)
		q.Held = nil
	case q.Shut == open:
		q.Shut = draining
	}
}

// Whether the queue is shut down.
func (q *Queue) IsShutdown() bool { return q.Shut != open }

// Does nothing; `multiprocessing.Queue` has it.
func (q *Queue) Close() {}

// Does nothing; `multiprocessing.Queue` has it.
func (q *Queue) JoinThread() {}

// Does nothing; `multiprocessing.Queue` has it.
func (q *Queue) CancelJoinThread() {}

// A queue has no value to copy.
func (q *Queue) Value() error { return errNotPicklable }

// `str(queue)`.
func (q *Queue) Str() string {
	switch {
	case q.Maxsize > 0:
		return fmt.Sprintf("<Queue: %d of %d items>", len(q.Held), q.Maxsize)
	case len(q.Held) == 1:
		return "<Queue: 1 item>"
	}
	return fmt.Sprintf("<Queue: %d items>", len(q.Held))
}

// `repr(queue)`.
func (q *Queue) Repr() string { return q.Str() }

// Undelivered items go back to their place; those lost last come first.
func (q *Queue) Undelivered(_ *guest.Context, lost guest.Undelivered) bool {
	var items []guest.Any
	var err error
	switch lost.Method {
	case "get", "get_nowait":
		items = make([]guest.Any, 1)
		err = lost.Result(&items[0])
	case "get_many":
		err = lost.Result(&items)
	default:
		return false
	}
	if err != nil {
		return false
	}
	if q.Shut == dropped {
		q.Unfinished = max(q.Unfinished-len(items), 0)
	} else {
		q.Held = slices.Insert(q.Held, 0, items...)
	}
	return true
}
