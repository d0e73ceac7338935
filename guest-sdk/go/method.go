package guest

import (
	"reflect"
	"strconv"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/world"
)

// param is a parameter of a method, bound to that of the Go function.
type param struct {
	world.Param
	codec *codec
	// fallback is the default, encoded.
	fallback []byte
}

// method is a method, or the constructor, of a type.
type method struct {
	// First what every call comes by, side by side. It is there once the method is bound: at the first call, since an object's life
	// is often shorter than its list of methods.
	thunk thunk
	slots []slot
	bound bool
	// plain: all parameters are given by their places or by name, so that fillPlain may do.
	plain    bool
	readOnly bool
	wait     wait

	of           *kind
	goName, name string
	doc          string
	// signature is what the registration says: `(n: int = 1) -> int`; names what the source says.
	signature string
	names     []string
	line      int
	lineName  string
	returns   string
	// deadline counts if hasDeadline.
	deadline    any
	hasDeadline bool

	// These, too, are there once it is bound.
	function reflect.Value
	params   []param
	result   string
	// place is the function for errors: Queue.put.
	place string
	// values are the arguments of a call by reflection.
	values []reflect.Value
}

// thunk calls a function with its arguments bound to the method's slots, and appends the encoded result.
type thunk func(object any, c *Context, m *method, out []byte) ([]byte, error)

func (m *method) call(object any, c *Context, args, out []byte) ([]byte, error) {
	if m.bound && m.fillPlain(args) {
		return m.thunk(object, c, m, out)
	}
	m.bind()
	if err := bind(m.place, m.params, args, m.slots); err != nil {
		return out, err
	}
	return m.thunk(object, c, m, out)
}

// bind looks the function up and settles its parameters. What does not fit is the author's mistake, and panics.
func (m *method) bind() {
	if m.bound {
		return
	}
	m.bound = true
	m.place = m.of.goName + "." + m.name
	// A method's function has the object as its first parameter, a constructor's has not.
	receiver := 1
	if m == m.of.constructor {
		receiver = 0
	}
	if !m.function.IsValid() {
		m.function = methodOf(m.of.pointer, m.goName)
	}
	t := m.function.Type()
	if t.Kind() != reflect.Func {
		m.fail("is no function")
	}
	first := receiver
	if t.NumIn() > first && t.In(first) == typeContext {
		first++
	}
	m.settle(t, first)
	m.slots = make([]slot, len(m.params))
	m.plain = len(m.params) < 24
	for at := range m.params {
		m.plain = m.plain && m.params[at].Kind == world.Normal
	}
	if receiver > 0 {
		m.result = resultOf(m, t)
		// A slice or keywords as the only parameter bind in their own way.
		if len(m.params) == 0 || m.params[0].Kind < world.Rest {
			m.thunk = m.of.fast(m.function.Interface())
		}
		if m.thunk == nil {
			m.thunk = reflected(m.function, receiver, first)
		}
	}
}

func (m *method) fail(why string) {
	panic("guest: " + m.of.goName + "." + m.goName + " " + why)
}

// settle makes the parameters of what Go, the registration and the source say.
func (m *method) settle(t reflect.Type, first int) {
	specs, result, err := parseSignature(m.signature)
	if err != "" {
		m.fail("has the signature `" + m.signature + "`: " + err)
	}
	m.result = result
	count := t.NumIn() - first
	if specs == nil {
		specs = make([]paramSpec, count)
		for at := range specs {
			specs[at].name = "arg" + strconv.Itoa(at+1)
			if at < len(m.names) {
				specs[at].name = m.names[at]
			}
		}
	}
	if len(specs) != count {
		m.fail("has " + strconv.Itoa(count) + " parameters, and its signature " + strconv.Itoa(len(specs)))
	}
	m.params = make([]param, count)
	for at, spec := range specs {
		in := t.In(first + at)
		p := &m.params[at]
		p.Param = world.Param{Name: spec.name, Kind: spec.kind, Type: spec.python, Default: spec.fallback, HasDefault: spec.hasDefault}
		p.codec = codecOf(in)
		switch {
		case in == typeKeywords:
			p.Kind, p.codec = world.Keywords, nil
		case t.IsVariadic() && at == count-1, p.Kind == world.Rest:
			if in.Kind() != reflect.Slice {
				m.fail("takes *" + p.Name + ", which is no slice")
			}
			p.Kind, p.codec = world.Rest, codecOf(in.Elem())
		case p.Kind == world.Keywords:
			m.fail("takes **" + p.Name + ", which is no guest.Keywords")
		case p.codec.take == nil:
			m.fail("takes a " + in.String() + ", which has no encoding")
		}
		if p.Type == "" {
			p.Type = "any"
			if p.Kind == world.Normal || p.Kind == world.KeywordOnly {
				p.Type = p.codec.python
			}
		}
		if p.HasDefault {
			fallback, err := parseLiteral(p.Default)
			if err == nil {
				err = decodeItem(fallback, p.codec, reflect.New(in).Elem())
			}
			if err != nil {
				m.fail("has the default `" + p.Default + "` of " + p.Name + ", which is no " + p.codec.python)
			}
			p.fallback = fallback
		}
	}
}

// resultOf is what the method answers, in Python's words.
func resultOf(m *method, t reflect.Type) string {
	count := t.NumOut()
	if count > 0 && t.Out(count-1) == typeError {
		count--
	}
	if count > 1 {
		m.fail("returns more than a value and an error")
	}
	switch {
	case m.result != "":
		return m.result
	case count == 0:
		return "None"
	}
	c := codecOf(t.Out(0))
	if c.put == nil {
		m.fail("returns a " + t.Out(0).String() + ", which has no encoding")
	}
	return c.python
}

// item is the argument of a parameter.
func (m *method) item(at int) []byte { return m.slots[at].item }

// argument decodes an argument into a Go value.
func (m *method) argument(at int, into reflect.Value) error {
	p := &m.params[at]
	switch p.Kind {
	case world.Keywords:
		if m.slots[at].keywords != nil {
			into.Set(reflect.ValueOf(m.slots[at].keywords))
		}
	case world.Rest:
		r := cbor.NewReader(m.slots[at].item)
		for !r.Done() {
			item, err := r.Raw()
			if err != nil {
				return err
			}
			into.Set(reflect.Append(into, reflect.Zero(into.Type().Elem())))
			if err := decodeItem(item, p.codec, into.Index(into.Len()-1)); err != nil {
				return refuse(m.place, p, item, err)
			}
		}
	default:
		item := m.item(at)
		if err := decodeItem(item, p.codec, into); err != nil {
			return refuse(m.place, p, item, err)
		}
	}
	return nil
}

// reflected calls any function.
func reflected(function reflect.Value, receiver, first int) thunk {
	t := function.Type()
	hasError := t.NumOut() > 0 && t.Out(t.NumOut()-1) == typeError
	hasValue := t.NumOut() > 1 || t.NumOut() == 1 && !hasError
	var result *codec
	if hasValue {
		result = codecOf(t.Out(0))
	}
	return func(object any, c *Context, m *method, out []byte) ([]byte, error) {
		values, err := m.arguments(t, object, c, receiver, first)
		if err != nil {
			return out, err
		}
		results := call(function, values)
		if hasError {
			if err, _ := results[len(results)-1].Interface().(error); err != nil {
				return out, err
			}
		}
		if !hasValue {
			return cbor.AppendNull(out), nil
		}
		out, err = result.append(out, results[0], 0)
		return out, unencodable(err)
	}
}

func call(function reflect.Value, values []reflect.Value) []reflect.Value {
	if function.Type().IsVariadic() {
		return function.CallSlice(values)
	}
	return function.Call(values)
}

func unencodable(err error) error {
	if err != nil {
		return Raise("TypeError", "%s", err.Error())
	}
	return nil
}

// arguments decodes what the slots have into values that are used again for the next call.
func (m *method) arguments(t reflect.Type, object any, c *Context, receiver, first int) ([]reflect.Value, error) {
	if m.values == nil {
		m.values = make([]reflect.Value, t.NumIn())
		for at := range m.params {
			m.values[first+at] = reflect.New(t.In(first + at)).Elem()
		}
	}
	if receiver > 0 {
		m.values[0] = reflect.ValueOf(object)
	}
	if first > receiver {
		m.values[receiver] = reflect.ValueOf(c)
	}
	for at := range m.params {
		value := m.values[first+at]
		value.SetZero()
		if err := m.argument(at, value); err != nil {
			return nil, err
		}
	}
	return m.values, nil
}

// construct makes an object.
func (k *kind) construct(c *Context, args []byte) (any, error) {
	m := k.constructor
	m.bind()
	if err := bind(m.place, m.params, args, m.slots); err != nil {
		return nil, err
	}
	t := m.function.Type()
	first := t.NumIn() - len(m.params)
	values, err := m.arguments(t, nil, c, 0, first)
	if err != nil {
		return nil, err
	}
	results := call(m.function, values)
	if len(results) == 0 || len(results) > 2 || t.Out(0) != k.pointer || len(results) == 2 && t.Out(1) != typeError {
		m.fail("does not give a " + k.pointer.String() + ", or one and an error")
	}
	if len(results) == 2 {
		if err, _ := results[1].Interface().(error); err != nil {
			return nil, err
		}
	}
	if results[0].IsNil() {
		m.fail("gave nil")
	}
	return results[0].Interface(), nil
}

// atDeadline is what a call that waited answers at its deadline.
func (m *method) atDeadline(object any, c *Context) ([]byte, error) {
	if !m.hasDeadline {
		return nil, Raise("TimeoutError", "the call waited until its deadline")
	}
	answer := m.deadline
	if function := reflect.ValueOf(answer); function.Kind() == reflect.Func {
		values := []reflect.Value{reflect.ValueOf(object)}
		if function.Type().NumIn() > 1 {
			values = append(values, reflect.ValueOf(c))
		}
		answer = nil
		for _, result := range function.Call(values) {
			if value := result.Interface(); value != nil {
				answer = value
				if _, raised := value.(error); raised {
					break
				}
			}
		}
	}
	if err, raised := answer.(error); raised {
		return nil, err
	}
	item, err := appendValue(nil, answer)
	return item, unencodable(err)
}
