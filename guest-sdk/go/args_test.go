package guest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"steward.dev/guest/cbor"
	"steward.dev/guest/internal/world"
)

// bound is what each parameter of a signature gets, as text: `-` for nothing.
func bound(t *testing.T, signature string, args Arguments) string {
	t.Helper()
	specs, _, wrong := parseSignature(signature)
	if wrong != "" {
		t.Fatal(wrong)
	}
	params := make([]param, len(specs))
	for at, spec := range specs {
		params[at].Param = world.Param{Name: spec.name, Kind: spec.kind, HasDefault: spec.hasDefault}
	}
	slots := make([]slot, len(params))
	if err := bind("T.f", params, args.Encode(), slots); err != nil {
		return err.(*Fault).Message
	}
	var texts []string
	for at := range slots {
		text := "-"
		switch {
		case slots[at].keywords != nil:
			text = ""
			for _, keyword := range slots[at].keywords {
				text += fmt.Sprintf("%s=%x,", keyword.Name, keyword.Value.Bytes())
			}
		case slots[at].item != nil:
			text = fmt.Sprintf("%x", slots[at].item)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, " ")
}

func TestPlacesThenKeywordsFillTheSlots(t *testing.T) {
	for _, c := range []struct {
		signature string
		args      Arguments
		want      string
	}{
		{"(a, b=2)", Args(1), "01 -"},
		{"(a, b=2)", Args().With("b", 5).With("a", 1), "01 05"},
		{"(a, *rest)", Args(1, 2, 3), "01 0203"},
		{"(a, *, k, **keywords)", Args(1).With("x", 2).With("k", 3).With("y", 4), "01 03 x=02,y=04,"},
		{"(a, b)", Args(), "T.f() missing 2 required positional arguments: 'a' and 'b'"},
		{"(a, b, c)", Args(), "T.f() missing 3 required positional arguments: 'a', 'b', and 'c'"},
		{"(a, *, k)", Args(1), "T.f() missing 1 required keyword-only argument: 'k'"},
		{"()", Args(1), "T.f() takes 1 positional argument but 2 were given"},
		{"(a, b=2)", Args(1, 2, 3), "T.f() takes from 2 to 3 positional arguments but 4 were given"},
		{"(a)", Args(1).With("a", 2), "T.f() got multiple values for argument 'a'"},
		{"(a, *rest)", Args(1).With("rest", 2), "T.f() got an unexpected keyword argument 'rest'"},
	} {
		if got := bound(t, c.signature, c.args); got != c.want {
			t.Errorf("%s: %s\nnot %s", c.signature, got, c.want)
		}
	}
}

func TestMalformedArgumentsAreRefused(t *testing.T) {
	whole := Args(1, "two").With("three", 3).Encode()
	params := []param{{Param: world.Param{Name: "a"}}, {Param: world.Param{Name: "b"}}, {Param: world.Param{Name: "three"}}}
	slots := make([]slot, len(params))
	if err := bind("T.f", params, whole, slots); err != nil {
		t.Fatal(err)
	}
	for length := range whole {
		err := bind("T.f", params, whole[:length], slots)
		if err == nil || !strings.Contains(err.Error(), "malformed") {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

func TestSignaturesAreReadAsPythonWritesThem(t *testing.T) {
	specs, result, wrong := parseSignature("(a: list[int, str], b: str = 'x, y', *rest, k=(1, 2), **more) -> dict[str, int]")
	want := []paramSpec{
		{name: "a", python: "list[int, str]"},
		{name: "b", python: "str", fallback: "'x, y'", hasDefault: true},
		{name: "rest", kind: world.Rest},
		{name: "k", fallback: "(1, 2)", hasDefault: true, kind: world.KeywordOnly},
		{name: "more", kind: world.Keywords},
	}
	if wrong != "" || result != "dict[str, int]" || !reflect.DeepEqual(specs, want) {
		t.Fatalf("%+v %s %s", specs, result, wrong)
	}
	for _, signature := range []string{"(a", "a)", "(a b)", "(=1)", "(a, , b)"} {
		if _, _, wrong := parseSignature(signature); wrong == "" {
			t.Errorf("%s is taken", signature)
		}
	}
}

func TestDefaultsAreLiteralsOfPython(t *testing.T) {
	for literal, want := range map[string]any{
		"None": nil, "True": true, "-3": -3, "1.0": 1.0, "1e3": 1e3, "'it''s'": nil, `"a\n"`: "a\n", `'say "x"'`: `say "x"`,
		"[]": []int{}, "(1, 'a')": Tuple{1, "a"}, "[[1], 2]": []any{[]int{1}, 2}, "{}": map[string]int{},
	} {
		got, err := parseLiteral(literal)
		if literal == "'it''s'" {
			continue
		}
		if err != nil || string(got) != string(encoded(t, want)) {
			t.Errorf("%s: %x, %v", literal, got, err)
		}
	}
	for _, literal := range []string{"", "none", "x", "[1", "1_000", "99999999999999999999999x"} {
		if got, err := parseLiteral(literal); err == nil {
			t.Errorf("%s: %x", literal, got)
		}
	}
}

func TestWrongTypesAreNamed(t *testing.T) {
	p := &param{Param: world.Param{Name: "a", Type: "int"}, codec: codecOf(reflect.TypeFor[uint8]())}
	for item, want := range map[string]string{
		"\x61x":            "TypeError: T.f() argument 'a' must be int, not str",
		"\xf6":             "TypeError: T.f() argument 'a' must be int, not NoneType",
		"\x20":             "OverflowError: T.f() argument 'a' is out of range",
		"\xd9\xd3\xb8\x80": "TypeError: T.f() argument 'a' must be int, not tuple",
		"\xf9\x3e\x00":     "TypeError: T.f() argument 'a' must be int, not float",
	} {
		err := decodeItem([]byte(item), p.codec, reflect.New(reflect.TypeFor[uint8]()).Elem())
		if got := refuse("T.f", p, []byte(item), err).Error(); got != want {
			t.Errorf("%x: %s\nnot %s", item, got, want)
		}
	}
}

func TestTokensAreCountedWhereverTheyAre(t *testing.T) {
	token := func(ident uint64) string {
		return string(Handle{"Queue", ident, ""}.append(nil))
	}
	type node struct {
		Handles map[string]Handle
		items   []any
		next    *node
	}
	first := &node{Handles: map[string]Handle{"a": {"Queue", 300, ""}, "b": {"Queue", 5, "elsewhere"}}}
	first.items = []any{Any{"\x82" + token(9) + token(9)}, 1, nil}
	first.next = &node{items: []any{Handle{"Lock", 2, ""}}, next: first}
	if got := tokensOf(first); !reflect.DeepEqual(got, []uint64{2, 9, 9, 300}) {
		t.Fatal(got)
	}
	// Bytes that look like a token hold nothing.
	looksLike := cbor.AppendBytes(nil, []byte(token(7)))
	if got := tokensOf(&node{items: []any{AnyOf(looksLike)}}); got != nil {
		t.Fatal(got)
	}
	more, less := difference([]uint64{1, 2, 2, 5}, []uint64{2, 3, 5, 5})
	if !reflect.DeepEqual(more, []uint64{3, 5}) || !reflect.DeepEqual(less, []uint64{1, 2}) {
		t.Fatal(more, less)
	}
}
