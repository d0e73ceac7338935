package main

import "steward.dev/guest"

// A lock without owner: whoever has a proxy may release it.
type Lock struct {
	Holder *Holder
	// The last holder was lost while holding it, and the next one is to know.
	Abandoned bool
}

// Holder is who holds the lock, and by which call.
type Holder struct {
	// Session is nil once it has said goodbye: then nobody's end frees the lock.
	Session *uint64
	Call    uint64
	// Its grant said so.
	Abandoned bool
}

// A free lock.
func NewLock() *Lock { return &Lock{} }

// Takes the lock, parking until it is free; returns True, or False at the deadline.
func (l *Lock) Acquire(c *guest.Context) (bool, error) {
	if l.Holder != nil {
		return false, guest.Pending
	}
	session := c.Owner().Session
	l.Holder = &Holder{&session, c.CallID(), l.Abandoned}
	if l.Abandoned {
		c.GrantAbandoned()
	} else {
		c.Grant()
	}
	l.Abandoned = false
	return true, nil
}

// Frees the lock. Raises RuntimeError if nobody holds it.
func (l *Lock) Release(c *guest.Context) error {
	if l.Holder == nil {
		return guest.Raise("RuntimeError", "release unlocked lock")
	}
	l.Holder = nil
	c.Freed()
	return nil
}

// Whether somebody holds the lock.
func (l *Lock) Locked() bool { return l.Holder != nil }

// A lock has no value to copy.
func (l *Lock) Value() error { return errNotPicklable }

func (l *Lock) OwnerLost(c *guest.Context, lost guest.OwnerLost) bool {
	if l.Holder == nil || l.Holder.Session == nil || *l.Holder.Session != lost.Session {
		return false
	}
	if lost.Orderly {
		l.Holder.Session = nil
	} else {
		l.Holder, l.Abandoned = nil, true
		c.Freed()
	}
	return true
}

func (l *Lock) Undelivered(c *guest.Context, lost guest.Undelivered) bool {
	if l.Holder == nil || l.Holder.Call != c.CallID() {
		return false
	}
	l.Abandoned = l.Abandoned || l.Holder.Abandoned || lost.Sent
	l.Holder = nil
	c.Freed()
	return true
}
