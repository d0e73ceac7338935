package guest

import (
	"errors"
	"fmt"

	"steward.dev/guest/internal/world"
)

// Fault is an error with a name for programs. Methods return it as an error: see [Raise].
type Fault struct {
	// Kind is its name for programs, an exception's where Python has one: ValueError, Empty.
	Kind string
	// Message is for people.
	Message string
	// Data belongs to the kind, if HasData: the key of a KeyError.
	Data    Any
	HasData bool
}

func (f *Fault) Error() string {
	if f.Message == "" {
		return f.Kind
	}
	return f.Kind + ": " + f.Message
}

// WithData is the same fault with what belongs to its kind.
func (f *Fault) WithData(data Any) *Fault {
	with := *f
	with.Data, with.HasData = data, true
	return &with
}

// Raise is an error to return: `return guest.Raise("KeyError", "no job %d", id)`.
//
// An error type of the plugin's own becomes a fault of the kind that its method Kind() string gives, with Error() as its
// message; any other error one of the kind RuntimeError.
func Raise(kind, format string, args ...any) *Fault {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	return &Fault{Kind: kind, Message: message}
}

// Require raises ValueError unless a condition holds. For arguments: what has changed by then stays changed.
func Require(holds bool, format string, args ...any) {
	if !holds {
		panic(required{Raise("ValueError", format, args...)})
	}
}

// required carries a fault out of a method.
type required struct{ fault *Fault }

func (r required) Error() string { return r.fault.Error() }

// stop is why a method gives no answer yet.
type stop struct {
	byHand   bool
	hasUntil bool
	untilMs  uint64
}

func (s *stop) Error() string { return "the call waits" }

// Pending parks the call, which has changed nothing, until a later step lets it through: `return guest.Pending`. The method
// is called again, in its turn, after each later step that may have changed the object.
var Pending error = &stop{}

// ByHand leaves the call to be completed by the object, which has noted [Context.CallID] in a field that is not
// exported, and so not saved: after a move to another version the method is called again. See [Context.Complete].
var ByHand error = &stop{byHand: true}

// PendingUntil parks the call like [Pending], and has it tried again at a time of [Context.NowMs], too.
func PendingUntil(ms int64) error { return &stop{hasUntil: true, untilMs: uint64(max(ms, 0))} }

// faultOf is what an error becomes on the wire.
func faultOf(err error) *world.Fault {
	var fault *Fault
	if errors.As(err, &fault) {
		out := &world.Fault{Kind: fault.Kind, Message: fault.Message}
		if fault.HasData {
			out.Data = fault.Data.Bytes()
		}
		return out
	}
	var kind interface {
		error
		Kind() string
	}
	if errors.As(err, &kind) {
		return &world.Fault{Kind: kind.Kind(), Message: kind.Error()}
	}
	return &world.Fault{Kind: "RuntimeError", Message: err.Error()}
}
