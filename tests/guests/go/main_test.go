// What the conformance cases do not reach: moves to a new version, lost results. The rest is tested there, against the
// built-in types.
package main

import (
	"math"
	"testing"

	"steward.dev/guest"
	"steward.dev/guest/guesttest"
)

var other = guest.Owner{Session: 2, Thread: 1}

func TestLockGoesInTurnAndFreesItselfOfTheDead(t *testing.T) {
	lock := guesttest.New[Lock](t)
	lock.CallAs(other, "acquire", guest.Args()).Granted(true)
	waits, givesUp := lock.Call("acquire").Parked(), lock.Call("acquire").Parked()
	lock.Cancel(givesUp, guest.Deadline)
	lock.Answer(givesUp).Is(false)
	lock.Reload()
	lock.OwnerLost(2, true)
	if !lock.Answer(waits).Waits() {
		t.Fatal("a goodbye leaves the lock taken")
	}
	lock.Call("release").Is(nil)
	if lock.Answer(waits).Granted(true) {
		t.Fatal("nobody was lost")
	}
	lock.OwnerLost(1, false)
	lock.Call("locked").Is(false)
	if !lock.Call("acquire").Granted(true) {
		t.Fatal("the holder was lost")
	}
	lock.Call("release").Is(nil)
	lock.Call("release").Raises("RuntimeError", "release unlocked lock")
	lock.Call("acquire", 1).Raises("TypeError", "Lock.acquire() takes 1 positional argument but 2 were given")
}

func TestLostSessionGivesPermitsBackLessWhatOthersGave(t *testing.T) {
	semaphore := guesttest.New[Semaphore](t, 2)
	semaphore.CallAs(other, "acquire", guest.Args()).Granted(true)
	semaphore.CallAs(other, "acquire", guest.Args()).Granted(true)
	semaphore.Reload()
	semaphore.Call("release").Is(nil)
	semaphore.OwnerLost(2, false)
	semaphore.Call("get_value").Is(2)
	if !semaphore.Call("acquire").Granted(true) || semaphore.Call("acquire").Granted(true) {
		t.Fatal("one permit was lost")
	}
	semaphore.Call("release", 0).Raises("ValueError", "n must be one or more")
}

func TestPermitThatNobodyLearntOfIsFreeAgain(t *testing.T) {
	semaphore := guesttest.New[Semaphore](t)
	semaphore.Call("acquire").Granted(true)
	semaphore.Undelivered(1, "acquire", true, true)
	semaphore.Call("get_value").Is(1)
}

func TestEventLetsAllGo(t *testing.T) {
	event := guesttest.New[Event](t)
	first, second := event.Call("wait").Parked(), event.Call("wait").Parked()
	event.Call("set").Is(nil)
	event.Answer(first).Is(true)
	event.Answer(second).Is(true)
}

func TestQueueServesInTurnOnBothSides(t *testing.T) {
	queue := guesttest.New[Queue](t, 1)
	get := queue.Call("get").Parked()
	queue.Call("put", "a").Is(nil)
	queue.Answer(get).Is("a")
	queue.Call("put", "b").Is(nil)
	put := queue.Call("put", "c").Parked()
	if kind, _ := queue.Call("put_nowait", "d").Raised(); kind != "Full" {
		t.Fatal(kind)
	}
	queue.Reload()
	queue.Call("get_many", 5).Is([]string{"b"})
	queue.Answer(put).Is(nil)
	join := queue.Call("join").Parked()
	queue.Cancel(join, guest.Deadline)
	queue.Answer(join).Raises("TimeoutError", "3 items are not dealt with")
}

func TestLostItemsReturnToTheirPlaces(t *testing.T) {
	queue := guesttest.New[Queue](t)
	queue.Call("put_many", []int{1, 2, 3}).Is(nil)
	first, second := queue.Call("get").Item(), queue.Call("get").Item()
	queue.Undelivered(3, "get", second, true)
	queue.Undelivered(2, "get", first, true)
	queue.Call("get_many", 9).Is([]int{1, 2, 3})
}

func TestShutdownEndsThoseWhoWait(t *testing.T) {
	queue := guesttest.New[Queue](t)
	get := queue.Call("get").Parked()
	queue.Call("shutdown").Is(nil)
	queue.Answer(get).Raises("ShutDown", "")
}

func TestDictHasPythonsKeysInOrderAndKeepsThemOverAMove(t *testing.T) {
	dict, err := guesttest.Try[dict](t, guest.Args([]guest.Tuple{{1, "one"}}).With("x", 2))
	if err != nil {
		t.Fatal(err)
	}
	dict.Call("__setitem__", true, "yes").Is(nil)
	dict.Call("__setitem__", math.NaN(), 0).Is(nil)
	dict.Call("__setitem__", math.NaN(), 0).Is(nil)
	dict.Reload()
	dict.Call("__len__").Is(4)
	dict.Call("__str__").Is("{1: 'yes', 'x': 2, nan: 0, nan: 0}")
	dict.Call("__getitem__", "y").Raises("KeyError", "'y'")
	dict.Call("get", []int{1}).Raises("TypeError", "unhashable type: 'list'")
	dict.Call("pop", "y", 7).Is(7)
	dict.Call("popitem").Is(guest.Tuple{math.NaN(), 0})
	dict.Call("pop", guest.Tuple{1.0, "a"}, nil).Is(nil)
	dict.Call("__setitem__", guest.Tuple{1.0, "it's"}, []byte("\n\xff")).Is(nil)
	dict.Call("__getitem__", guest.Tuple{1, "it's"}).Is([]byte("\n\xff"))
	dict.Call("__repr__").Is(`{1: 'yes', 'x': 2, nan: 0, (1.0, "it's"): b'\n\xff'}`)
}
