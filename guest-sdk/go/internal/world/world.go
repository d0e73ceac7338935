// Package world is wit/0.1.0/plugin.wit as Go data: what the host hands to a plugin and what it gets back.
//
// Two stand on the host's side of it: the glue of a component, and guesttest. Package guest is on the other.
package world

// Fault is an error that a method raises.
type Fault struct {
	Kind, Message string
	// Data belongs to the kind: an item, or nil.
	Data []byte
}

// Owner is who calls.
type Owner struct {
	Session, Thread uint64
}

// Context is what is known when an object is made.
type Context struct {
	NowMs, Seed uint64
	Tenant      string
}

// InputKind tells inputs apart, in the order of the world.
type InputKind uint8

// The kinds of inputs.
const (
	Call InputKind = iota
	Cancel
	OwnerLost
	Undelivered
	Returned
	Tick
)

// Why says why a call that waits is given up.
type Why uint8

// The reasons, in the order of the world.
const (
	Deadline Why = iota
	Client
	SessionEnded
)

// Input is what an object is stepped with. Which fields count depends on the kind.
type Input struct {
	Kind InputKind
	// Call is the number of the call: of Call, Cancel, Undelivered.
	Call uint64
	// Method is the place in the list of methods: of Call, Undelivered.
	Method uint32
	// Owner: of Call.
	Owner Owner
	// Item is arguments of Call, which are valid during the step, or the payload of Undelivered or the result of Returned, which
	// are the object's from now on.
	Item []byte
	// Why: of Cancel.
	Why Why
	// Session: of OwnerLost.
	Session uint64
	// Orderly: of OwnerLost.
	Orderly bool
	// Sent: of Undelivered.
	Sent bool
	// Tag: of Returned.
	Tag uint64
	// Fault, if not nil, is what the call of Returned raised.
	Fault *Fault
}

// Grant says whether a call was granted something that is held.
type Grant uint8

// The grants, in the order of the world.
const (
	NoGrant Grant = iota
	CleanGrant
	AbandonedGrant
)

// Completion is an answer: an item, or a fault.
type Completion struct {
	Call  uint64
	Item  []byte
	Fault *Fault
	Grant Grant
}

// Invocation is a call on another object.
type Invocation struct {
	Tag, Ident uint64
	Method     string
	Args       []byte
}

// Outcome is what a step gives. It is valid until the next step.
type Outcome struct {
	Completions []Completion
	Freed       bool
	Changed     bool
	// WakeAtMs counts if HasWake.
	WakeAtMs    uint64
	HasWake     bool
	Held        []uint64
	LetGo       []uint64
	Invocations []Invocation
}

// ParamKind says how a parameter takes arguments, in the order of the world.
type ParamKind uint8

// The kinds of parameters.
const (
	Normal ParamKind = iota
	KeywordOnly
	Rest
	Keywords
)

// Param is a parameter as clients see it.
type Param struct {
	Name string
	Kind ParamKind
	Type string
	// Default counts if HasDefault.
	Default    string
	HasDefault bool
}

// Method is a method as clients see it.
type Method struct {
	Name     string
	Params   []Param
	Doc      string
	ReadOnly bool
	MayPark  bool
	Result   string
	// Returns is the type that the result becomes an object of, or "".
	Returns string
}

// Type is a type as clients see it.
type Type struct {
	ID, Version, Doc string
	Constructor      []Param
	Methods          []Method
	Saves            bool
}

// Object is one object.
type Object interface {
	Step(nowMs, seed uint64, input *Input) *Outcome
	Save() ([]byte, *Fault)
	// Held are the idents of the tokens that the object stores.
	Held() []uint64
	// Value is the author's object.
	Value() any
	// Waiting are the calls without answer, ascending.
	Waiting() []uint64
	// CheckParking makes each call that parks be checked for having changed nothing, if the type saves.
	CheckParking()
}

// Plugin is what the author has registered. Package guest sets it.
var Plugin interface {
	Describe() []Type
	Create(typeid string, args []byte, context Context) (Object, *Fault)
	Load(typeid string, state []byte, from string, context Context) (Object, *Fault)
	// TypeID is the name of the type whose objects are such values.
	TypeID(pointer any) string
}

// Log writes a line to the host's log; levels are those of the world.
var Log func(level uint8, message string)
