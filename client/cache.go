package client

import (
	"bytes"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// stripeBytes is what one stripe of the cache should hold at least: several of
	// the largest values.
	stripeBytes = 4 << 20
	maxStripes  = 16
	// entryOverhead is what an entry takes beside its key and value, in bytes.
	entryOverhead = 256
	// neverFresh is the time of a fact of which nobody knows how old it is.
	neverFresh = time.Duration(math.MinInt64)
)

// cache keeps what was read, and decides what of it may be shown to whom.
//
// What it keeps are facts: "in the state of the shard at version V the key was so".
// Facts about one key are ordered by V, since the state at a higher version has
// everything that the state at a lower one has. From that follow the rules.
//
//   - C1: a fact replaces one of a lower or equal V, never of a higher. A slow old
//     answer cannot push out what is newer.
//   - C2: an acknowledged write of this client removes, or replaces, what is below
//     its version, and keeps reads that are under way from bringing it back.
//   - C3: a fact is as fresh as the moment at which the request was sent that a
//     linearizable answer came to. Of two facts the newer one is also as fresh as
//     the other.
//
// A level is then a comparison: Session of V with the token, BoundedStale of the age
// with its bound. Nothing depends on having been told of other clients' writes.
type cache struct {
	stripes []stripe
	seed    maphash.Seed
	time    *shardTime
	boot    func() time.Duration // rule R4: goes on while the machine is suspended
	stats   cacheCounters
}

type cacheCounters struct {
	hits, validated, misses, refused, evicted atomic.Uint64

	bytes, entries atomic.Int64
}

// stripe is a part of the cache with a lock, a bound and an order of use of its own.
type stripe struct {
	mu      sync.Mutex
	limit   int
	bytes   int
	entries map[string]*entry
	recent  entry            // head of the ring of entries, the latest used first
	filling map[string]*fill // reads under way that will bring a fact
}

// fact is what a key was in the state of its shard at one version. It is immutable,
// its value too.
type fact struct {
	found   bool
	value   []byte
	version uint64 // of the value
	expires uint64 // deadline in shard time; 0 for none

	shardVersion uint64        // the V of the rules
	fresh        time.Duration // by cache.boot: every write acknowledged by then is in the state
	arc          shardmap.Arc  // of the shard
	node         string
}

type entry struct {
	key        string
	fact       fact
	prev, next *entry
}

func (e *entry) cost() int { return entryOverhead + len(e.key) + len(e.fact.value) }

// fill is the reads of one key that are under way.
type fill struct {
	reads int
	floor uint64 // facts below this version are not let in (C2)
	// flight is closed when the read ends that all others with nothing to show wait
	// for; nil while there is none.
	flight chan struct{}
}

func newCache(size int64, t *shardTime, boot func() time.Duration) *cache {
	k := &cache{seed: maphash.MakeSeed(), time: t, boot: boot}
	k.stripes = make([]stripe, min(max(1, size/stripeBytes), maxStripes))
	for i := range k.stripes {
		s := &k.stripes[i]
		s.limit = int(size / int64(len(k.stripes)))
		s.entries, s.filling = make(map[string]*entry), make(map[string]*fill)
		s.recent.prev, s.recent.next = &s.recent, &s.recent
	}
	return k
}

func (k *cache) stripe(key string) *stripe {
	return &k.stripes[maphash.String(k.seed, key)%uint64(len(k.stripes))]
}

// verdict is what the cache says to a read.
type verdict uint8

const (
	cacheEmpty  verdict = iota // knows nothing of the key
	cacheOld                   // what it knows must not be shown
	cacheServes                // shows it
	cacheAsks                  // shows it, if the version is still the same
)

// look returns what is known of a key and whether the read may have it. A due value
// is no longer shown: its shard may have removed it.
func (k *cache) look(key string, p *params, minVersion uint64) (fact, verdict) {
	s := k.stripe(key)
	s.mu.Lock()
	e := s.entries[key]
	if e == nil {
		s.mu.Unlock()
		return fact{}, cacheEmpty
	}
	s.use(e)
	f := e.fact
	s.mu.Unlock()
	if p.level == kvv1.ReadLevel_READ_LEVEL_LINEARIZABLE {
		return f, cacheAsks
	}
	if f.expires != 0 && k.time.now() >= f.expires {
		return f, cacheOld
	}
	ok := false
	switch p.level {
	case kvv1.ReadLevel_READ_LEVEL_ANY:
		ok = true
	case kvv1.ReadLevel_READ_LEVEL_SESSION:
		ok = f.shardVersion >= minVersion
	case kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE:
		ok = f.fresh != neverFresh && k.boot()-f.fresh <= time.Duration(p.maxAge)*time.Microsecond
	}
	if !ok {
		return f, cacheOld
	}
	return f, cacheServes
}

// begin registers a read that will bring a fact; each is ended once. If alone is
// set the read wants to be the only one: then it either becomes the flight that
// others wait for, or gets the channel of the one that there is, and is not
// registered.
func (k *cache) begin(key string, alone bool) (wait <-chan struct{}) {
	s := k.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.filling[key]
	if f == nil {
		f = &fill{}
		s.filling[key] = f
	}
	if alone {
		if f.flight != nil {
			return f.flight
		}
		f.flight = make(chan struct{})
	}
	f.reads++
	return nil
}

// end takes in what a read has brought, if anything.
func (k *cache) end(key string, alone bool, brought *fact) {
	s := k.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.filling[key]
	if brought != nil && brought.shardVersion >= f.floor && brought.shardVersion > 0 {
		k.learn(s, key, *brought)
	}
	if alone {
		close(f.flight)
		f.flight = nil
	}
	if f.reads--; f.reads == 0 {
		delete(s.filling, key)
	}
}

// learn is rules C1 and C3. REQUIRES: s.mu is held.
func (k *cache) learn(s *stripe, key string, f fact) {
	e := s.entries[key]
	if e == nil {
		e = &entry{key: key, fact: f}
		if e.cost() > s.limit {
			return
		}
		s.entries[key] = e
		s.link(e)
		k.count(s, 1, e.cost())
	} else {
		before := e.cost()
		fresh := max(e.fact.fresh, f.fresh)
		if f.shardVersion >= e.fact.shardVersion {
			e.fact = f
		}
		e.fact.fresh = fresh
		k.count(s, 0, e.cost()-before)
		s.use(e)
	}
	for s.bytes > s.limit {
		k.stats.evicted.Add(1)
		k.remove(s, s.recent.prev)
	}
}

// wrote is rule C2: this client's write of the key has the version. now is what the
// key is in the state at that version, nil when the client does not know; its value
// is copied.
func (k *cache) wrote(key string, version uint64, now *fact) {
	s := k.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.filling[key]; f != nil {
		f.floor = max(f.floor, version)
	}
	e := s.entries[key]
	switch {
	case e == nil || e.fact.shardVersion >= version:
	case now == nil:
		k.remove(s, e)
	default:
		f := *now
		f.value = bytes.Clone(f.value)
		k.learn(s, key, f)
	}
}

// drop forgets a key.
func (k *cache) drop(key string) {
	s := k.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		k.remove(s, e)
	}
}

func (k *cache) remove(s *stripe, e *entry) {
	s.unlink(e)
	delete(s.entries, e.key)
	k.count(s, -1, -e.cost())
}

func (k *cache) count(s *stripe, entries, bytes int) {
	s.bytes += bytes
	k.stats.bytes.Add(int64(bytes))
	k.stats.entries.Add(int64(entries))
}

func (s *stripe) link(e *entry) {
	e.prev, e.next = &s.recent, s.recent.next
	e.prev.next, e.next.prev = e, e
}

func (s *stripe) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

func (s *stripe) use(e *entry) {
	s.unlink(e)
	s.link(e)
}
