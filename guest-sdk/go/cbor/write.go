package cbor

import (
	"encoding/binary"
	"math"
)

// AppendHead appends a head in its shortest form.
func AppendHead(out []byte, major byte, argument uint64) []byte {
	first := major << 5
	switch {
	case argument < 24:
		return append(out, first|byte(argument))
	case argument <= math.MaxUint8:
		return append(out, first|24, byte(argument))
	case argument <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(out, first|25), uint16(argument))
	case argument <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(out, first|26), uint32(argument))
	}
	return binary.BigEndian.AppendUint64(append(out, first|27), argument)
}

// AppendUint appends an integer.
func AppendUint(out []byte, value uint64) []byte { return AppendHead(out, Unsigned, value) }

// AppendInt appends an integer.
func AppendInt(out []byte, value int64) []byte {
	if value < 0 {
		return AppendHead(out, Negative, ^uint64(value))
	}
	return AppendHead(out, Unsigned, uint64(value))
}

// AppendFloat appends a float, of 8 bytes as all of Steward's.
func AppendFloat(out []byte, value float64) []byte {
	return binary.BigEndian.AppendUint64(append(out, Simple<<5|27), math.Float64bits(value))
}

// AppendBool appends a truth value.
func AppendBool(out []byte, value bool) []byte {
	if value {
		return append(out, True)
	}
	return append(out, False)
}

// AppendNull appends null.
func AppendNull(out []byte) []byte { return append(out, Null) }

// AppendText appends a text, which is to be UTF-8.
func AppendText(out []byte, value string) []byte {
	return append(AppendHead(out, Text, uint64(len(value))), value...)
}

// AppendBytes appends a byte string.
func AppendBytes(out []byte, value []byte) []byte {
	return append(AppendHead(out, Bytes, uint64(len(value))), value...)
}

// AppendArray appends the head of an array of so many items.
func AppendArray(out []byte, items int) []byte { return AppendHead(out, Array, uint64(items)) }

// AppendMap appends the head of a map of so many pairs.
func AppendMap(out []byte, pairs int) []byte { return AppendHead(out, Map, uint64(pairs)) }

// AppendTag appends a tag, which the next item belongs to.
func AppendTag(out []byte, tag uint64) []byte { return AppendHead(out, Tagged, tag) }
