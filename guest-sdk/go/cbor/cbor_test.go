package cbor

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	item, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// Every form that a head may have, from RFC 8949, appendix A, as far as the dialect has it.
var items = []string{
	"00", "17", "1818", "1903e8", "1a000f4240", "1b000000e8d4a51000", "1bffffffffffffffff",
	"20", "37", "3818", "3903e7", "3a000f423f", "3bffffffffffffffff",
	"40", "4401020304", "580401020304", "59000101", "5a0000000101", "5b000000000000000101",
	"60", "6161", "62c3bc", "780161", "79000161", "7a0000000161", "7b000000000000000161",
	"80", "83010203", "980101", "99000101", "9a0000000101", "9b000000000000000101", "8301820203820405",
	"a0", "a201020304", "b8010102", "b900010102", "ba000000010102", "bb00000000000000010102", "a26161016162820203",
	"c240", "d8028101", "d903e800", "da0000000200", "db000000000000000200", "d9d3b8820102",
	"f4", "f5", "f6", "f93e00", "fa3fc00000", "fb3ff8000000000000",
}

func TestEveryFormIsReadAndNoFormIsReadFromLess(t *testing.T) {
	for _, text := range items {
		item := unhex(t, text)
		r := NewReader(append(bytes.Clone(item), 0x00))
		if raw, err := r.Raw(); err != nil || !bytes.Equal(raw, item) {
			t.Errorf("%s: %x, %v", text, raw, err)
		}
		for length := range item {
			r := NewReader(item[:length])
			if raw, err := r.Raw(); err == nil {
				t.Errorf("%s cut to %d bytes: %x", text, length, raw)
			}
		}
	}
}

func TestWhatTheDialectDoesNotHaveIsMalformed(t *testing.T) {
	for _, text := range []string{
		"", "1c", "1d", "1e", "1f", "3c", "5f4100ff", "7f6161ff", "9f01ff", "bf0101ff", "ff",
		"f7", "f0", "e0", "f814", "f8ff", "fc", "9bffffffffffffffff", "bb8000000000000000", "5bffffffffffffffff",
	} {
		r := NewReader(unhex(t, text))
		if raw, err := r.Raw(); err != ErrMalformed {
			t.Errorf("%s: %x, %v", text, raw, err)
		}
	}
	r := NewReader(unhex(t, "61ff"))
	if text, err := r.Text(); err == nil {
		t.Errorf("%x is no text", text)
	}
}

func TestHeadsAreWrittenInTheirShortestForm(t *testing.T) {
	for value, want := range map[uint64]string{
		0: "00", 23: "17", 24: "1818", 255: "18ff", 256: "190100", 65535: "19ffff", 65536: "1a00010000",
		math.MaxUint32: "1affffffff", math.MaxUint32 + 1: "1b0000000100000000", math.MaxUint64: "1bffffffffffffffff",
	} {
		if got := hex.EncodeToString(AppendUint(nil, value)); got != want {
			t.Errorf("%d: %s, not %s", value, got, want)
		}
	}
	for value, want := range map[int64]string{-1: "20", -24: "37", -25: "3818", math.MinInt64: "3b7fffffffffffffff"} {
		if got := hex.EncodeToString(AppendInt(nil, value)); got != want {
			t.Errorf("%d: %s, not %s", value, got, want)
		}
	}
	out := AppendNull(AppendBool(AppendBool(AppendFloat(nil, 1.5), true), false))
	out = AppendTag(AppendMap(AppendArray(AppendBytes(AppendText(out, "a"), []byte{1}), 2), 1), TagTuple)
	if got := hex.EncodeToString(out); got != "fb3ff8000000000000f5f4f66161410182a1d9d3b8" {
		t.Error(got)
	}
}

func TestFloatsOfEveryWidthAreRead(t *testing.T) {
	for text, want := range map[string]float64{
		"f90000": 0, "f93c00": 1, "f93e00": 1.5, "f97bff": 65504, "f90001": 5.960464477539063e-8, "f90400": 6.103515625e-05,
		"f9c400": -4, "f97c00": math.Inf(1), "f9fc00": math.Inf(-1), "fa3fc00000": 1.5, "fb3ff199999999999a": 1.1,
	} {
		r := NewReader(unhex(t, text))
		head, err := r.Head()
		if got, is := head.Float(); err != nil || !is || got != want {
			t.Errorf("%s: %v, not %v", text, got, want)
		}
	}
	r := NewReader(unhex(t, "f97e00"))
	if head, _ := r.Head(); !math.IsNaN(first(head.Float())) {
		t.Error("f97e00 is NaN")
	}
}

func first(value float64, _ bool) float64 { return value }

// Raw takes no more than there is, and what it takes it takes again alike.
func FuzzRaw(f *testing.F) {
	for _, text := range items {
		f.Add(unhex(f, text))
	}
	f.Fuzz(func(t *testing.T, item []byte) {
		r := NewReader(item)
		raw, err := r.Raw()
		if err != nil {
			return
		}
		if len(raw)+len(r.Rest()) != len(item) {
			t.Fatalf("%x of %x leaves %x", raw, item, r.Rest())
		}
		again := NewReader(raw)
		if second, err := again.Raw(); err != nil || !bytes.Equal(raw, second) || !again.Done() {
			t.Fatalf("%x again: %x, %v", raw, second, err)
		}
	})
}
