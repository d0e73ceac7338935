package guest

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"steward.dev/guest/cbor"
)

// everything has a field of every kind that has an encoding.
type everything struct {
	Flag   bool
	Small  int8
	Whole  uint64
	Signed int64
	Float  float64
	Single float32
	Text   string
	Bytes  []byte
	Maybe  *uint32
	List   []int32
	Pair   [2]string
	Map    map[string][]bool
	Set    map[int]struct{}
	Tuple  Tuple
	Any    Any
	Free   any
	Inner  struct{ HTTPPort int }
	Tree   *tree
	Named  named `steward:"other"`
	hidden int
	Left   int `steward:"-"`
}

type named string

// tree contains itself in every way there is.
type tree struct {
	Value    int
	Children []tree
	ByName   map[string]*tree
}

func full() everything {
	maybe := uint32(7)
	return everything{
		Flag: true, Small: -128, Whole: math.MaxUint64, Signed: math.MinInt64, Float: 1.1, Single: 1.5, Text: "ü",
		Bytes: []byte{1, 2}, Maybe: &maybe, List: []int32{-1, 300}, Pair: [2]string{"a", "b"},
		Map: map[string][]bool{"x": {true}, "a": {}}, Set: map[int]struct{}{3: {}, 1: {}},
		Tuple: Tuple{int64(1), "x"}, Any: Any{"\x83\x01\x02\x03"}, Free: map[any]any{"k": []any{nil, 2.5, true}},
		Tree:  &tree{1, []tree{{Value: 2, Children: []tree{}, ByName: map[string]*tree{}}}, map[string]*tree{"l": nil}},
		Named: "n",
	}
}

func encoded(t testing.TB, value any) []byte {
	t.Helper()
	out, err := appendValue(nil, value)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsWrittenReadsBack(t *testing.T) {
	want := full()
	item := encoded(t, want)
	var got everything
	if err := decode(item, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v\nnot %+v", got, want)
	}
	for length := range item {
		if decode(item[:length], new(everything)) == nil {
			t.Fatalf("reads from %d of %d bytes", length, len(item))
		}
	}
	if err := decode(append(item, 0), new(everything)); !errors.Is(err, cbor.ErrMalformed) {
		t.Fatal(err)
	}
}

func TestEqualValuesAreEqualBytes(t *testing.T) {
	for range 20 {
		if first, second := encoded(t, full()), encoded(t, full()); string(first) != string(second) {
			t.Fatalf("%x\n%x", first, second)
		}
	}
}

func check[T any](t *testing.T, item string, want T, wantErr error) {
	t.Helper()
	bytes, err := hex.DecodeString(item)
	if err != nil {
		t.Fatal(err)
	}
	var got T
	err = decode(bytes, &got)
	if !errors.Is(err, wantErr) || wantErr == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, %v, not %v, %v", item, got, err, want, wantErr)
	}
}

func TestNumbersConvertAsPythonConvertsThem(t *testing.T) {
	check(t, "02", 2.0, nil)
	check(t, "21", -2.0, nil)
	check(t, "f5", int64(1), nil)
	check(t, "f4", uint8(0), nil)
	check(t, "fb4000000000000000", int64(0), errMismatch)
	check(t, "01", false, errMismatch)
	check(t, "6131", 0, errMismatch)
	check(t, "f6", 0, errMismatch)
	check(t, "18ff", uint8(255), nil)
	check(t, "190100", uint8(0), errRange)
	check(t, "20", uint64(0), errRange)
	check(t, "3b8000000000000000", int64(0), errRange)
	check(t, "1b8000000000000000", int64(0), errRange)
	check(t, "1b8000000000000000", any(uint64(1<<63)), nil)
	check(t, "c249010000000000000000", 0, errRange)
	check(t, "c249010000000000000000", 0.0, errRange)
	check(t, "1880", int8(0), errRange)
}

func TestTuplesListsAndSetsAreAllSequences(t *testing.T) {
	for item, value := range map[string]any{
		"d9d3b8820102": Tuple{1, 2}, "820102": []int{1, 2}, "d90102820102": map[int]struct{}{2: {}, 1: {}}, "80": []int(nil),
		"d9d3b882016161": [2]any{1, "a"}, "4101": []byte{1}, "f6": (*int)(nil), "6161": named("a"),
		"a0": map[string]int{}, "63efbfbd": "\xff",
	} {
		if got := hex.EncodeToString(encoded(t, value)); got != item {
			t.Errorf("%v: %s, not %s", value, got, item)
		}
	}
	for _, tag := range []string{"", "d9d3b8", "d9d3b9", "d90102"} {
		check(t, tag+"820102", []int{1, 2}, nil)
		check(t, tag+"820102", [2]int{1, 2}, nil)
		check(t, tag+"820102", map[int]struct{}{1: {}, 2: {}}, nil)
		check(t, tag+"83010203", [2]int{}, errMismatch)
	}
	check(t, "d9d3ba420102", []byte{1, 2}, nil)
	check(t, "a0", []int{}, errMismatch)
	check(t, "80", map[string]int{}, errMismatch)
}

func TestKeyThatComesTwiceIsRefused(t *testing.T) {
	if err := decode([]byte("\xa2\x01\x01\x01\x02"), &map[int]int{}); err == nil {
		t.Fatal("it is taken")
	}
	check(t, "a1820102f6", any(nil), errMismatch)
}

func TestFieldsMayComeAndGo(t *testing.T) {
	var got struct{ A, B int }
	got.B = 5
	if err := decode(encoded(t, struct{ A, C int }{1, 2}), &got); err != nil || got.A != 1 || got.B != 5 {
		t.Fatal(got, err)
	}
}

func TestDepthIsBoundedBothWays(t *testing.T) {
	deep := strings.Repeat("81", 33) + "01"
	check(t, deep, any(nil), cbor.ErrMalformed)
	check(t, strings.Repeat("d9d3b881", 1000)+"01", any(nil), cbor.ErrMalformed)
	var nested any = 1
	for range 40 {
		nested = []any{nested}
	}
	if _, err := Encode(nested); !errors.Is(err, errDepth) {
		t.Fatal(err)
	}
	loop := &tree{}
	loop.ByName = map[string]*tree{"self": loop}
	if _, err := Encode(loop); !errors.Is(err, errDepth) {
		t.Fatal(err)
	}
}

func TestWhatHasNoEncodingIsAnError(t *testing.T) {
	for _, value := range []any{make(chan int), func() {}, struct{ F func() }{}, []any{1i}} {
		if _, err := Encode(value); err == nil || !strings.Contains(err.Error(), "has no encoding") {
			t.Errorf("%T: %v", value, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encoded(f, full()))
	f.Add([]byte("\xd9\xd3\xc2\x83\x65Queue\x07\xf6"))
	f.Fuzz(func(t *testing.T, item []byte) {
		// Garbage is an error, and what is not is written and read again alike.
		var value any
		if decode(item, &value) == nil {
			first := encoded(t, value)
			var again any
			if err := decode(first, &again); err != nil {
				t.Fatalf("%x: %v", first, err)
			}
			if second := encoded(t, again); string(first) != string(second) {
				t.Fatalf("%x\n%x", first, second)
			}
		}
		_ = decode(item, &everything{})
		_ = decode(item, &[]tree{})
		_ = decode(item, &struct{ Handle Handle }{})
		var visit tokenVisit
		visit.item(string(item))
		_ = bind("T.f", []param{}, item, nil)
	})
}
