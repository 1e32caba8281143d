package kvtest

import (
	"sync/atomic"
	"time"
)

// shardClock is the one clock that the shards' time, the hello and, with virtual time,
// the clients take readings from.
type shardClock interface {
	WallMicros() uint64
	Mono() time.Duration
	Boot() time.Duration
}

// realClock follows package time and never goes back.
type realClock struct{ start time.Time }

func (c realClock) WallMicros() uint64  { return uint64(c.start.Add(time.Since(c.start)).UnixMicro()) }
func (c realClock) Mono() time.Duration { return time.Since(c.start) }
func (c realClock) Boot() time.Duration { return time.Since(c.start) }

// virtualStart is where virtual time begins, as in a bubble of testing/synctest.
var virtualStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// virtualClock moves when it is told to.
type virtualClock struct{ passed atomic.Int64 } // µs

func (c *virtualClock) Mono() time.Duration { return time.Duration(c.passed.Load()) * time.Microsecond }
func (c *virtualClock) Boot() time.Duration { return c.Mono() }
func (c *virtualClock) WallMicros() uint64 {
	return uint64(virtualStart.UnixMicro() + c.passed.Load())
}
