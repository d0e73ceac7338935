package guest

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"steward.dev/guest/internal/names"
	"steward.dev/guest/internal/world"
)

// Option says something of a type: [Fifo], [All], [Read], [Method], [Hide], [Name], [Unsaved].
type Option func(*kind)

// MethodOption says something of a method: [ReadOnly], [Line], [AtDeadline], [Named], [Returns].
type MethodOption func(*method)

// Register makes a type of plugin out of a Go type: its exported methods are the methods of its objects, called by their
// names in snake_case. For init functions.
//
// The version is major.minor.patch. The constructor is a function that gives a *T, or a *T and an error; params are its
// parameters as Python writes them: "rate, burst=1". Methods need no option as long as they change the object, never park
// and have no defaults.
func Register[T any](version string, constructor any, params string, options ...Option) {
	t := reflect.TypeFor[*T]()
	k := &kind{
		pointer: t,
		goName:  t.Elem().Name(),
		id:      t.Elem().Name(),
		version: version,
		saves:   true,
		options: map[string]*method{},
		fast:    fast[*T],
	}
	k.constructor = &method{goName: "New", name: "__init__"}
	if params != "" {
		k.constructor.signature = "(" + params + ")"
	}
	k.constructor.function = reflect.ValueOf(constructor)
	if !isVersion(version) {
		panic("guest: version `" + version + "` of " + k.goName + " is not major.minor.patch")
	}
	for _, option := range options {
		option(k)
	}
	kinds = append(kinds, k)
}

// Fifo declares a method whose calls may park, in a line of which only the first is tried again, newcomers queueing behind
// it: nobody is overtaken, and 10,000 waiting calls cost one try.
//
// The signature is the method's name and, where there is more to say than Go does, its parameters and result as Python writes
// them: "Acquire", "Acquire(n=1)", "Get(key, default: any = None) -> any".
func Fifo(signature string, options ...MethodOption) Option { return declare(signature, fifo, options) }

// All declares a method whose calls may park, all of which are tried again, in the order they came. For calls that do not
// compete. Signatures are as for [Fifo].
func All(signature string, options ...MethodOption) Option { return declare(signature, all, options) }

// Read declares a method that changes nothing: a repeat of such a call may simply run again, and it raises no version.
// Signatures are as for [Fifo].
func Read(signature string, options ...MethodOption) Option {
	return declare(signature, never, append(slices.Clip(options), ReadOnly))
}

// Method declares a method that changes the object and never parks, as undeclared ones do, for the sake of its parameters
// or options. Signatures are as for [Fifo].
func Method(signature string, options ...MethodOption) Option {
	return declare(signature, never, options)
}

// Hide keeps exported methods from clients.
func Hide(names ...string) Option {
	return func(k *kind) { k.hidden = append(k.hidden, names...) }
}

// Name registers the type under another name than the Go type's.
func Name(typeid string) Option { return func(k *kind) { k.id = typeid } }

// Unsaved says that objects of the type are not saved and loaded: they are never moved to another version, and are lost if
// they trap after more input than the host keeps.
func Unsaved(k *kind) { k.saves = false }

// ReadOnly says that a method changes nothing.
func ReadOnly(m *method) { m.readOnly = true }

// Line lets methods that name the same line wait in it together, in turn.
func Line(name string) MethodOption { return func(m *method) { m.lineName = name } }

// Named is a method's name on the wire, if that is not its name in snake_case: "__len__".
func Named(name string) MethodOption { return func(m *method) { m.name = name } }

// Returns says that the method's result becomes the argument of that type's constructor, and the caller gets a proxy of the new object.
func Returns(typeid string) MethodOption { return func(m *method) { m.returns = typeid } }

// AtDeadline is what a call that waits answers at its deadline, in place of raising TimeoutError: a value, an error, which it
// raises, or a function of the object (and a *Context) that gives either or both, and changes nothing.
func AtDeadline(answer any) MethodOption {
	return func(m *method) { m.deadline, m.hasDeadline = answer, true }
}

// Text is what a type's source says of it and Go's reflection does not. It is written by stewardgen.
type Text struct {
	// Type is the Go type's name.
	Type, Doc string
	// Params are the constructor's parameters.
	Params []string
	// Methods stand in the order of the source.
	Methods []MethodText
}

// MethodText is the same of a method.
type MethodText struct {
	Name, Doc string
	Params    []string
	// Function is the method's expression: (*Type).Method.
	Function any
}

// Source adds what the source says of types. For the file that stewardgen writes.
func Source(of []Text) { texts = append(texts, of...) }

var (
	kinds []*kind
	texts []Text
)

// wait is how a method's calls wait.
type wait uint8

const (
	never wait = iota
	fifo
	all
)

// kind is a type of objects.
type kind struct {
	pointer     reflect.Type
	goName      string
	id, version string
	doc         string
	saves       bool
	codec       *codec
	constructor *method
	// options are what was said of methods, by their Go names.
	options map[string]*method
	hidden  []string
	// methods are called by their places; lines is how many they wait in. Both are there once it is resolved.
	methods  []*method
	lines    int
	resolved bool
	fast     func(function any) thunk
}

func declare(signature string, how wait, options []MethodOption) Option {
	name, rest, _ := strings.Cut(signature, "(")
	if rest != "" {
		rest = "(" + rest
	} else if before, result, has := strings.Cut(name, "->"); has {
		name, rest = before, "->"+result
	}
	name = strings.TrimSpace(name)
	return func(k *kind) {
		m := &method{goName: name, signature: rest, wait: how, line: -1}
		for _, option := range options {
			option(m)
		}
		if m.wait == never && (m.lineName != "" || m.hasDeadline) {
			panic("guest: " + k.goName + "." + name + " has a line or a deadline, but is not declared guest.Fifo or guest.All")
		}
		if m.wait == all && m.lineName != "" {
			panic("guest: " + k.goName + "." + name + ": only methods that wait in turn (guest.Fifo) share a line")
		}
		if k.options[name] != nil {
			panic("guest: " + k.goName + "." + name + " is declared twice")
		}
		k.options[name] = m
	}
}

// resolve settles what the methods are. Not at registration: what the source says may be registered later, and of the types
// of a plugin an instance often needs one.
func (k *kind) resolve() {
	if k.resolved {
		return
	}
	k.resolved = true
	k.codec = codecOf(k.pointer.Elem())
	var source *Text
	for at := range texts {
		if texts[at].Type == k.goName {
			source = &texts[at]
		}
	}
	lines := map[string]int{}
	add := func(text MethodText) {
		name := text.Name
		if slices.Contains(hookNames, name) || slices.Contains(k.hidden, name) {
			return
		}
		m := k.options[name]
		if m == nil {
			m = &method{goName: name}
		}
		m.doc, m.names, m.of = text.Doc, text.Params, k
		if text.Function != nil {
			m.function = reflect.ValueOf(text.Function)
		}
		if m.name == "" {
			m.name = names.Snake(name)
		}
		if m.wait != never {
			lineName := m.lineName
			if lineName == "" {
				// Which no author can give.
				lineName = name + "()"
			}
			if _, known := lines[lineName]; !known {
				lines[lineName] = len(lines)
			}
			m.line = lines[lineName]
		}
		k.methods = append(k.methods, m)
	}
	k.constructor.of = k
	if source != nil {
		k.doc, k.constructor.names = source.Doc, source.Params
		for _, text := range source.Methods {
			add(text)
		}
	} else {
		for _, name := range methodNames(k.pointer) {
			add(MethodText{Name: name})
		}
	}
	k.lines = len(lines)
	for name := range k.options {
		if !slices.ContainsFunc(k.methods, func(m *method) bool { return m.goName == name }) {
			panic("guest: " + k.goName + " has no method " + name)
		}
	}
}

// describe is what clients see.
func (k *kind) describe() world.Type {
	k.resolve()
	k.checkHooks()
	k.constructor.bind()
	described := world.Type{
		ID: k.id, Version: k.version, Doc: k.doc, Saves: k.saves, Constructor: describeParams(k.constructor.params),
	}
	for _, m := range k.methods {
		m.bind()
		described.Methods = append(described.Methods, world.Method{
			Name: m.name, Params: describeParams(m.params), Doc: m.doc, ReadOnly: m.readOnly, MayPark: m.wait != never,
			Result: m.result, Returns: m.returns,
		})
	}
	return described
}

func describeParams(params []param) []world.Param {
	described := make([]world.Param, len(params))
	for at, param := range params {
		described[at] = param.Param
	}
	return described
}

func isVersion(version string) bool {
	parts := strings.Split(version, ".")
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, 32); err != nil {
			return false
		}
	}
	return len(parts) == 3
}

// plugin is what package world knows of this one.
type plugin struct{}

func init() { world.Plugin = plugin{} }

func (plugin) Describe() []world.Type {
	described := make([]world.Type, len(kinds))
	for at, k := range kinds {
		described[at] = k.describe()
	}
	return described
}

func (plugin) Create(typeid string, args []byte, context world.Context) (world.Object, *world.Fault) {
	k, fault := kindOf(typeid)
	if fault != nil {
		return nil, fault
	}
	return object(create(k, args, context))
}

func (plugin) Load(typeid string, state []byte, from string, context world.Context) (world.Object, *world.Fault) {
	k, fault := kindOf(typeid)
	if fault != nil {
		return nil, fault
	}
	return object(load(k, state, from, context))
}

func (plugin) TypeID(pointer any) string {
	for _, k := range kinds {
		if k.pointer == reflect.TypeOf(pointer) {
			return k.id
		}
	}
	return ""
}

// object keeps a nil shell from becoming an object that is not nil.
func object(s *shell, fault *world.Fault) (world.Object, *world.Fault) {
	if fault != nil {
		return nil, fault
	}
	return s, nil
}

func kindOf(typeid string) (*kind, *world.Fault) {
	for _, k := range kinds {
		if k.id == typeid {
			k.resolve()
			return k, nil
		}
	}
	return nil, &world.Fault{Kind: "KeyError", Message: "no type `" + typeid + "` in this plugin"}
}
