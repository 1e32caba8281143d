package client

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

const (
	// expiryMargin is added to a write's remaining time, for a wrong estimate.
	expiryMargin = 30 * time.Second
	// expiryMost keeps a write's expiry well inside the 10 minutes that the
	// shards accept.
	expiryMost = 5 * time.Minute
	// mostOffsets bounds the memory of clocks seen.
	mostOffsets = 256
)

// shardTime estimates the cluster's shard time. No single clock decides: it is
// the lower median of this machine's wall clock and of what each node's hello
// said, and never below a version that was read or written, since shard time
// has passed that for certain.
type shardTime struct {
	clock  Clock
	offset atomic.Int64 // estimate minus clock.Mono, in µs

	mu      sync.Mutex
	offsets map[shardmap.NodeID]int64 // by each node's hello
	floor   int64                     // by the highest version seen
}

func newShardTime(c Clock) *shardTime {
	s := &shardTime{clock: c, offsets: make(map[shardmap.NodeID]int64)}
	own := int64(c.WallMicros()) - s.mono()
	s.offset.Store(own)
	s.floor = -1 << 62
	return s
}

func (s *shardTime) mono() int64 { return s.clock.Mono().Microseconds() }

// now is the estimate in microseconds.
func (s *shardTime) now() uint64 { return uint64(max(0, s.offset.Load()+s.mono())) }

// expiry is the shard time after which a write must not be applied whose caller
// waits that much longer.
func (s *shardTime) expiry(left time.Duration) uint64 {
	return s.now() + micros(min(left+expiryMargin, expiryMost))
}

// hello takes the clock of a node into account.
func (s *shardTime) hello(node shardmap.NodeID, wallMicros uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.offsets) >= mostOffsets {
		clear(s.offsets)
	}
	s.offsets[node] = int64(wallMicros) - s.mono()
	s.updateLocked()
}

// saw notes a version from an answer.
func (s *shardTime) saw(version uint64) {
	offset := int64(version) - s.mono()
	if offset <= s.offset.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, offset)
	s.updateLocked()
}

// tooLow is what a refusal as expired of a new write means: shard time is ahead
// of the estimate, so the highest clock seen is nearer the truth.
func (s *shardTime) tooLow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, offset := range s.offsets {
		s.floor = max(s.floor, offset)
	}
	s.floor = max(s.floor, int64(s.clock.WallMicros())-s.mono())
	s.updateLocked()
}

func (s *shardTime) updateLocked() {
	votes := make([]int64, 0, len(s.offsets)+1)
	votes = append(votes, int64(s.clock.WallMicros())-s.mono())
	for _, offset := range s.offsets {
		votes = append(votes, offset)
	}
	slices.Sort(votes)
	s.offset.Store(max(votes[(len(votes)-1)/2], s.floor))
}

func micros(d time.Duration) uint64 { return uint64(max(0, d.Microseconds())) }
