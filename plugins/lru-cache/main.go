// A cache that forgets what was not used for longest, and what is too old.
package main

import (
	"math"

	"steward.dev/guest"
)

// entryBytes is what an entry counts beside its key and value.
const entryBytes = 64

// sweepMs is how far apart the sweeps for entries that are too old lie at least.
const sweepMs = 1000

// none is no place.
const none = -1

// LruCache holds values by keys, as many as fit. To make room it evicts those that were not used for longest.
//
// Keys are equal if their encodings are: 1 and 1.0 are two keys, other than in a dict. A value that is too old is never seen, and its
// memory is free a second later at the latest, or as soon as there is need.
type LruCache struct {
	maxEntries, maxBytes int64
	// ttlMs is how long entries live that do not say; 0: for ever.
	ttlMs int64

	// slots hold the entries, in a list from the newest to the oldest by their places; free ones are linked as well.
	slots                []entry
	newest, oldest, free int
	places               map[string]int
	bytes                int64

	hits, misses, evicted, expired int64
}

type entry struct {
	key, value guest.Any
	// expiresMs 0: never.
	expiresMs    int64
	newer, older int
}

// NewLruCache makes a cache for `max_entries` entries and `max_bytes` bytes of encoded keys and values (64 are added for each; 0: no
// limit), which live `ttl` seconds (0: for ever).
func NewLruCache(maxEntries, maxBytes int64, ttl float64) (*LruCache, error) {
	l := &LruCache{newest: none, oldest: none, free: none, places: map[string]int{}}
	l.limit(maxEntries, maxBytes)
	l.ttlMs = milliseconds(ttl)
	return l, nil
}

// Put sets the value of a key, which lives `ttl` seconds, or as long as the cache says. Raises ValueError if it alone is larger than
// the cache.
func (l *LruCache) Put(c *guest.Context, key, value guest.Any, ttl *float64) {
	size := sizeOf(key, value)
	guest.Require(l.maxBytes == 0 || size <= l.maxBytes, "the entry takes %d bytes, limit is %d", size, l.maxBytes)
	expires := l.expires(c, ttl)
	if at, has := l.places[key.Encoding()]; has {
		l.remove(at)
	}
	l.add(key, value, expires)
	l.fit(c)
	if expires > 0 {
		c.WakeAt(expires + sweepMs)
	}
}

// Get returns the value of a key, or `default`. It counts as a use.
func (l *LruCache) Get(c *guest.Context, key, fallback guest.Any) guest.Any {
	at, has := l.find(c, key)
	if !has {
		l.misses++
		return fallback
	}
	l.hits++
	l.use(at)
	return l.slots[at].value
}

// Peek returns the value of a key, or `default`. It does not count as a use.
func (l *LruCache) Peek(c *guest.Context, key, fallback guest.Any) guest.Any {
	if at, has := l.places[key.Encoding()]; has && !l.slots[at].isOver(c) {
		return l.slots[at].value
	}
	return fallback
}

// Touch counts as a use of a key, which lives `ttl` seconds from now on, or as long as the cache says. Returns whether it was there.
func (l *LruCache) Touch(c *guest.Context, key guest.Any, ttl *float64) bool {
	expires := l.expires(c, ttl)
	at, has := l.find(c, key)
	if has {
		l.slots[at].expiresMs = expires
		l.use(at)
		if expires > 0 {
			c.WakeAt(expires + sweepMs)
		}
	}
	return has
}

// Pop removes a key and returns its value, or `default`. Raises KeyError if it is not there and no default is given.
func (l *LruCache) Pop(c *guest.Context, key guest.Any, fallback ...guest.Any) (guest.Any, error) {
	at, has := l.find(c, key)
	switch {
	case has:
		value := l.slots[at].value
		l.remove(at)
		return value, nil
	case len(fallback) > 0:
		return fallback[0], nil
	}
	return guest.Any{}, guest.Raise("KeyError", "the key is not there").WithData(key)
}

// Len returns how many entries there are.
func (l *LruCache) Len(c *guest.Context) (count int) {
	for at := l.newest; at != none; at = l.slots[at].older {
		if !l.slots[at].isOver(c) {
			count++
		}
	}
	return count
}

// Clear removes all entries.
func (l *LruCache) Clear() {
	l.slots, l.places, l.bytes = nil, map[string]int{}, 0
	l.newest, l.oldest, l.free = none, none, none
}

// Stats is what the cache has, and what became of uses and entries since it was made.
type Stats struct {
	Entries, Bytes, Hits, Misses, Evicted, Expired int64
}

// Stats returns numbers: entries and bytes, hits and misses of get, entries evicted for others and expired.
func (l *LruCache) Stats() Stats {
	return Stats{int64(len(l.places)), l.bytes, l.hits, l.misses, l.evicted, l.expired}
}

// Resize sets one limit or both, and evicts what does not fit any more.
func (l *LruCache) Resize(c *guest.Context, maxEntries, maxBytes *int64) {
	entries, bytes := l.maxEntries, l.maxBytes
	if maxEntries != nil {
		entries = *maxEntries
	}
	if maxBytes != nil {
		bytes = *maxBytes
	}
	l.limit(entries, bytes)
	l.fit(c)
}

// Tick frees the memory of what is too old.
func (l *LruCache) Tick(c *guest.Context) {
	if next := l.sweep(c); next > 0 {
		c.WakeAt(max(next, c.NowMs()) + sweepMs)
	}
}

// state is what is saved: entries from the oldest to the newest.
type state struct {
	MaxEntries, MaxBytes, TTLMs    int64
	Hits, Misses, Evicted, Expired int64
	Entries                        []saved
}

type saved struct {
	Key, Value guest.Any
	ExpiresMs  int64
}

// Save gives the entries in their order.
func (l *LruCache) Save() any {
	s := state{l.maxEntries, l.maxBytes, l.ttlMs, l.hits, l.misses, l.evicted, l.expired, nil}
	for at := l.oldest; at != none; at = l.slots[at].newer {
		s.Entries = append(s.Entries, saved{l.slots[at].key, l.slots[at].value, l.slots[at].expiresMs})
	}
	return s
}

// Load takes them over.
func (l *LruCache) Load(_ *guest.Context, from guest.Any, _ string) error {
	var s state
	if err := from.Decode(&s); err != nil {
		return err
	}
	l.Clear()
	l.maxEntries, l.maxBytes, l.ttlMs = s.MaxEntries, s.MaxBytes, s.TTLMs
	l.hits, l.misses, l.evicted, l.expired = s.Hits, s.Misses, s.Evicted, s.Expired
	for _, entry := range s.Entries {
		l.add(entry.Key, entry.Value, entry.ExpiresMs)
	}
	return nil
}

func sizeOf(key, value guest.Any) int64 { return int64(key.Len() + value.Len() + entryBytes) }

func milliseconds(seconds float64) int64 {
	guest.Require(seconds >= 0 && seconds < 1e12, "ttl is %g, must be from 0 to 1e12 seconds", seconds)
	return int64(math.Ceil(seconds * 1e3))
}

func (l *LruCache) limit(maxEntries, maxBytes int64) {
	guest.Require(maxEntries > 0, "max_entries is %d, must be 1 or more", maxEntries)
	guest.Require(maxBytes >= 0, "max_bytes is %d, must be 0 or more", maxBytes)
	l.maxEntries, l.maxBytes = maxEntries, maxBytes
}

func (l *LruCache) expires(c *guest.Context, ttl *float64) int64 {
	lives := l.ttlMs
	if ttl != nil {
		lives = milliseconds(*ttl)
	}
	if lives == 0 {
		return 0
	}
	return c.NowMs() + lives
}

func (e *entry) isOver(c *guest.Context) bool { return e.expiresMs > 0 && e.expiresMs <= c.NowMs() }

// find is the place of a key, unless it is too old, and then removed.
func (l *LruCache) find(c *guest.Context, key guest.Any) (int, bool) {
	at, has := l.places[key.Encoding()]
	if has && l.slots[at].isOver(c) {
		l.remove(at)
		l.expired++
		return none, false
	}
	return at, has
}

// fit makes room: of what is too old first, then of what was not used for longest.
func (l *LruCache) fit(c *guest.Context) {
	if l.fits() {
		return
	}
	l.sweep(c)
	for !l.fits() {
		l.remove(l.oldest)
		l.evicted++
	}
}

func (l *LruCache) fits() bool {
	return int64(len(l.places)) <= l.maxEntries && (l.maxBytes == 0 || l.bytes <= l.maxBytes)
}

// sweep removes what is too old, and says when the next entry will be; 0: never.
func (l *LruCache) sweep(c *guest.Context) (next int64) {
	for at := l.oldest; at != none; {
		newer := l.slots[at].newer
		switch expires := l.slots[at].expiresMs; {
		case l.slots[at].isOver(c):
			l.remove(at)
			l.expired++
		case expires > 0 && (next == 0 || expires < next):
			next = expires
		}
		at = newer
	}
	return next
}

// use makes an entry the newest.
func (l *LruCache) use(at int) {
	l.unlink(at)
	l.link(at)
}

// add puts an entry in as the newest.
func (l *LruCache) add(key, value guest.Any, expiresMs int64) {
	at := l.free
	if at != none {
		l.free = l.slots[at].older
	} else {
		at = len(l.slots)
		l.slots = append(l.slots, entry{})
	}
	l.slots[at] = entry{key: key, value: value, expiresMs: expiresMs}
	l.places[key.Encoding()] = at
	l.bytes += sizeOf(key, value)
	l.link(at)
}

func (l *LruCache) remove(at int) {
	l.unlink(at)
	e := &l.slots[at]
	delete(l.places, e.key.Encoding())
	l.bytes -= sizeOf(e.key, e.value)
	*e = entry{older: l.free}
	l.free = at
}

func (l *LruCache) link(at int) {
	e := &l.slots[at]
	e.newer, e.older = none, l.newest
	if l.newest != none {
		l.slots[l.newest].newer = at
	} else {
		l.oldest = at
	}
	l.newest = at
}

func (l *LruCache) unlink(at int) {
	e := &l.slots[at]
	if e.newer != none {
		l.slots[e.newer].older = e.older
	} else {
		l.newest = e.older
	}
	if e.older != none {
		l.slots[e.older].newer = e.newer
	} else {
		l.oldest = e.newer
	}
}

func init() {
	guest.Register[LruCache]("1.0.0", NewLruCache, "max_entries=1024, max_bytes=0, ttl=0.0",
		guest.Method("Put(key, value, ttl=None)"),
		guest.Method("Get(key, default=None)"),
		guest.Read("Peek(key, default=None)"),
		guest.Method("Touch(key, ttl=None)"),
		guest.Method("Pop(key, *default)"),
		guest.Read("Len"),
		guest.Read("Stats"),
		guest.Method("Resize(max_entries=None, max_bytes=None)"),
	)
}

func main() {}
