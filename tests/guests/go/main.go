// Lock, Semaphore, Event, Queue and dict once more, as a plugin in Go: GuestLock, GuestSemaphore, GuestEvent, GuestQueue,
// GuestDict. They are those of ../conformance in every word that clients see.
package main

import "steward.dev/guest"

func init() {
	guest.Register[Lock]("1.0.0", NewLock, "", guest.Name("GuestLock"),
		guest.Fifo("Acquire", guest.AtDeadline(false)),
		guest.Read("Locked"),
		guest.Read("Value", guest.Named("#GETVALUE")),
	)
	guest.Register[Semaphore]("1.0.0", NewSemaphore, "value=1", guest.Name("GuestSemaphore"),
		guest.Fifo("Acquire", guest.AtDeadline(false)),
		guest.Method("Release(n=1)"),
		guest.Read("GetValue"),
		guest.Read("Locked"),
		guest.Read("Value", guest.Named("#GETVALUE")),
		guest.Read("Str", guest.Named("__str__")),
		guest.Read("Repr", guest.Named("__repr__")),
	)
	guest.Register[Event]("1.0.0", NewEvent, "", guest.Name("GuestEvent"),
		guest.Read("IsSet"),
		guest.All("Wait", guest.ReadOnly, guest.AtDeadline(false)),
		guest.Read("Value", guest.Named("#GETVALUE")),
		guest.Read("Str", guest.Named("__str__")),
		guest.Read("Repr", guest.Named("__repr__")),
	)
	full, empty := guest.AtDeadline(guest.Raise("Full", "")), guest.AtDeadline(guest.Raise("Empty", ""))
	guest.Register[Queue]("1.0.0", NewQueue, "maxsize=0", guest.Name("GuestQueue"),
		guest.Fifo("Put", guest.Line("put"), full),
		guest.Fifo("Get", guest.Line("get"), empty),
		guest.Fifo("PutMany", guest.Line("put"), full),
		guest.Fifo("GetMany", guest.Line("get"), empty),
		guest.Read("Qsize"),
		guest.Read("Empty"),
		guest.Read("Full"),
		guest.All("Join", guest.ReadOnly, guest.AtDeadline(func(q *Queue) error {
			return guest.Raise("TimeoutError", "%d items are not dealt with", q.Unfinished)
		})),
		guest.Method("Shutdown(immediate=False)"),
		guest.Read("IsShutdown"),
		guest.Read("Close"),
		guest.Read("JoinThread"),
		guest.Read("CancelJoinThread"),
		guest.Read("Value", guest.Named("#GETVALUE")),
		guest.Read("Str", guest.Named("__str__")),
		guest.Read("Repr", guest.Named("__repr__")),
	)
	guest.Register[dict]("1.0.0", NewDict, "*other, **kwargs", guest.Name("GuestDict"),
		guest.Read("Contains", guest.Named("__contains__")),
		guest.Method("Delitem", guest.Named("__delitem__")),
		guest.Read("Getitem", guest.Named("__getitem__")),
		guest.Read("Len", guest.Named("__len__")),
		guest.Method("Setitem", guest.Named("__setitem__")),
		guest.Read("Copy"),
		guest.Read("Get(key, default=None)"),
		guest.Read("Items"),
		guest.Read("Keys"),
		guest.Method("Setdefault(key, default=None)"),
		guest.Method("Update(*other, **kwargs)"),
		guest.Method("Pop(key, *default)"),
		guest.Read("Values"),
		guest.Read("Value", guest.Named("#GETVALUE")),
		guest.Read("Str", guest.Named("__str__")),
		guest.Read("Repr", guest.Named("__repr__")),
	)
}

// errNotPicklable is what CPython says when a value that wraps a thread's lock is to be copied.
var errNotPicklable = guest.Raise("TypeError", "cannot pickle '_thread.lock' object")

func main() {}
