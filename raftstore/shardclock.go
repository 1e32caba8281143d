package raftstore

import (
	"slices"
	"time"
)

// maxClockDrift is how far a leader's wall and monotonic clocks may drift apart
// before it must ask the voters again (rule T1): a laptop's sleep, a stepped
// clock.
const maxClockDrift = 100 * time.Millisecond

// shardClock is the leader's source of shard time within one term (rule T1). It
// stamps nothing before a clock round of that term, continues by the monotonic
// clock between rounds, and never goes back. Not safe for concurrent use.
type shardClock struct {
	base   uint64 // shard time in µs at the moment of mono
	mono   time.Duration
	wall   uint64 // own wall clock at the last round, to notice jumps
	anchor time.Duration
	ready  bool
}

// step takes in a completed clock round: floor is the shard time last applied,
// clocks the wall clocks of the voters that answered, out of voters in all.
func (c *shardClock) step(floor uint64, clocks []uint64, voters int, wall uint64, mono time.Duration) {
	now := floor
	if c.base != 0 { // the monotonic clock went on, whatever the wall clock did
		now = max(now, c.at(mono))
	}
	if agreed, ok := agreedClock(clocks, voters); ok {
		now = max(now, agreed)
	}
	*c = shardClock{base: now, mono: mono, wall: wall, anchor: mono, ready: true}
}

// stamp returns the shard time for an entry proposed now, or false when a new
// clock round is needed first.
func (c *shardClock) stamp(wall uint64, mono time.Duration) (uint64, bool) {
	if !c.ready {
		return 0, false
	}
	moved := time.Duration(int64(wall)-int64(c.wall)) * time.Microsecond
	drift := moved - (mono - c.anchor)
	if drift >= maxClockDrift || drift <= -maxClockDrift {
		c.ready = false
		return 0, false
	}
	return c.at(mono), true
}

func (c *shardClock) at(mono time.Duration) uint64 {
	return c.base + uint64(max(0, mono-c.mono)/time.Microsecond)
}

// agreedClock is the (f+1)-th largest of all voters' clocks, a silent voter
// counting as minus infinity: f wrong clocks can neither push time ahead nor,
// being f at most, hold it back for good.
func agreedClock(clocks []uint64, voters int) (uint64, bool) {
	f := (voters - 1) / 2
	if len(clocks) <= f {
		return 0, false
	}
	sorted := slices.Clone(clocks)
	slices.Sort(sorted)
	return sorted[len(sorted)-1-f], true
}
