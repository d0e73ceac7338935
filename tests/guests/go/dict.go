package main

import (
	"slices"
	"strconv"
	"strings"

	"steward.dev/guest"
	"steward.dev/guest/cbor"
)

// A dict.
type dict struct {
	// pairs stand in the order their keys came; removed ones leave a hole until half are holes.
	pairs []pair
	// places is where each key stands; keys that Python takes for the same have the same text.
	places map[string]int
	// nans counts keys that equal nothing.
	nans int
}

type pair struct {
	key, value guest.Any
	// id is the key in places; "" if this is a hole.
	id string
}

// A dict of the pairs of a mapping or of an iterable of pairs, and of the keywords.
func NewDict(other []guest.Any, kwargs guest.Keywords) (*dict, error) {
	made := &dict{places: map[string]int{}}
	return made, made.absorb("dict", other, kwargs)
}

// Says whether a key is in the dict.
func (d *dict) Contains(key guest.Any) (bool, error) {
	found, err := d.find(key)
	return found != nil, err
}

// Removes a key. Raises KeyError if it is not there.
func (d *dict) Delitem(key guest.Any) error {
	_, err := d.Pop(key)
	return err
}

// Returns the value of a key. Raises KeyError if it is not there.
func (d *dict) Getitem(key guest.Any) (guest.Any, error) {
	found, err := d.find(key)
	if err == nil && found == nil {
		err = keyError(key)
	}
	if err != nil {
		return guest.Any{}, err
	}
	return found.value, nil
}

// Returns the number of keys.
func (d *dict) Len() int { return len(d.places) }

// Sets the value of a key.
func (d *dict) Setitem(key, value guest.Any) error {
	id, err := keyOf(key)
	if err != nil {
		return err
	}
	if id == "" {
		// NaN equals nothing, so each is a key of its own, which no other key's text can be.
		d.nans++
		id = "nan " + strconv.Itoa(d.nans)
	}
	if at, has := d.places[id]; has {
		// The first key stays, as in Python.
		d.pairs[at].value = value
		return nil
	}
	d.places[id] = len(d.pairs)
	d.pairs = append(d.pairs, pair{key, value, id})
	return nil
}

// Removes all keys.
func (d *dict) Clear() { d.pairs, d.places = nil, map[string]int{} }

// Returns a copy.
func (d *dict) Copy() guest.Any {
	out := cbor.AppendMap(nil, d.Len())
	for _, pair := range d.live() {
		out = append(append(out, pair.key.Bytes()...), pair.value.Bytes()...)
	}
	return guest.AnyOf(out)
}

// Returns the value of a key, or `default`.
func (d *dict) Get(key, fallback guest.Any) (guest.Any, error) {
	found, err := d.find(key)
	if found == nil {
		return fallback, err
	}
	return found.value, nil
}

// Returns a list of pairs.
func (d *dict) Items() []guest.Tuple {
	items := []guest.Tuple{}
	for _, pair := range d.live() {
		items = append(items, guest.Tuple{pair.key, pair.value})
	}
	return items
}

// Returns a list of the keys.
func (d *dict) Keys() []guest.Any {
	keys := []guest.Any{}
	for _, pair := range d.live() {
		keys = append(keys, pair.key)
	}
	return keys
}

// Removes a key and returns its value, or `default`. Raises KeyError if it is not there and no default is given.
func (d *dict) Pop(key guest.Any, fallback ...guest.Any) (guest.Any, error) {
	id, err := keyOf(key)
	if err != nil {
		return guest.Any{}, err
	}
	if at, has := d.places[id]; has {
		value := d.pairs[at].value
		d.remove(at)
		return value, nil
	}
	if len(fallback) > 0 {
		return fallback[0], nil
	}
	return guest.Any{}, keyError(key)
}

// Removes and returns the newest pair. Raises KeyError if the dict is empty.
func (d *dict) Popitem() (guest.Tuple, error) {
	for at := len(d.pairs) - 1; at >= 0; at-- {
		if pair := d.pairs[at]; pair.id != "" {
			d.remove(at)
			return guest.Tuple{pair.key, pair.value}, nil
		}
	}
	message, err := guest.Encode("popitem(): dictionary is empty")
	if err != nil {
		return nil, err
	}
	return nil, keyError(message)
}

// Returns the value of a key, which is set to `default` first if it is missing.
func (d *dict) Setdefault(key, fallback guest.Any) (guest.Any, error) {
	found, err := d.find(key)
	if found != nil || err != nil {
		return found.orNone(), err
	}
	return fallback, d.Setitem(key, fallback)
}

// Takes over the pairs of a mapping or of an iterable of pairs, and the keyword arguments, in one step.
func (d *dict) Update(other []guest.Any, kwargs guest.Keywords) error {
	return d.absorb("update", other, kwargs)
}

// Returns a list of the values.
func (d *dict) Values() []guest.Any {
	values := []guest.Any{}
	for _, pair := range d.live() {
		values = append(values, pair.value)
	}
	return values
}

// A copy for `_getvalue()`.
func (d *dict) Value() guest.Any { return d.Copy() }

// `str(dict)`.
func (d *dict) Str() string {
	var shown []string
	for _, pair := range d.live() {
		shown = append(shown, repr(pair.key)+": "+repr(pair.value))
	}
	return "{" + strings.Join(shown, ", ") + "}"
}

// `repr(dict)`.
func (d *dict) Repr() string { return d.Str() }

// Save gives the pairs in their order.
func (d *dict) Save() any { return d.Items() }

// Load takes them over.
func (d *dict) Load(_ *guest.Context, state guest.Any, _ string) error {
	d.places = map[string]int{}
	return d.absorb("load", []guest.Any{state}, nil)
}

func (p *pair) orNone() guest.Any {
	if p == nil {
		return guest.Any{}
	}
	return p.value
}

// Room for a key that is looked up, and for its encoding: a guest has one thread.
var room, encoding [64]byte

func (d *dict) find(key guest.Any) (*pair, error) {
	r := cbor.NewReader(append(encoding[:0], key.Encoding()...))
	id, same, err := appendKey(room[:0], &r)
	if !same || err != nil {
		return nil, err
	}
	if at, has := d.places[string(id)]; has {
		return &d.pairs[at], nil
	}
	return nil, nil
}

func (d *dict) remove(at int) {
	delete(d.places, d.pairs[at].id)
	d.pairs[at] = pair{}
	if len(d.pairs) > 2*len(d.places) {
		d.pairs = d.live()
		for at, pair := range d.pairs {
			d.places[pair.id] = at
		}
	}
}

func (d *dict) live() []pair {
	return slices.DeleteFunc(slices.Clone(d.pairs), func(p pair) bool { return p.id == "" })
}

// absorb sets all pairs, or none if one of them cannot be.
func (d *dict) absorb(name string, other []guest.Any, kwargs guest.Keywords) error {
	if len(other) > 1 {
		return guest.Raise("TypeError", "%s expected at most 1 argument, got %d", name, len(other))
	}
	var pairs [][2]guest.Any
	for _, other := range other {
		var err error
		if pairs, err = pairsOf(other); err != nil {
			return guest.Raise("TypeError", "%v", err)
		}
	}
	for _, keyword := range kwargs {
		name, err := guest.Encode(keyword.Name)
		if err != nil {
			return err
		}
		pairs = append(pairs, [2]guest.Any{name, keyword.Value})
	}
	for _, pair := range pairs {
		if _, err := keyOf(pair[0]); err != nil {
			return err
		}
	}
	for _, pair := range pairs {
		if err := d.Setitem(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// pairsOf are the pairs of a mapping or of an iterable of pairs.
func pairsOf(other guest.Any) (pairs [][2]guest.Any, err error) {
	r := cbor.NewReader(other.Bytes())
	first, _ := r.Peek()
	if first>>5 != cbor.Map {
		return pairs, other.Decode(&pairs)
	}
	count, err := r.Map()
	for range count {
		var pair [2]guest.Any
		for at := range pair {
			item, err := r.Raw()
			if err != nil {
				return nil, err
			}
			pair[at] = guest.AnyOf(item)
		}
		pairs = append(pairs, pair)
	}
	return pairs, err
}

func keyError(key guest.Any) error { return guest.Raise("KeyError", "%s", repr(key)).WithData(key) }
