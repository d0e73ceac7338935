package main

import (
	"fmt"
	"math"
	"slices"

	"steward.dev/guest"
)

// A counter of permits.
type Semaphore struct {
	// Who holds which permits is known only as far as people release their own. A release by somebody who holds none may
	// stand for any permit that is out, so a lost session gives back what it held less what others may already have given back.

	// Permits are free.
	Permits int64
	// Held are the calls that got the permits that are out, by session; no list is empty.
	Held map[uint64][]uint64
	// OutTotal is how many they are, and those of sessions that have said goodbye.
	OutTotal int64
	// Foreign are releases that may stand for any of OutTotal.
	Foreign int64
	// Abandoned are permits whose holder was lost while holding them, and whose next holders are to know.
	Abandoned int64
}

// A semaphore with `value` permits.
func NewSemaphore(value int64) (*Semaphore, error) {
	if value < 0 {
		return nil, guest.Raise("ValueError", "semaphore initial value must be >= 0")
	}
	return &Semaphore{Permits: value, Held: map[uint64][]uint64{}}, nil
}

// Takes a permit, parking until there is one; returns True, or False at the deadline.
func (s *Semaphore) Acquire(c *guest.Context) (bool, error) {
	if s.Permits == 0 {
		return false, guest.Pending
	}
	s.Permits--
	s.OutTotal++
	session := c.Owner().Session
	s.Held[session] = append(s.Held[session], c.CallID())
	if s.Abandoned > 0 {
		s.Abandoned--
		c.GrantAbandoned()
	} else {
		c.Grant()
	}
	return true, nil
}

// Gives back `n` permits. Anybody may.
func (s *Semaphore) Release(c *guest.Context, n int64) error {
	if n < 1 {
		return guest.Raise("ValueError", "n must be one or more")
	}
	if s.Permits > math.MaxInt64-n {
		return guest.Raise("OverflowError", "semaphore value is limited to 63 bits")
	}
	own := s.takeFrom(c.Owner().Session, n)
	s.Permits += n
	s.Foreign = min(s.Foreign+n-own, s.OutTotal)
	if s.Foreign == s.OutTotal {
		clear(s.Held)
		s.OutTotal, s.Foreign = 0, 0
	}
	return nil
}

// How many permits are free.
func (s *Semaphore) GetValue() int64 { return s.Permits }

// Whether no permit is free.
func (s *Semaphore) Locked() bool { return s.Permits == 0 }

// A semaphore has no value to copy.
func (s *Semaphore) Value() error { return errNotPicklable }

// `str(semaphore)`.
func (s *Semaphore) Str() string { return fmt.Sprintf("<Semaphore: value=%d>", s.Permits) }

// `repr(semaphore)`.
func (s *Semaphore) Repr() string { return s.Str() }

func (s *Semaphore) OwnerLost(_ *guest.Context, lost guest.OwnerLost) bool {
	if lost.Orderly {
		// They stay out, and nobody's end frees them any more.
		_, held := s.Held[lost.Session]
		delete(s.Held, lost.Session)
		return held
	}
	held := s.takeFrom(lost.Session, math.MaxInt64)
	givenBack := min(held, s.Foreign)
	s.Foreign -= givenBack
	s.Permits += held - givenBack
	s.Abandoned += held - givenBack
	return held > 0
}

func (s *Semaphore) Undelivered(c *guest.Context, lost guest.Undelivered) bool {
	for session, calls := range s.Held {
		if slices.Contains(calls, c.CallID()) {
			s.Permits += s.takeFrom(session, 1)
			if lost.Sent {
				s.Abandoned++
			}
			return true
		}
	}
	return false
}

// takeFrom takes up to n permits out of what a session holds, and says how many.
func (s *Semaphore) takeFrom(session uint64, n int64) int64 {
	calls := s.Held[session]
	taken := min(int64(len(calls)), n)
	if taken == int64(len(calls)) {
		delete(s.Held, session)
	} else {
		s.Held[session] = calls[:int64(len(calls))-taken]
	}
	s.OutTotal -= taken
	return taken
}
