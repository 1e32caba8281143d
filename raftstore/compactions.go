package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// damagePause is how long the state database compacts nothing after a compaction
// has met a damaged table.
const damagePause = time.Minute

// pausingScheduler lets the state database rest from compactions for a while.
// Pebble tries one that failed again at once and for ever: a damaged table in its
// youngest level would cost a core, and every attempt is an event. The replicas in
// the table are quarantined; until they are retired, and with them the table, each
// minute has one attempt. Flushes, reads and writes go on.
type pausingScheduler struct {
	pebble.CompactionScheduler
	until atomic.Int64 // in ns since 1970; 0: no pause yet
}

// newPausingScheduler is around Pebble's own scheduler. The only constructor that
// Pebble exports leaves out a ticker that offers a waiting compaction its turn; here
// that happens when another compaction or a flush ends, which is soon enough.
func newPausingScheduler() *pausingScheduler {
	return &pausingScheduler{CompactionScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// pause begins a pause, or makes it last longer.
func (s *pausingScheduler) pause() { s.until.Store(time.Now().Add(damagePause).UnixNano()) }

// Register implements pebble.CompactionScheduler.
func (s *pausingScheduler) Register(goroutines int, db pebble.DBForCompaction) {
	s.CompactionScheduler.Register(goroutines, pausedDB{db, s})
}

// pausedDB is the database as the scheduler inside sees it.
type pausedDB struct {
	pebble.DBForCompaction
	scheduler *pausingScheduler
}

// GetAllowedWithoutPermission implements pebble.DBForCompaction.
func (d pausedDB) GetAllowedWithoutPermission() int {
	if time.Now().UnixNano() < d.scheduler.until.Load() {
		return 0
	}
	return d.DBForCompaction.GetAllowedWithoutPermission()
}
