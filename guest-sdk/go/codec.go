package guest

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/names"
)

// Why an item is not a value of the type asked for, or a value no item.
var (
	errMismatch = errors.New("wrong type")
	errRange    = errors.New("out of range")
	errDepth    = errors.New("nested too deep")
)

// depthMax is how deep items nest at most; the host refuses more.
const depthMax = 32

// Tuple is a Python tuple.
type Tuple []any

// Encode makes an item of a value, as results and states are encoded: see the package's documentation for what
// becomes what. Errors: a value that has no encoding (a channel, a function), or one nested more than 32 deep.
func Encode(value any) (Any, error) {
	out, err := appendValue(nil, value)
	if err != nil {
		return Any{}, err
	}
	return Any{string(out)}, nil
}

// codec knows how values of one type are written and read. It is made once for each type.
type codec struct {
	// python is the type in Python's words, for people.
	python string
	// put and take are nil for what has no encoding.
	put  func(out []byte, v reflect.Value, depth int) ([]byte, error)
	take func(r *reader, v reflect.Value) error
	// tokens visits the tokens in a value; nil if the type has none.
	tokens func(v reflect.Value, visit *tokenVisit)
	// unfinished: it is being made, and so belongs to a type that contains itself.
	unfinished bool
	goName     string
}

// reader knows how deep it is, so that no item can exhaust the stack.
type reader struct {
	cbor.Reader
	depth int
}

func (r *reader) enter() error {
	if r.depth++; r.depth > depthMax {
		return cbor.ErrMalformed
	}
	return nil
}

func (r *reader) leave() { r.depth-- }

func (c *codec) append(out []byte, v reflect.Value, depth int) ([]byte, error) {
	switch {
	case c.put == nil:
		return out, errors.New("a " + c.goName + " has no encoding")
	case depth > depthMax:
		return out, errDepth
	}
	return c.put(out, v, depth)
}

func (c *codec) decode(r *reader, v reflect.Value) error {
	if c.take == nil {
		return errMismatch
	}
	return c.take(r, v)
}

func (c *codec) visit(v reflect.Value, visit *tokenVisit) {
	if c.tokens != nil {
		c.tokens(v, visit)
	}
}

func (c *codec) mayHold() bool { return c.tokens != nil || c.unfinished }

// codecs is what has been made so far. A guest has one thread; native tests may have several, and take codecsLock.
var (
	codecs     = map[reflect.Type]*codec{}
	codecsLock sync.Mutex
)

var (
	typeAny      = reflect.TypeFor[Any]()
	typeHandle   = reflect.TypeFor[Handle]()
	typeTuple    = reflect.TypeFor[Tuple]()
	typeKeywords = reflect.TypeFor[Keywords]()
	typeError    = reflect.TypeFor[error]()
	typeContext  = reflect.TypeFor[*Context]()
)

// codecOf is the codec of a type. Types may contain themselves.
func codecOf(t reflect.Type) *codec {
	codecsLock.Lock()
	defer codecsLock.Unlock()
	return codecLocked(t)
}

func codecLocked(t reflect.Type) *codec {
	if known, ok := codecs[t]; ok {
		return known
	}
	c := &codec{python: "any", unfinished: true, goName: t.String()}
	// First, so that a type within itself finds it.
	codecs[t] = c
	defer func() { c.unfinished = false }()
	switch t {
	case typeAny:
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return v.Interface().(Any).append(out), nil }
		c.take = func(r *reader, v reflect.Value) error {
			item, err := r.Raw()
			v.Set(reflect.ValueOf(Any{string(item)}))
			return err
		}
		c.tokens = func(v reflect.Value, visit *tokenVisit) { visit.item(v.Field(0).String()) }
		return c
	case typeHandle:
		c.python = "proxy"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) {
			return v.Interface().(Handle).append(out), nil
		}
		c.take = func(r *reader, v reflect.Value) error {
			handle, err := decodeHandle(r)
			v.Set(reflect.ValueOf(handle))
			return err
		}
		c.tokens = func(v reflect.Value, visit *tokenVisit) { visit.handle(v.Field(1).Uint(), v.Field(2).String()) }
		return c
	case typeTuple:
		c.python = "tuple"
		element := codecLocked(t.Elem())
		c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
			return appendSequence(cbor.AppendTag(out, cbor.TagTuple), v, depth, element)
		}
		c.take = sliceDecoder(t, element)
		c.tokens = sequenceTokens(element)
		return c
	}
	switch t.Kind() {
	case reflect.Bool:
		c.python = "bool"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return cbor.AppendBool(out, v.Bool()), nil }
		c.take = func(r *reader, v reflect.Value) error {
			value, err := decodeBool(r)
			v.SetBool(value)
			return err
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		c.python = "int"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return cbor.AppendInt(out, v.Int()), nil }
		c.take = func(r *reader, v reflect.Value) error {
			value, err := decodeInt(r)
			if err == nil && v.OverflowInt(value) {
				err = errRange
			}
			if err == nil {
				v.SetInt(value)
			}
			return err
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		c.python = "int"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return cbor.AppendUint(out, v.Uint()), nil }
		c.take = func(r *reader, v reflect.Value) error {
			value, err := decodeUint(r)
			if err == nil && v.OverflowUint(value) {
				err = errRange
			}
			if err == nil {
				v.SetUint(value)
			}
			return err
		}
	case reflect.Float32, reflect.Float64:
		c.python = "float"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return cbor.AppendFloat(out, v.Float()), nil }
		c.take = func(r *reader, v reflect.Value) error {
			value, err := decodeFloat(r)
			v.SetFloat(value)
			return err
		}
	case reflect.String:
		c.python = "str"
		c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return appendText(out, v.String()), nil }
		c.take = func(r *reader, v reflect.Value) error {
			value, err := decodeText(r)
			v.SetString(value)
			return err
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			c.python = "bytes"
			c.put = func(out []byte, v reflect.Value, _ int) ([]byte, error) { return cbor.AppendBytes(out, v.Bytes()), nil }
			c.take = func(r *reader, v reflect.Value) error {
				value, err := decodeBytes(r)
				v.SetBytes(value)
				return err
			}
			return c
		}
		element := codecLocked(t.Elem())
		c.python = "list"
		c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
			return appendSequence(out, v, depth, element)
		}
		c.take = sliceDecoder(t, element)
		c.tokens = sequenceTokens(element)
	case reflect.Array:
		element := codecLocked(t.Elem())
		c.python = "tuple"
		c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
			return appendSequence(cbor.AppendTag(out, cbor.TagTuple), v, depth, element)
		}
		c.take = func(r *reader, v reflect.Value) error {
			count, err := decodeSequence(r)
			if err != nil {
				return err
			}
			defer r.leave()
			if count != v.Len() {
				return errMismatch
			}
			for at := range count {
				if err := element.decode(r, v.Index(at)); err != nil {
					return err
				}
			}
			return nil
		}
		c.tokens = sequenceTokens(element)
	case reflect.Map:
		mapCodec(c, t)
	case reflect.Struct:
		structCodec(c, t)
	case reflect.Pointer:
		pointerCodec(c, t)
	case reflect.Interface:
		if t.NumMethod() == 0 {
			c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
				return appendDynamic(out, v.Elem(), depth)
			}
			c.take = func(r *reader, v reflect.Value) error {
				value, err := decodeNatural(r)
				if err == nil && value != nil {
					v.Set(reflect.ValueOf(value))
				}
				return err
			}
		}
		c.tokens = func(v reflect.Value, visit *tokenVisit) {
			if inner := v.Elem(); inner.IsValid() {
				codecOf(inner.Type()).visit(inner, visit)
			}
		}
	}
	return c
}

func appendValue(out []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return cbor.AppendNull(out), nil
	case Any:
		return value.append(out), nil
	case int64:
		return cbor.AppendInt(out, value), nil
	case string:
		return appendText(out, value), nil
	}
	return appendDynamic(out, reflect.ValueOf(value), 0)
}

// appendDynamic appends a value whose type is only known now; the zero Value is null.
func appendDynamic(out []byte, v reflect.Value, depth int) ([]byte, error) {
	if !v.IsValid() {
		return cbor.AppendNull(out), nil
	}
	return codecOf(v.Type()).append(out, v, depth)
}

// appendText appends a text. Go's strings may hold what is not UTF-8, the dialect's texts may not.
func appendText(out []byte, text string) []byte {
	return cbor.AppendText(out, strings.ToValidUTF8(text, "\uFFFD"))
}

func appendSequence(out []byte, v reflect.Value, depth int, element *codec) ([]byte, error) {
	out = cbor.AppendArray(out, v.Len())
	for at := range v.Len() {
		var err error
		if out, err = element.append(out, v.Index(at), depth+1); err != nil {
			return out, err
		}
	}
	return out, nil
}

// mapCodec writes the pairs sorted by their encoded keys: Go goes through a map in random order, and equal states are to
// be equal bytes. A map[K]struct{} is a set.
func mapCodec(c *codec, t reflect.Type) {
	key, value := codecLocked(t.Key()), codecLocked(t.Elem())
	isSet := t.Elem().Kind() == reflect.Struct && t.Elem().NumField() == 0
	c.python = "dict"
	if isSet {
		c.python = "set"
	}
	if key.mayHold() || value.mayHold() {
		c.tokens = func(v reflect.Value, visit *tokenVisit) {
			for pairs := v.MapRange(); pairs.Next(); {
				key.visit(pairs.Key(), visit)
				value.visit(pairs.Value(), visit)
			}
		}
	}
	c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
		encoded := make([][]byte, 0, v.Len())
		for pairs := v.MapRange(); pairs.Next(); {
			pair, err := key.append(nil, pairs.Key(), depth+1)
			if err == nil && !isSet {
				pair, err = value.append(pair, pairs.Value(), depth+1)
			}
			if err != nil {
				return out, err
			}
			encoded = append(encoded, pair)
		}
		slices.SortFunc(encoded, bytes.Compare)
		if isSet {
			out = cbor.AppendArray(cbor.AppendTag(out, cbor.TagSet), len(encoded))
		} else {
			out = cbor.AppendMap(out, len(encoded))
		}
		for _, pair := range encoded {
			out = append(out, pair...)
		}
		return out, nil
	}
	c.take = func(r *reader, v reflect.Value) error {
		open := decodeMap
		if isSet {
			open = decodeSequence
		}
		count, err := open(r)
		if err != nil {
			return err
		}
		defer r.leave()
		made := reflect.MakeMapWithSize(t, min(count, 1024))
		for range count {
			k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
			if err := key.decode(r, k); err != nil {
				return err
			}
			if !k.Comparable() {
				return errMismatch
			}
			if !isSet {
				if err := value.decode(r, e); err != nil {
					return err
				}
			}
			if !isSet && made.MapIndex(k).IsValid() {
				return errors.New("a key comes twice")
			}
			made.SetMapIndex(k, e)
		}
		v.Set(made)
		return nil
	}
}

// field is a field of a struct that is part of its state.
type field struct {
	at    int
	name  string
	codec *codec
}

func structCodec(c *codec, t reflect.Type) {
	c.python = "dict"
	var fields, withTokens []field
	for at := range t.NumField() {
		f := t.Field(at)
		inner := codecLocked(f.Type)
		if inner.mayHold() {
			withTokens = append(withTokens, field{at, "", inner})
		}
		name := f.Tag.Get("steward")
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = names.Snake(f.Name)
		}
		fields = append(fields, field{at, name, inner})
	}
	if len(withTokens) > 0 {
		c.tokens = func(v reflect.Value, visit *tokenVisit) {
			for _, f := range withTokens {
				f.codec.visit(v.Field(f.at), visit)
			}
		}
	}
	c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
		out = cbor.AppendMap(out, len(fields))
		for _, f := range fields {
			out = cbor.AppendText(out, f.name)
			var err error
			if out, err = f.codec.append(out, v.Field(f.at), depth+1); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	// Fields that the item lacks stay as they are, and what the struct lacks is left out: so types may grow.
	c.take = func(r *reader, v reflect.Value) error {
		count, err := decodeMap(r)
		if err != nil {
			return err
		}
		defer r.leave()
		for range count {
			if major(r) != cbor.Text {
				return mismatchOr(r)
			}
			name, err := r.Text()
			if err != nil {
				return err
			}
			at := slices.IndexFunc(fields, func(f field) bool { return f.name == string(name) })
			if at < 0 {
				if _, err := r.Raw(); err != nil {
					return err
				}
				continue
			}
			if err := fields[at].codec.decode(r, v.Field(fields[at].at)); err != nil {
				return err
			}
		}
		return nil
	}
}

func pointerCodec(c *codec, t reflect.Type) {
	element := codecLocked(t.Elem())
	c.python = element.python
	c.put = func(out []byte, v reflect.Value, depth int) ([]byte, error) {
		if v.IsNil() {
			return cbor.AppendNull(out), nil
		}
		return element.append(out, v.Elem(), depth+1)
	}
	c.take = func(r *reader, v reflect.Value) error {
		if r.Null() {
			v.SetZero()
			return nil
		}
		if err := r.enter(); err != nil {
			return err
		}
		defer r.leave()
		made := reflect.New(t.Elem())
		v.Set(made)
		return element.decode(r, made.Elem())
	}
	c.tokens = func(v reflect.Value, visit *tokenVisit) {
		if element.tokens != nil && !v.IsNil() && visit.isNew(v.Pointer()) {
			element.tokens(v.Elem(), visit)
		}
	}
}

func sequenceTokens(element *codec) func(reflect.Value, *tokenVisit) {
	if !element.mayHold() {
		return nil
	}
	return func(v reflect.Value, visit *tokenVisit) {
		for at := range v.Len() {
			element.visit(v.Index(at), visit)
		}
	}
}

func sliceDecoder(t reflect.Type, element *codec) func(*reader, reflect.Value) error {
	return func(r *reader, v reflect.Value) error {
		count, err := decodeSequence(r)
		if err != nil {
			return err
		}
		defer r.leave()
		// A length is a claim until its items have been read.
		made := reflect.MakeSlice(t, 0, min(count, 1024))
		for range count {
			made = reflect.Append(made, reflect.Zero(t.Elem()))
			if err := element.decode(r, made.Index(made.Len()-1)); err != nil {
				return err
			}
		}
		v.Set(made)
		return nil
	}
}

// major is the major type of the next item; 0xff at the end.
func major(r *reader) byte {
	first, ok := r.Peek()
	if !ok {
		return 0xff
	}
	return first >> 5
}

// mismatchOr is why the next item is of another type than the one asked for: it may be too large an integer.
func mismatchOr(r *reader) error {
	head, err := r.Head()
	switch {
	case err != nil:
		return err
	case head.Major == cbor.Tagged && (head.Argument == cbor.TagBigInt || head.Argument == cbor.TagNegativeBigInt):
		return errRange
	}
	return errMismatch
}

func decodeBool(r *reader) (bool, error) {
	first, _ := r.Peek()
	if first != cbor.True && first != cbor.False {
		return false, mismatchOr(r)
	}
	_, err := r.Head()
	return first == cbor.True, err
}

// decodeInt reads an integer. As in Python, a truth value is one.
func decodeInt(r *reader) (int64, error) {
	switch major(r) {
	case cbor.Unsigned, cbor.Negative:
		head, err := r.Head()
		if err == nil && head.Argument > math.MaxInt64 {
			err = errRange
		}
		if head.Major == cbor.Negative {
			return ^int64(head.Argument), err
		}
		return int64(head.Argument), err
	}
	return decodeTruth(r)
}

func decodeUint(r *reader) (uint64, error) {
	switch major(r) {
	case cbor.Unsigned:
		return r.Uint()
	case cbor.Negative:
		if _, err := r.Head(); err != nil {
			return 0, err
		}
		return 0, errRange
	}
	truth, err := decodeTruth(r)
	return uint64(truth), err
}

func decodeTruth(r *reader) (int64, error) {
	truth, err := decodeBool(r)
	if truth {
		return 1, err
	}
	return 0, err
}

// decodeFloat reads a float or an integer, which Python takes for one as well.
func decodeFloat(r *reader) (float64, error) {
	switch major(r) {
	case cbor.Unsigned, cbor.Negative:
		head, err := r.Head()
		if head.Major == cbor.Negative {
			return -1 - float64(head.Argument), err
		}
		return float64(head.Argument), err
	case cbor.Simple:
		head, err := r.Head()
		if err != nil {
			return 0, err
		}
		if value, ok := head.Float(); ok {
			return value, nil
		}
		return 0, errMismatch
	}
	return 0, mismatchOr(r)
}

func decodeText(r *reader) (string, error) {
	if major(r) != cbor.Text {
		return "", mismatchOr(r)
	}
	text, err := r.Text()
	return string(text), err
}

func decodeBytes(r *reader) ([]byte, error) {
	ahead := *r
	if head, err := ahead.Head(); err == nil && head.Major == cbor.Tagged && head.Argument == cbor.TagByteArray {
		*r = ahead
	}
	if major(r) != cbor.Bytes {
		return nil, mismatchOr(r)
	}
	found, err := r.Bytes()
	return bytes.Clone(found), err
}

// decodeMap reads the head of a map: how many pairs follow. Whoever has read them leaves.
func decodeMap(r *reader) (int, error) {
	if major(r) != cbor.Map {
		return 0, mismatchOr(r)
	}
	count, err := r.Map()
	if err != nil {
		return 0, err
	}
	return count, r.enter()
}

// decodeSequence reads the head of a list, tuple or set: how many items follow. Whoever has read them leaves.
func decodeSequence(r *reader) (int, error) {
	ahead := *r
	if head, err := ahead.Head(); err == nil && head.Major == cbor.Tagged {
		switch head.Argument {
		case cbor.TagTuple, cbor.TagSet, cbor.TagFrozenSet:
			*r = ahead
		}
	}
	if major(r) != cbor.Array {
		return 0, mismatchOr(r)
	}
	count, err := r.Array()
	if err != nil {
		return 0, err
	}
	return count, r.enter()
}

// decodeNatural reads an item as what it is: nil, bool, int64, uint64 (above int64), float64, string, []byte, []any, Tuple,
// map[any]any (of keys that Go can compare), and Any for everything else.
func decodeNatural(r *reader) (any, error) {
	ahead := *r
	head, err := ahead.Head()
	if err != nil {
		return nil, err
	}
	switch head.Major {
	case cbor.Unsigned, cbor.Negative:
		if value, err := decodeInt(r); err == nil {
			return value, nil
		}
		if head.Major == cbor.Unsigned {
			return head.Argument, nil
		}
		return nil, errRange
	case cbor.Bytes:
		return decodeBytes(r)
	case cbor.Text:
		return decodeText(r)
	case cbor.Array:
		return decodeAs[[]any](r)
	case cbor.Map:
		return decodeAs[map[any]any](r)
	case cbor.Tagged:
		if head.Argument == cbor.TagTuple {
			return decodeAs[Tuple](r)
		}
		item, err := r.Raw()
		return Any{string(item)}, err
	}
	*r = ahead
	if value, ok := head.Float(); ok {
		return value, nil
	}
	if head.Argument == 22 {
		return nil, nil
	}
	return head.Argument == 21, nil
}

func decodeAs[T any](r *reader) (T, error) {
	var value T
	err := codecOf(reflect.TypeFor[T]()).decode(r, reflect.ValueOf(&value).Elem())
	return value, err
}

// decode reads exactly one item into what a pointer points to.
func decode(item []byte, into any) error {
	pointer := reflect.ValueOf(into)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		panic("guest: decode into " + pointer.Kind().String() + ", not into a pointer")
	}
	return decodeItem(item, codecOf(pointer.Type().Elem()), pointer.Elem())
}

func decodeItem(item []byte, c *codec, into reflect.Value) error {
	r := reader{Reader: cbor.NewReader(item)}
	if err := c.decode(&r, into); err != nil {
		return err
	}
	if !r.Done() {
		return cbor.ErrMalformed
	}
	return nil
}
