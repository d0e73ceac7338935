package guest

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"

	"steward.dev/guest/cbor"
)

// Any is a value of any type, as its client encoded it. The zero Any is None.
//
// A container keeps its elements so: what it does not look into travels unharmed (sets, dates, a client's own pickles),
// and costs no decoding. Two are equal, by ==, if their encodings are; an Any can be a map's key.
//
// Tokens inside are held while the value is stored in the object: see [Handle].
type Any struct {
	// item is immutable, so that copies share it. "" stands for null, so that there is a zero value.
	item string
}

// AnyOf takes an item that is encoded already.
func AnyOf(item []byte) Any { return Any{string(item)} }

// Bytes is the encoding.
func (a Any) Bytes() []byte { return a.append(nil) }

// Encoding is the same as a string, which is not copied: for keys of maps that are not to hold tokens.
func (a Any) Encoding() string {
	if a.item == "" {
		return "\xf6"
	}
	return a.item
}

// Len is how many bytes the encoding takes.
func (a Any) Len() int { return max(len(a.item), 1) }

// IsNone says whether it is None.
func (a Any) IsNone() bool { return a.item == "" || a.item == "\xf6" }

// Decode decodes the value into what a pointer points to. Errors: it is no such value.
func (a Any) Decode(into any) error { return decode(a.Bytes(), into) }

// String shows the encoding in hexadecimal.
func (a Any) String() string { return "Any(" + hex.EncodeToString(a.Bytes()) + ")" }

func (a Any) append(out []byte) []byte {
	if a.item == "" {
		return cbor.AppendNull(out)
	}
	return append(out, a.item...)
}

// Handle is a token that this object stores: while it does, the object that the token names stays alive.
//
// Take one as a parameter and keep it in a field, or do not: what the fields hold is looked up after each step that may have
// changed it. A handle is also what to return to a client, who gets a proxy.
type Handle struct {
	typeid  string
	ident   uint64
	address string
}

// TypeID is the name of the object's type.
func (h Handle) TypeID() string { return h.typeid }

// Ident is the object's number.
func (h Handle) Ident() uint64 { return h.ident }

// Address is where the object's host listens, if that is another one, and else "". Such objects are not kept alive.
func (h Handle) Address() string { return h.address }

func (h Handle) append(out []byte) []byte {
	out = cbor.AppendArray(cbor.AppendTag(out, cbor.TagToken), 3)
	out = cbor.AppendUint(appendText(out, h.typeid), h.ident)
	if h.address == "" {
		return cbor.AppendNull(out)
	}
	return appendText(out, h.address)
}

func decodeHandle(r *reader) (Handle, error) {
	if major(r) != cbor.Tagged {
		return Handle{}, mismatchOr(r)
	}
	head, err := r.Head()
	if err != nil {
		return Handle{}, err
	}
	if head.Argument != cbor.TagToken {
		return Handle{}, errMismatch
	}
	handle, err := tokenBody(&r.Reader)
	if err != nil {
		return Handle{}, errMismatch
	}
	return handle, nil
}

// tokenBody reads `[typeid, ident, address or null]`.
func tokenBody(r *cbor.Reader) (Handle, error) {
	count, err := r.Array()
	if err != nil || count != 3 {
		return Handle{}, cbor.ErrMalformed
	}
	typeid, err := r.Text()
	if err != nil {
		return Handle{}, err
	}
	ident, err := r.Uint()
	if err != nil || r.Null() {
		return Handle{string(typeid), ident, ""}, err
	}
	address, err := r.Text()
	return Handle{string(typeid), ident, string(address)}, err
}

// tokenMark ends every head of a token's tag, however wide it is: most items are seen to have no tokens by this.
const tokenMark = "\xd3\xc2"

func mayHoldTokens(item []byte) bool {
	if len(item) > 64 {
		return bytes.Contains(item, []byte(tokenMark))
	}
	for at := 1; at < len(item); at++ {
		if item[at] == tokenMark[1] && item[at-1] == tokenMark[0] {
			return true
		}
	}
	return false
}

// tokenVisit collects the idents of tokens.
type tokenVisit struct {
	idents []uint64
	// seen are the pointers that were followed: what is reached twice is stored once.
	seen map[uintptr]struct{}
}

func (t *tokenVisit) isNew(pointer uintptr) bool {
	if t.seen == nil {
		t.seen = map[uintptr]struct{}{}
	}
	before := len(t.seen)
	t.seen[pointer] = struct{}{}
	return len(t.seen) > before
}

func (t *tokenVisit) handle(ident uint64, address string) {
	if address == "" && ident != 0 {
		t.idents = append(t.idents, ident)
	}
}

// item adds the tokens of an item; those of other hosts are left out. Stops at what is no item.
func (t *tokenVisit) item(item string) {
	if !strings.Contains(item, tokenMark) {
		return
	}
	r := cbor.NewReader([]byte(item))
	for !r.Done() {
		var err error
		switch major(&reader{Reader: r}) {
		case cbor.Bytes:
			_, err = r.Bytes()
		case cbor.Text:
			_, err = r.Text()
		default:
			var head cbor.Head
			head, err = r.Head()
			if err == nil && head.Major == cbor.Tagged && head.Argument == cbor.TagToken {
				var token Handle
				token, err = tokenBody(&r)
				if err == nil {
					t.handle(token.ident, token.address)
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// tokensOf are the idents of the tokens in an object, ascending, each as often as it is stored.
func tokensOf(pointer any) []uint64 {
	v := reflect.ValueOf(pointer)
	var visit tokenVisit
	codecOf(v.Type()).visit(v, &visit)
	slices.Sort(visit.idents)
	return visit.idents
}

// difference is what `after` has more than `before` and less; both ascend.
func difference(before, after []uint64) (more, less []uint64) {
	for len(before) > 0 || len(after) > 0 {
		switch {
		case len(before) == 0 || len(after) > 0 && after[0] < before[0]:
			more, after = append(more, after[0]), after[1:]
		case len(after) == 0 || before[0] < after[0]:
			less, before = append(less, before[0]), before[1:]
		default:
			before, after = before[1:], after[1:]
		}
	}
	return more, less
}
