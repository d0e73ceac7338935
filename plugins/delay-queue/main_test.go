package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"steward.dev/guest"
	"steward.dev/guest/guesttest"
)

func TestItemsComeInOrderOfTheirTimesAndNotBefore(t *testing.T) {
	queue := guesttest.New[DelayQueue](t)
	queue.Call("put", "later", 2.0).Is(1)
	queue.Call("put", "sooner", 0.5).Is(2)
	queue.Call("put", "now").Is(3)
	queue.Call("get").Is(guest.Tuple{3, "now"})
	waits := queue.Call("get").Parked()
	behind := queue.Call("get").Parked()
	queue.Advance(499)
	if !queue.Answer(waits).Waits() {
		t.Fatal("it is not due")
	}
	queue.Advance(1)
	queue.Answer(waits).Is(guest.Tuple{2, "sooner"})
	queue.Advance(1500)
	queue.Answer(behind).Is(guest.Tuple{1, "later"})
	queue.Call("len").Is(0)
}

func TestEarlierItemWakesWhoWaitsForALaterOne(t *testing.T) {
	queue := guesttest.New[DelayQueue](t)
	waits := queue.Call("get").Parked()
	queue.Call("put", "late", 10.0).Is(1)
	queue.CallAs(guest.Owner{Session: 2}, "put", guest.Args("early").With("at_ms", 100)).Is(2)
	queue.Advance(100)
	queue.Answer(waits).Is(guest.Tuple{2, "early"})
}

func TestCancelledItemIsNotWaitedFor(t *testing.T) {
	queue := guesttest.New[DelayQueue](t)
	queue.Call("put", "a", 1.0).Is(1)
	queue.Call("put", "b", 2.0).Is(2)
	waits := queue.Call("get").Parked()
	queue.Call("cancel", 1).Is(true)
	queue.Call("cancel", 1).Is(false)
	queue.Call("peek").Is(guest.Tuple{2, 2000, "b"})
	queue.Advance(1500)
	if !queue.Answer(waits).Waits() {
		t.Fatal("what it waited for is gone")
	}
	queue.Advance(500)
	queue.Answer(waits).Is(guest.Tuple{2, "b"})
	queue.Call("peek").Is(nil)
}

func TestDeadlineRaisesEmptyAndFullRefuses(t *testing.T) {
	queue := guesttest.New[DelayQueue](t, 1)
	waits := queue.Call("get").Parked()
	queue.Cancel(waits, guest.Deadline)
	queue.Answer(waits).Raises("Empty", "")
	queue.Call("put", "a", 1.0).Is(1)
	queue.Call("put", "b").Raises("Full", "")
	queue.Call("put", "b", -1.0).Raises("ValueError", "delay is -1, must be from 0 to 1e12 seconds")
}

func TestLostItemsComeAgainInTheirOrderBeforeAllOthers(t *testing.T) {
	queue := guesttest.New[DelayQueue](t)
	for _, item := range []string{"a", "b", "c"} {
		queue.Call("put", item)
	}
	first, second := queue.Call("get").Item(), queue.Call("get").Item()
	queue.Undelivered(5, "get", second, true)
	queue.Undelivered(4, "get", first, true)
	queue.Reload()
	queue.Call("len").Is(3)
	for _, want := range []guest.Tuple{{1, "a"}, {2, "b"}, {3, "c"}} {
		queue.Call("get").Is(want)
	}
}

func TestWaitingCallsAndTimesSurviveAMove(t *testing.T) {
	queue := guesttest.New[DelayQueue](t)
	queue.Call("put", "a", 1.0).Is(1)
	waits := queue.Call("get").Parked()
	queue.Reload()
	queue.Advance(1000)
	queue.Answer(waits).Is(guest.Tuple{1, "a"})
}

// Whatever is put, cancelled and got: each item comes once, not before its time, and none comes before one that was due earlier.
func TestRandomUseAgreesWithASortedList(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		queue := guesttest.New[DelayQueue](t)
		var model []Entry
		for step := range 200 {
			switch random.IntN(4) {
			case 0, 1:
				due := queue.NowMs() + random.Int64N(50)
				id := guesttest.Value[uint64](queue.CallAs(guest.Owner{}, "put", guest.Args(step).With("at_ms", due)))
				model = append(model, Entry{ID: id, DueMs: due})
				slices.SortStableFunc(model, func(a, b Entry) int { return int(a.DueMs - b.DueMs) })
			case 2:
				answer := queue.Call("get")
				if len(model) == 0 || model[0].DueMs > queue.NowMs() {
					queue.Cancel(answer.Parked(), guest.Client)
				} else if got := guesttest.Value[[2]guest.Any](answer); got[0] != mustEncode(t, model[0].ID) {
					t.Fatalf("seed %d: got %v, not %d", seed, got, model[0].ID)
				} else {
					model = model[1:]
				}
			case 3:
				if len(model) > 0 {
					at := random.IntN(len(model))
					queue.Call("cancel", model[at].ID).Is(true)
					model = slices.Delete(model, at, at+1)
				}
			}
			queue.Advance(random.Int64N(10))
			queue.Call("len").Is(len(model))
		}
	}
}

func mustEncode(t *testing.T, value any) guest.Any {
	item, err := guest.Encode(value)
	if err != nil {
		t.Fatal(err)
	}
	return item
}
