package dbevents

import (
	"sync"
	"sync/atomic"
	"time"
)

// Counter counts the events of one database. The zero Counter is ready to use.
type Counter struct {
	slow, corruptions, failures atomic.Uint64
	stalling                    atomic.Int32 // stalls that have not ended

	mu struct {
		sync.Mutex
		stalls  uint64
		stalled time.Duration // of stalls that have ended
		since   time.Time     // when the present one began
	}
}

// Events are the totals.
type Events struct {
	DiskSlow         uint64        // operations of the disk that took long
	Stalls           uint64        // times that writes were made to wait
	Stalled          time.Duration // how long they waited, together
	Stalling         bool          // they wait now
	Corruptions      uint64        // times that damaged data was met
	BackgroundErrors uint64        // flushes and compactions that failed
}

// DiskSlow counts an operation of the disk that took long.
func (c *Counter) DiskSlow() { c.slow.Add(1) }

// Corruption counts an encounter with damaged data.
func (c *Counter) Corruption() { c.corruptions.Add(1) }

// BackgroundError counts a failed flush or compaction.
func (c *Counter) BackgroundError() { c.failures.Add(1) }

// StallBegin counts a stall. A second one during the first adds no time.
func (c *Counter) StallBegin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.stalls++
	if c.stalling.Add(1) == 1 {
		c.mu.since = time.Now()
	}
}

// StallEnd ends one, and says how long writes have waited.
func (c *Counter) StallEnd() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalling.Load() == 0 {
		return 0
	}
	took := time.Since(c.mu.since)
	if c.stalling.Add(-1) == 0 {
		c.mu.stalled += took
	}
	return took
}

// Stalling reports whether writes wait now.
func (c *Counter) Stalling() bool { return c.stalling.Load() > 0 }

// Events returns the totals.
func (c *Counter) Events() Events {
	c.mu.Lock()
	stalls, stalled, stalling := c.mu.stalls, c.mu.stalled, c.stalling.Load() > 0
	if stalling {
		stalled += time.Since(c.mu.since)
	}
	c.mu.Unlock()
	return Events{
		DiskSlow: c.slow.Load(), Stalls: stalls, Stalled: stalled, Stalling: stalling,
		Corruptions: c.corruptions.Load(), BackgroundErrors: c.failures.Load(),
	}
}
