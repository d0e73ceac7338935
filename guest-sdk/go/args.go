package guest

import (
	"errors"
	"fmt"
	"strings"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/world"
)

// Keyword is an argument by name.
type Keyword struct {
	Name  string
	Value Any
}

// Keywords, as the type of a method's last parameter, takes all further arguments that are given by name, in their order.
type Keywords []Keyword

// Encode is `[[positional...], {keyword: ...}]`, as it travels.
func (a Arguments) Encode() []byte {
	out := cbor.AppendArray(cbor.AppendArray(nil, 2), len(a.places))
	for _, place := range a.places {
		out = place.append(out)
	}
	out = cbor.AppendMap(out, len(a.keywords))
	for _, keyword := range a.keywords {
		out = keyword.Value.append(appendText(out, keyword.Name))
	}
	return out
}

// slot is what was given for one parameter.
type slot struct {
	// item is one item, the default if none was given, or those of *rest one after the other.
	item     []byte
	keywords Keywords
}

// bind binds `[[positional...], {keyword: ...}]` to parameters, a slot each. Errors are found in the order and worded as
// CPython's, which count self; function is for them: Queue.put.
func bind(function string, params []param, args []byte, slots []slot) error {
	message, err := fill(params, args, slots)
	switch {
	case err != nil:
		// The host has checked the item: this is for others who step the guest.
		return Raise("TypeError", "%s", function+"() got malformed arguments")
	case message != "":
		return Raise("TypeError", "%s", function+"() "+message)
	}
	for at := range slots {
		if slots[at].item == nil {
			slots[at].item = params[at].fallback
		}
	}
	return nil
}

// fillPlain fills the slots from what most calls give, `[[a, b], {}]` with an item for each parameter or all but those with a
// default, of short items; it is false for everything else, which fill tells apart.
func (m *method) fillPlain(args []byte) bool {
	last := len(args) - 1
	if !m.plain || last < 2 || args[0] != 0x82 || args[last] != 0xa0 {
		return false
	}
	given, rest := int(args[1])-0x80, args[2:last]
	if given < 0 || given > len(m.slots) {
		return false
	}
	for at := range m.slots {
		if at >= given {
			if !m.params[at].HasDefault {
				return false
			}
			m.slots[at].item = m.params[at].fallback
			continue
		}
		length := shortItem(rest)
		if length == 0 || length > len(rest) {
			return false
		}
		m.slots[at].item, rest = rest[:length:length], rest[length:]
	}
	return len(rest) == 0
}

// shortItem is the length of the next item, which may be more than there is: of an integer, a truth value, null, or a text or
// bytes below 24 long. It is 0 for others, and at the end.
func shortItem(rest []byte) int {
	if len(rest) == 0 {
		return 0
	}
	switch first := rest[0]; {
	case first < 0x40:
		// Of its lower five bits, those from 24 to 27 are for arguments of 1, 2, 4 and 8 bytes.
		switch small := first & 31; {
		case small < 24:
			return 1
		case small < 28:
			return 1 + 1<<(small-24)
		}
	case first < 0x80:
		if small := first & 31; small < 24 {
			return 1 + int(small)
		}
	case first == cbor.False, first == cbor.True, first == cbor.Null:
		return 1
	}
	return 0
}

// fill fills the slots; the message is what to raise.
func fill(params []param, args []byte, slots []slot) (message string, err error) {
	clear(slots)
	r := cbor.NewReader(args)
	if parts, err := r.Array(); err != nil || parts != 2 {
		return "", cbor.ErrMalformed
	}
	given, err := r.Array()
	if err != nil {
		return "", err
	}
	positional := 0
	for positional < len(params) && params[positional].Kind == world.Normal {
		positional++
	}
	for at := range min(positional, given) {
		if slots[at].item, err = r.Raw(); err != nil {
			return "", err
		}
	}
	surplus := r.Rest()
	for range given - positional {
		if _, err := r.Raw(); err != nil {
			return "", err
		}
	}
	surplus = surplus[:len(surplus)-len(r.Rest())]

	keywords, err := r.Map()
	if err != nil {
		return "", err
	}
	for range keywords {
		name, err := r.Text()
		if err != nil {
			return "", err
		}
		value, err := r.Raw()
		if err != nil {
			return "", err
		}
		at, rest := -1, -1
		for i := range params {
			switch params[i].Kind {
			case world.Normal, world.KeywordOnly:
				if params[i].Name == string(name) {
					at = i
				}
			case world.Keywords:
				rest = i
			}
		}
		switch {
		case at >= 0 && slots[at].item != nil:
			return "got multiple values for argument '" + string(name) + "'", nil
		case at >= 0:
			slots[at].item = value
		case rest >= 0:
			slots[rest].keywords = append(slots[rest].keywords, Keyword{string(name), AnyOf(value)})
		default:
			return "got an unexpected keyword argument '" + string(name) + "'", nil
		}
	}

	if given > positional {
		at := -1
		for i := range params {
			if params[i].Kind == world.Rest {
				at = i
			}
		}
		if at < 0 {
			return tooMany(params[:positional], given), nil
		}
		slots[at].item = surplus
	}
	for _, kind := range []world.ParamKind{world.Normal, world.KeywordOnly} {
		var missing []string
		for at := range params {
			if params[at].Kind == kind && !params[at].HasDefault && slots[at].item == nil {
				missing = append(missing, params[at].Name)
			}
		}
		if missing != nil {
			return missingNames(kind, missing), nil
		}
	}
	return "", nil
}

func tooMany(positional []param, given int) string {
	optional := 0
	for _, param := range positional {
		if param.HasDefault {
			optional++
		}
	}
	most, given := len(positional)+1, given+1
	s := "s"
	if most == 1 {
		s = ""
	}
	if optional == 0 {
		return fmt.Sprintf("takes %d positional argument%s but %d were given", most, s, given)
	}
	return fmt.Sprintf("takes from %d to %d positional arguments but %d were given", most-optional, most, given)
}

// missingNames is `missing 3 required positional arguments: 'a', 'b', and 'c'`.
func missingNames(kind world.ParamKind, names []string) string {
	what, s := "positional", "s"
	if kind == world.KeywordOnly {
		what = "keyword-only"
	}
	list := "'" + strings.Join(names, "', '") + "'"
	switch last := len(names) - 1; {
	case last == 0:
		s = ""
	case last == 1:
		list = "'" + names[0] + "' and '" + names[1] + "'"
	default:
		list = "'" + strings.Join(names[:last], "', '") + "', and '" + names[last] + "'"
	}
	return fmt.Sprintf("missing %d required %s argument%s: %s", len(names), what, s, list)
}

// refuse is what to raise for an argument that is of another type.
func refuse(function string, param *param, item []byte, err error) error {
	name, found := param.Name, pythonType(item)
	switch {
	case errors.Is(err, errMismatch) && found != param.Type && param.Type != "any":
		return Raise("TypeError", "%s() argument '%s' must be %s, not %s", function, name, param.Type, found)
	case errors.Is(err, errRange):
		return Raise("OverflowError", "%s() argument '%s' is out of range", function, name)
	}
	return Raise("TypeError", "%s() argument '%s': %s", function, name, err.Error())
}

// pythonType is the name of an item's type in Python.
func pythonType(item []byte) string {
	r := cbor.NewReader(item)
	head, err := r.Head()
	if err != nil {
		return "malformed"
	}
	switch head.Major {
	case cbor.Unsigned, cbor.Negative:
		return "int"
	case cbor.Bytes:
		return "bytes"
	case cbor.Text:
		return "str"
	case cbor.Array:
		return "list"
	case cbor.Map:
		return "dict"
	case cbor.Tagged:
		switch head.Argument {
		case cbor.TagBigInt, cbor.TagNegativeBigInt:
			return "int"
		case cbor.TagSet:
			return "set"
		case cbor.TagTuple:
			return "tuple"
		case cbor.TagFrozenSet:
			return "frozenset"
		case cbor.TagByteArray:
			return "bytearray"
		case cbor.TagToken:
			return "a proxy"
		}
		return "another type"
	}
	switch {
	case head.Width > 0:
		return "float"
	case head.Argument == 22:
		return "NoneType"
	}
	return "bool"
}
