// {{Type}}: so many callers at a time.
package main

import "steward.dev/guest"

// Lets so many callers in at a time; the others wait in turn.
//
// Its exported fields are what is saved when the object moves to a new version.
type {{Type}} struct {
	Places uint32
	Taken  uint32
}

// Makes one that nobody is in.
func New(places uint32) *{{Type}} {
	guest.Require(places > 0, "places must be at least 1")
	return &{{Type}}{Places: places}
}

// Takes a place, waiting in turn until there is one; False at the deadline.
func (t *{{Type}}) Enter() (bool, error) {
	// A call that waits must have changed nothing: look first, then change.
	if t.Taken == t.Places {
		return false, guest.Pending
	}
	t.Taken++
	return true, nil
}

// Gives a place back.
func (t *{{Type}}) Leave() error {
	guest.Require(t.Taken > 0, "nobody is inside")
	t.Taken--
	return nil
}

// Places free at this moment.
func (t *{{Type}}) Free() uint32 { return t.Places - t.Taken }

func init() {
	guest.Register[{{Type}}]("0.1.0", New, "places=1",
		guest.Fifo("Enter", guest.AtDeadline(false)),
		guest.Read("Free"),
	)
}

func main() {}
