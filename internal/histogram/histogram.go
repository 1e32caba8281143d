// Package histogram counts durations where a lock or an allocation would cost more
// than what is measured.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The buckets double: up to 100 µs, 200 µs, … 6.55 s, and what is longer.
const (
	first = 100 * time.Microsecond
	// Buckets is how many have an upper bound.
	Buckets = 17
)

// Histogram is ready to use as a zero value, and safe for concurrent use. An
// observation is two atomic additions.
type Histogram struct {
	counts [Buckets + 1]atomic.Uint64
	nanos  atomic.Uint64
}

// Observe counts n events that took d each.
func (h *Histogram) Observe(d time.Duration, n uint64) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(n)
	h.nanos.Add(uint64(d) * n)
}

// bucketOf is the bucket whose bound is the least that is not below d.
func bucketOf(d time.Duration) int {
	if d <= first {
		return 0
	}
	return min(bits.Len64(uint64(d-1)/uint64(first)), Buckets)
}

// Bound is the upper bound of a bucket, inclusive.
func Bound(bucket int) time.Duration { return first << bucket }

// Snapshot is what was counted. Its fields are read one by one, not as of one
// moment.
type Snapshot struct {
	Count uint64
	Sum   time.Duration
	// Cumulative counts what took at most Bound(i).
	Cumulative [Buckets]uint64
}

// Snapshot reads the counts.
func (h *Histogram) Snapshot() Snapshot {
	var s Snapshot
	for i := range h.counts {
		s.Count += h.counts[i].Load()
		if i < Buckets {
			s.Cumulative[i] = s.Count
		}
	}
	s.Sum = time.Duration(h.nanos.Load())
	return s
}
