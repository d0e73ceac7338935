package main

import "steward.dev/guest"

// A flag to wait for.
type Event struct{ Flag bool }

// A flag that is not set.
func NewEvent() *Event { return &Event{} }

// Whether the flag is set.
func (e *Event) IsSet() bool { return e.Flag }

// Sets the flag and lets all go that wait for it.
func (e *Event) Set() { e.Flag = true }

// Clears the flag: whoever waits from now on parks.
func (e *Event) Clear() { e.Flag = false }

// Parks until the flag is set; returns True, or False if the deadline came first.
func (e *Event) Wait() (bool, error) {
	if !e.Flag {
		return false, guest.Pending
	}
	return true, nil
}

// An event has no value to copy.
func (e *Event) Value() error { return errNotPicklable }

// `str(event)`.
func (e *Event) Str() string {
	if e.Flag {
		return "<Event: set>"
	}
	return "<Event: unset>"
}

// `repr(event)`.
func (e *Event) Repr() string { return e.Str() }
