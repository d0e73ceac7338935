// Package cbor reads and writes Steward's dialect of CBOR (RFC 8949): definite lengths, known tags, no simple values but
// null, false and true.
//
// Most plugins never need it, since package guest encodes and decodes arguments, results and states by itself. It is
// here for those that look into values without knowing their types, as a container of arbitrary keys must.
package cbor

import (
	"errors"
	"math"
	"unicode/utf8"
)

// Major types: the upper three bits of an item's first byte.
const (
	Unsigned = 0
	Negative = 1
	Bytes    = 2
	Text     = 3
	Array    = 4
	Map      = 5
	Tagged   = 6
	Simple   = 7
)

// Items of one byte.
const (
	False = 0xf4
	True  = 0xf5
	Null  = 0xf6
)

// Tags of the dialect that change what a sequence or byte string is to Python, and that of tokens.
const (
	TagBigInt         = 2
	TagNegativeBigInt = 3
	TagSet            = 258
	TagTuple          = 54_200
	TagFrozenSet      = 54_201
	TagByteArray      = 54_202
	TagToken          = 54_210
)

// ErrMalformed says that bytes are no item of the dialect.
var ErrMalformed = errors.New("malformed item")

// Reader reads items from the front of its bytes. The zero Reader has nothing to read.
type Reader struct {
	rest []byte
}

// NewReader reads item.
func NewReader(item []byte) Reader { return Reader{item} }

// Head is what an item starts with.
type Head struct {
	// Major is the major type.
	Major byte
	// Width is how many bytes the argument took after the first one: 0, 1, 2, 4 or 8.
	Width byte
	// Argument is the number, length, tag or bits of a float.
	Argument uint64
}

// Rest is what has not been read.
func (r *Reader) Rest() []byte { return r.rest }

// Done says whether everything has been read.
func (r *Reader) Done() bool { return len(r.rest) == 0 }

// Peek is the first byte of the next item; false at the end.
func (r *Reader) Peek() (byte, bool) {
	if len(r.rest) == 0 {
		return 0, false
	}
	return r.rest[0], true
}

// Head reads the head of the next item.
func (r *Reader) Head() (Head, error) {
	if len(r.rest) == 0 {
		return Head{}, ErrMalformed
	}
	head := Head{Major: r.rest[0] >> 5}
	small := r.rest[0] & 31
	switch {
	case small < 24:
		head.Argument = uint64(small)
	case small > 27:
		// Indefinite lengths and what is reserved.
		return Head{}, ErrMalformed
	default:
		head.Width = 1 << (small - 24)
		if len(r.rest) <= int(head.Width) {
			return Head{}, ErrMalformed
		}
		for _, digit := range r.rest[1 : 1+head.Width] {
			head.Argument = head.Argument<<8 | uint64(digit)
		}
	}
	if head.Major == Simple {
		if head.Width == 1 || head.Width == 0 && (head.Argument < 20 || head.Argument > 22) {
			return Head{}, ErrMalformed
		}
	}
	r.rest = r.rest[1+head.Width:]
	return head, nil
}

// expect reads a head of this major type.
func (r *Reader) expect(major byte) (uint64, error) {
	head, err := r.Head()
	if err != nil || head.Major != major {
		return 0, ErrMalformed
	}
	return head.Argument, nil
}

// Array reads the head of an array: how many items follow.
func (r *Reader) Array() (int, error) { return r.count(Array, 1) }

// Map reads the head of a map: how many pairs follow.
func (r *Reader) Map() (int, error) { return r.count(Map, 2) }

// count refuses lengths that what is left cannot hold: no item takes less than a byte.
func (r *Reader) count(major byte, each uint64) (int, error) {
	count, err := r.expect(major)
	if err != nil || count > uint64(len(r.rest))/each {
		return 0, ErrMalformed
	}
	return int(count), nil
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() (uint64, error) { return r.expect(Unsigned) }

// Bytes reads a byte string, which it does not copy.
func (r *Reader) Bytes() ([]byte, error) { return r.string(Bytes) }

// Text reads a text, whose bytes it does not copy.
func (r *Reader) Text() ([]byte, error) {
	text, err := r.string(Text)
	if err == nil && !utf8.Valid(text) {
		return nil, ErrMalformed
	}
	return text, err
}

func (r *Reader) string(major byte) ([]byte, error) {
	length, err := r.expect(major)
	if err != nil || length > uint64(len(r.rest)) {
		return nil, ErrMalformed
	}
	found := r.rest[:length:length]
	r.rest = r.rest[length:]
	return found, nil
}

// Null reads null, if that is what comes next.
func (r *Reader) Null() bool {
	if len(r.rest) > 0 && r.rest[0] == Null {
		r.rest = r.rest[1:]
		return true
	}
	return false
}

// Raw reads the next item as a whole, which it does not copy.
func (r *Reader) Raw() ([]byte, error) {
	start := r.rest
	for pending := uint64(1); pending > 0; pending-- {
		head, err := r.Head()
		if err != nil {
			return nil, err
		}
		left := uint64(len(r.rest))
		switch head.Major {
		case Bytes, Text:
			if head.Argument > left {
				return nil, ErrMalformed
			}
			r.rest = r.rest[head.Argument:]
		case Array:
			if head.Argument > left {
				return nil, ErrMalformed
			}
			pending += head.Argument
		case Map:
			if head.Argument > left/2 {
				return nil, ErrMalformed
			}
			pending += 2 * head.Argument
		case Tagged:
			pending++
		}
	}
	length := len(start) - len(r.rest)
	return start[:length:length], nil
}

// Float is the value of a head that is a float; false for another head.
func (h Head) Float() (float64, bool) {
	if h.Major != Simple {
		return 0, false
	}
	switch h.Width {
	case 2:
		return half(uint16(h.Argument)), true
	case 4:
		return float64(math.Float32frombits(uint32(h.Argument))), true
	case 8:
		return math.Float64frombits(h.Argument), true
	}
	return 0, false
}

// half is the value of a float of 16 bits (RFC 8949, appendix D).
func half(bits uint16) float64 {
	exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
	var magnitude float64
	switch {
	case exponent == 0:
		magnitude = math.Ldexp(fraction, -24)
	case exponent == 0x1f && fraction == 0:
		magnitude = math.Inf(1)
	case exponent == 0x1f:
		magnitude = math.NaN()
	default:
		magnitude = math.Ldexp(1024+fraction, exponent-25)
	}
	if bits>>15 != 0 {
		return -magnitude
	}
	return magnitude
}
