package main

import (
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"steward.dev/guest"
	"steward.dev/guest/cbor"
)

// Python's keys and repr, of the values that JSON has, bytes, tuples and sets. What is rarer (dates, decimals, …) is a key by its
// encoding and shows as such.

// keyOf is what the values that Python takes for the same key have in common; "" for one that equals nothing.
func keyOf(item guest.Any) (string, error) {
	r := cbor.NewReader(item.Bytes())
	key, same, err := appendKey(nil, &r)
	if !same || err != nil {
		return "", err
	}
	return string(key), nil
}

func appendKey(out []byte, r *cbor.Reader) (key []byte, same bool, err error) {
	start := *r
	head, err := r.Head()
	if err != nil {
		return out, false, err
	}
	switch head.Major {
	case cbor.Unsigned:
		if head.Argument <= math.MaxInt64 {
			return appendSmall(out, int64(head.Argument)), true, nil
		}
		return appendNumber(out, new(big.Int).SetUint64(head.Argument)), true, nil
	case cbor.Negative:
		if head.Argument <= math.MaxInt64 {
			return appendSmall(out, ^int64(head.Argument)), true, nil
		}
		return appendNumber(out, new(big.Int).Not(new(big.Int).SetUint64(head.Argument))), true, nil
	case cbor.Bytes, cbor.Text:
		*r = start
		item, err := r.Raw()
		return append(out, item...), true, err
	case cbor.Array:
		return out, false, unhashable("list")
	case cbor.Map:
		return out, false, unhashable("dict")
	case cbor.Simple:
		value, isFloat := head.Float()
		switch {
		case isFloat && math.IsNaN(value):
			return out, false, nil
		case isFloat && value == math.Trunc(value) && !math.IsInf(value, 0):
			whole, _ := big.NewFloat(value).Int(nil)
			return appendNumber(out, whole), true, nil
		case isFloat:
			return cbor.AppendFloat(out, value), true, nil
		case head.Argument == 22:
			return cbor.AppendNull(out), true, nil
		}
		return appendSmall(out, int64(head.Argument)-20), true, nil
	}
	switch head.Argument {
	case cbor.TagBigInt, cbor.TagNegativeBigInt:
		digits, err := r.Bytes()
		return appendNumber(out, bigInt(head.Argument, digits)), true, err
	case cbor.TagSet:
		return out, false, unhashable("set")
	case cbor.TagByteArray:
		return out, false, unhashable("bytearray")
	case cbor.TagTuple, cbor.TagFrozenSet:
		count, err := r.Array()
		if err != nil {
			return out, false, err
		}
		same = true
		elements := make([][]byte, count)
		for at := range elements {
			var found bool
			// Go on after NaN: a later element may be unhashable.
			if elements[at], found, err = appendKey(nil, r); err != nil {
				return out, false, err
			}
			same = same && found
		}
		if head.Argument == cbor.TagFrozenSet {
			slices.SortFunc(elements, slices.Compare)
		}
		out = cbor.AppendArray(cbor.AppendTag(out, head.Argument), count)
		for _, element := range elements {
			out = append(out, element...)
		}
		return out, same, nil
	}
	*r = start
	item, err := r.Raw()
	return append(out, item...), true, err
}

func unhashable(typ string) error { return guest.Raise("TypeError", "unhashable type: '%s'", typ) }

// appendSmall is what appendNumber is for most numbers.
func appendSmall(out []byte, value int64) []byte {
	return binary.BigEndian.AppendUint64(append(out, 0xfe), uint64(value))
}

func appendNumber(out []byte, value *big.Int) []byte {
	if value.IsInt64() {
		return appendSmall(out, value.Int64())
	}
	text := value.Text(16)
	out = binary.BigEndian.AppendUint32(append(out, 0xff), uint32(len(text)))
	return append(out, text...)
}

func bigInt(tag uint64, digits []byte) *big.Int {
	value := new(big.Int).SetBytes(digits)
	if tag == cbor.TagNegativeBigInt {
		value.Not(value)
	}
	return value
}

// repr is Python's.
func repr(item guest.Any) string {
	r := cbor.NewReader(item.Bytes())
	var out strings.Builder
	if writeRepr(&out, &r) != nil {
		return "<value>"
	}
	return out.String()
}

func writeRepr(out *strings.Builder, r *cbor.Reader) error {
	start := *r
	head, err := r.Head()
	if err != nil {
		return err
	}
	switch head.Major {
	case cbor.Unsigned:
		out.WriteString(strconv.FormatUint(head.Argument, 10))
		return nil
	case cbor.Negative:
		out.WriteString(new(big.Int).Not(new(big.Int).SetUint64(head.Argument)).String())
		return nil
	case cbor.Bytes:
		*r = start
		found, err := r.Bytes()
		out.WriteByte('b')
		writeQuoted(out, found, false)
		return err
	case cbor.Text:
		*r = start
		found, err := r.Text()
		writeQuoted(out, found, true)
		return err
	case cbor.Array:
		return writeItems(out, r, "[", head.Argument, "]")
	case cbor.Map:
		out.WriteByte('{')
		for at := range head.Argument {
			if at > 0 {
				out.WriteString(", ")
			}
			if err := writeRepr(out, r); err != nil {
				return err
			}
			out.WriteString(": ")
			if err := writeRepr(out, r); err != nil {
				return err
			}
		}
		out.WriteByte('}')
		return nil
	case cbor.Simple:
		if value, isFloat := head.Float(); isFloat {
			out.WriteString(floatRepr(value))
		} else {
			out.WriteString([]string{"False", "True", "None"}[head.Argument-20])
		}
		return nil
	}
	switch head.Argument {
	case cbor.TagBigInt, cbor.TagNegativeBigInt:
		digits, err := r.Bytes()
		out.WriteString(bigInt(head.Argument, digits).String())
		return err
	case cbor.TagByteArray:
		out.WriteString("bytearray(")
		err := writeRepr(out, r)
		out.WriteByte(')')
		return err
	case cbor.TagTuple, cbor.TagSet, cbor.TagFrozenSet:
		count, err := r.Array()
		switch {
		case err != nil:
			return err
		case head.Argument == cbor.TagTuple && count == 1:
			return writeItems(out, r, "(", 1, ",)")
		case head.Argument == cbor.TagTuple:
			return writeItems(out, r, "(", uint64(count), ")")
		case head.Argument == cbor.TagSet && count == 0:
			out.WriteString("set()")
			return nil
		case head.Argument == cbor.TagSet:
			return writeItems(out, r, "{", uint64(count), "}")
		case count == 0:
			out.WriteString("frozenset()")
			return nil
		}
		return writeItems(out, r, "frozenset({", uint64(count), "})")
	}
	*r = start
	item, err := r.Raw()
	out.WriteString(guest.AnyOf(item).String())
	return err
}

func writeItems(out *strings.Builder, r *cbor.Reader, before string, count uint64, after string) error {
	out.WriteString(before)
	for at := range count {
		if at > 0 {
			out.WriteString(", ")
		}
		if err := writeRepr(out, r); err != nil {
			return err
		}
	}
	out.WriteString(after)
	return nil
}

func floatRepr(value float64) string {
	switch {
	case math.IsNaN(value):
		return "nan"
	case math.IsInf(value, 0):
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(value, 'g', -1, 64), "+"))
	}
	if size := math.Abs(value); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.FormatFloat(value, 'e', -1, 64)
	}
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// writeQuoted quotes as Python does: in single quotes, unless only single ones occur inside.
func writeQuoted(out *strings.Builder, found []byte, isText bool) {
	quote := '\''
	if slices.Contains(found, '\'') && !slices.Contains(found, '"') {
		quote = '"'
	}
	runes := []rune(string(found))
	if !isText {
		runes = runes[:0]
		for _, b := range found {
			runes = append(runes, rune(b))
		}
	}
	out.WriteRune(quote)
	for _, c := range runes {
		switch {
		case c == quote || c == '\\':
			out.WriteByte('\\')
			out.WriteRune(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c < 0x20 || c == 0x7f || c < 0x100 && (!isText || !unicode.IsPrint(c)) && c > 0x7f:
			out.WriteString(`\x` + hex(c, 2))
		case !unicode.IsPrint(c) && c > 0xffff:
			out.WriteString(`\U` + hex(c, 8))
		case !unicode.IsPrint(c) && c > 0x7f:
			out.WriteString(`\u` + hex(c, 4))
		default:
			out.WriteRune(c)
		}
	}
	out.WriteRune(quote)
}

func hex(c rune, digits int) string {
	text := strconv.FormatInt(int64(c), 16)
	return strings.Repeat("0", digits-len(text)) + text
}
