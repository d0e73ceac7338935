package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"steward.dev/guest"
	"steward.dev/guest/guesttest"
)

func stats(t *testing.T, cache *guesttest.Harness) Stats {
	t.Helper()
	return guesttest.Value[Stats](cache.Call("stats"))
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	cache := guesttest.New[LruCache](t, 2)
	cache.Call("put", "a", 1).Is(nil)
	cache.Call("put", "b", []int{2}).Is(nil)
	cache.Call("get", "a").Is(1)
	cache.Call("put", "c", 3).Is(nil)
	cache.Call("get", "b").Is(nil)
	cache.Call("get", "b", "gone").Is("gone")
	cache.Call("peek", "a").Is(1)
	cache.Call("touch", "a").Is(true)
	cache.Call("put", "d", 4).Is(nil)
	cache.Call("peek", "c").Is(nil)
	cache.Call("peek", "a").Is(1)
	if got := stats(t, cache); got.Entries != 2 || got.Hits != 1 || got.Misses != 2 || got.Evicted != 2 {
		t.Fatalf("%+v", got)
	}
}

func TestOldEntriesAreNeverSeenAndLeaveByThemselves(t *testing.T) {
	cache, err := guesttest.Try[LruCache](t, guest.Args().With("ttl", 10))
	if err != nil {
		t.Fatal(err)
	}
	cache.Call("put", "a", 1).Is(nil)
	cache.Call("put", "b", 2, 20.0).Is(nil)
	cache.Call("put", "c", 3, 0.0).Is(nil)
	cache.Advance(9_999)
	cache.Call("peek", "a").Is(1)
	cache.Advance(1)
	cache.Call("peek", "a").Is(nil)
	cache.Call("len").Is(2)
	cache.Advance(1_000)
	if got := stats(t, cache); got.Entries != 2 || got.Expired != 1 {
		t.Fatalf("%+v", got)
	}
	cache.Call("touch", "b", 5.0).Is(true)
	cache.Advance(6_000)
	cache.Reload()
	cache.Advance(1_000_000)
	if got := stats(t, cache); got.Entries != 1 || got.Expired != 2 || got.Bytes != 67 {
		t.Fatalf("%+v", got)
	}
	cache.Call("touch", "b").Is(false)
}

func TestBytesAreBounded(t *testing.T) {
	cache := guesttest.New[LruCache](t, 100, 300)
	cache.Call("put", "large", make([]byte, 300)).Raises("ValueError", "the entry takes 373 bytes, limit is 300")
	for key := range 10 {
		cache.Call("put", key, "x").Is(nil)
	}
	cache.Call("len").Is(4)
	cache.CallAs(guest.Owner{}, "resize", guest.Args().With("max_bytes", 150)).Is(nil)
	cache.Call("len").Is(2)
	cache.Call("pop", 9).Is("x")
	cache.Call("pop", 9, "none").Is("none")
	if kind, _ := cache.Call("pop", 9).Raised(); kind != "KeyError" {
		t.Fatal(kind)
	}
	cache.Call("resize", 0).Raises("ValueError", "max_entries is 0, must be 1 or more")
	cache.Call("clear").Is(nil)
	if got := stats(t, cache); got.Entries != 0 || got.Bytes != 0 {
		t.Fatalf("%+v", got)
	}
}

func TestProxiesAreHeldAsLongAsTheirEntries(t *testing.T) {
	token := guest.AnyOf([]byte("\xd9\xd3\xc2\x83\x65Queue\x07\xf6"))
	cache := guesttest.New[LruCache](t, 1)
	cache.Call("put", "a", token).Is(nil)
	if held := cache.Held(); !slices.Equal(held, []uint64{7}) {
		t.Fatal(held)
	}
	cache.Call("put", "b", 1).Is(nil)
	if held := cache.Held(); len(held) != 0 {
		t.Fatal(held)
	}
}

// The cache does what a list does that is searched from its end.
func TestRandomUseAgreesWithAList(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		cache := guesttest.New[LruCache](t, 5)
		var model []int
		for range 300 {
			key := random.IntN(10)
			at := slices.Index(model, key)
			switch random.IntN(3) {
			case 0:
				cache.Call("put", key, key).Is(nil)
			case 1:
				if at < 0 {
					cache.Call("get", key).Is(nil)
					continue
				}
				cache.Call("get", key).Is(key)
			case 2:
				cache.Call("pop", key, nil)
				if at >= 0 {
					model = slices.Delete(model, at, at+1)
				}
				continue
			}
			if at >= 0 {
				model = slices.Delete(model, at, at+1)
			}
			model = append(model, key)
			if len(model) > 5 {
				model = model[1:]
			}
		}
		cache.Reload()
		cache.Call("len").Is(len(model))
		for _, key := range model {
			cache.Call("peek", key).Is(key)
		}
	}
}
