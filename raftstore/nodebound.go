package raftstore

import "sync/atomic"

// nodeBound bounds what all shards of a node hold together. Each shard has bounds of
// its own (see writeQueue), and many shards within theirs would still be too much.
//
// So that shards which stand still cannot keep everything from the others, a shard
// may hold at most as much as it leaves free: one that is stuck comes to a half, n
// of them to n parts of n+1, and the last part is there for the others. A shard
// that holds nothing may take what is left. Nothing of this is felt while there is
// plenty. Accounts are exact; what concurrent callers see of them may be ahead by
// what is being refused at the moment, so the bound is never passed.
type nodeBound struct {
	maxOps, maxBytes int64
	ops, bytes       atomic.Int64
	refused          atomic.Uint64
}

// take charges a shard that holds own already, or says that it may not have more.
func (b *nodeBound) take(ops, bytes, ownOps, ownBytes int) bool {
	if b == nil {
		return true
	}
	freeOps := b.maxOps - b.ops.Add(int64(ops))
	freeBytes := b.maxBytes - b.bytes.Add(int64(bytes))
	fits := freeOps >= 0 && freeBytes >= 0
	if fits && ownOps > 0 {
		fits = int64(ownOps+ops) <= freeOps && int64(ownBytes+bytes) <= freeBytes
	}
	if !fits {
		b.give(ops, bytes)
		b.refused.Add(1)
	}
	return fits
}

// give takes a charge back.
func (b *nodeBound) give(ops, bytes int) {
	if b != nil {
		b.ops.Add(-int64(ops))
		b.bytes.Add(-int64(bytes))
	}
}

// Held is what writes and reads of all shards of a node hold now.
type Held struct {
	Writes     int64 // that wait or are in flight
	WriteBytes int64
	ReadKeys   int64 // of reads that wait
	// Refused are the writes and reads, as frames bring them for one shard, that were
	// refused for a bound of the node.
	Refused uint64
	// Pressed: puts are refused because a database is near a stall, or in one.
	Pressed bool
	// LogsFull: writes are refused because the logs are far above their bound.
	LogsFull bool
}

// Held returns what is held now.
func (s *Store) Held() Held {
	return Held{
		Writes: s.writes.ops.Load(), WriteBytes: s.writes.bytes.Load(), ReadKeys: s.reads.ops.Load(),
		Refused: s.writes.refused.Load() + s.reads.refused.Load(), Pressed: s.pressed(false), LogsFull: s.logsFull.Load(),
	}
}
