package logstore

import (
	"sync"
	"unsafe"

	"github.com/hashicorp/raft"
)

// cache keeps the newest entries of all groups within one bound in bytes and
// drops the oldest first. It holds copies of raft.Log, never pointers into
// raft's futures, which would keep those and their results alive. It does not
// know what was truncated: callers ask only for indexes inside a group's log,
// and put replaces what it has.
type cache struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	entries map[cacheKey]*cached
	oldest  *cached
	newest  *cached
}

type cacheKey struct{ group, index uint64 }

type cached struct {
	key        cacheKey
	log        raft.Log
	prev, next *cached // older, newer
}

const (
	// cachedOverhead stands for the node and its place in the map.
	cachedOverhead = int64(unsafe.Sizeof(cached{})) + 48
	// maxCachedShare: an entry above limit/maxCachedShare would push out too many
	// others and is read from the database instead.
	maxCachedShare = 8
)

func newCache(limit int64) *cache {
	return &cache{limit: limit, entries: make(map[cacheKey]*cached)}
}

func cachedSize(l *raft.Log) int64 {
	return cachedOverhead + int64(len(l.Data)+len(l.Extensions))
}

// put remembers an entry, or forgets the index when the entry is too large.
func (c *cache) put(group uint64, l *raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cacheKey{group, l.Index}
	if old := c.entries[key]; old != nil {
		c.remove(old)
	}
	size := cachedSize(l)
	if size > c.limit/maxCachedShare {
		return
	}
	e := &cached{key: key, log: raft.Log{
		Index: l.Index, Term: l.Term, Type: l.Type, Data: l.Data, Extensions: l.Extensions,
	}}
	c.entries[key] = e
	c.used += size
	e.prev = c.newest
	if c.newest != nil {
		c.newest.next = e
	} else {
		c.oldest = e
	}
	c.newest = e
	for c.used > c.limit {
		c.remove(c.oldest)
	}
}

func (c *cache) get(group, index uint64, out *raft.Log) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[cacheKey{group, index}]
	if e == nil {
		return false
	}
	*out = e.log
	return true
}

// remove must be called with mu held.
func (c *cache) remove(e *cached) {
	delete(c.entries, e.key)
	c.used -= cachedSize(&e.log)
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		c.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		c.newest = e.prev
	}
}
