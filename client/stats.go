package client

import "sync/atomic"

// Stats are running totals of one client, and its present view.
type Stats struct {
	Frames      uint64 // sent
	Operations  uint64 // sent inside them, repetitions included
	Retries     uint64 // attempts after a call's first
	Redirects   uint64 // answers "wrong shard" and "not leader"
	InDoubt     uint64 // calls that ended with the outcome unknown
	Connects    uint64 // streams opened, reconnections included
	MapEpoch    uint64 // epoch of the map held; 0 for none
	Connections int    // streams open now

	// Of the cache, if there is one.
	CacheHits      uint64 // reads served without asking anybody
	CacheValidated uint64 // linearizable reads for which a node had only to say "still so"
	CacheMisses    uint64 // reads that got their answer from a node
	CacheRefused   uint64 // misses for which the cache had something, too old for the level
	CacheEvicted   uint64 // entries that made room for others
	CacheBytes     int64  // held now
	CacheEntries   int64  // held now, keys without a value included
}

type counters struct {
	frames, operations, retries, redirects, inDoubt, connects atomic.Uint64

	connections atomic.Int64
}

// Stats returns the totals so far.
func (c *Client) Stats() Stats {
	n := &c.counters
	s := Stats{
		Frames:      n.frames.Load(),
		Operations:  n.operations.Load(),
		Retries:     n.retries.Load(),
		Redirects:   n.redirects.Load(),
		InDoubt:     n.inDoubt.Load(),
		Connects:    n.connects.Load(),
		MapEpoch:    c.topology.epoch(),
		Connections: int(n.connections.Load()),
	}
	if c.cache != nil {
		k := &c.cache.stats
		s.CacheHits, s.CacheValidated, s.CacheMisses = k.hits.Load(), k.validated.Load(), k.misses.Load()
		s.CacheRefused, s.CacheEvicted = k.refused.Load(), k.evicted.Load()
		s.CacheBytes, s.CacheEntries = k.bytes.Load(), k.entries.Load()
	}
	return s
}
