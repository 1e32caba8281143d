package raftstore

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// stopMemtables is how many memtables' worth of bytes the state database may hold
	// before Pebble stalls.
	stopMemtables = 4
	// slowSublevels is how many layers of level 0 make reads so slow, and compaction
	// so far behind, that no more puts are taken. Pebble itself would stall much
	// later.
	slowSublevels = 32
	// pressureRetry is the hint for who was refused: about the time in which a memtable
	// is flushed.
	pressureRetry = 200 * time.Millisecond
)

// pressed says whether writes have to wait outside. A stall of Pebble's holds its
// commit lock, so it stops the apply loops of all shards, and of the log even their
// proposals. Puts are therefore refused shortly before one, deletes only during it:
// they make room, and cost little. Reads need no commit and go on.
func (s *Store) pressed(deletes bool) bool {
	return s.events.state.Stalling() || s.events.log.Stalling() || !deletes && s.nearStall.Load()
}

// feeling is when the state database was last asked how it does.
type feeling struct{ applied, looks uint64 }

// feelEvery is after how many looks of the disk gate the state database is asked
// although nothing was applied: about each second.
const feelEvery = 10

// feel asks for figures of the state database, more often the more is applied. It
// waits for nothing: with a hung disk there are none, and rule D1 is in charge.
func (f *feeling) feel(s *Store) {
	f.looks++
	applied := s.appliedBytes.Load()
	if s.nearStall.Load() || applied-f.applied >= s.opts.MemTableBytes/8 || f.looks%feelEvery == 0 {
		f.applied = applied
		s.sampler.refresh()
	}
}

// judge is given all figures of the databases, on whichever goroutine has them.
func (s *Store) judge(d Databases) {
	was := s.nearStall.Load()
	now := nearStall(d.State, s.opts.MemTableBytes, was)
	if now == was || s.nearStall.Swap(now) == now {
		return
	}
	s.opts.Logger.Warn("whether the state database is near a stall, for a disk that cannot keep up", "puts_refused", now,
		"memtable_bytes", d.State.MemTable.Size, "l0_sublevels", d.State.Levels[0].Sublevels)
}

// nearStall has hysteresis: what was refused for a while should not be at once
// again.
func nearStall(m *pebble.Metrics, memTableBytes uint64, was bool) bool {
	memory, layers := (stopMemtables-1)*memTableBytes, int32(slowSublevels)
	if was {
		memory, layers = (stopMemtables-2)*memTableBytes, slowSublevels*3/4
	}
	return m.MemTable.Size >= memory || m.Levels[0].Sublevels >= layers
}
