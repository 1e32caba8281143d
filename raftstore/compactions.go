package raftstore

import (
	"reflect"
	"slices"
	"sync"
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
//
// Pebble asks once whether it may compact. Refused, it asks no more and waits to be
// offered its turn, which its own scheduler does when another compaction ends and
// after each tick; the only constructor that Pebble exports leaves out the tick. So
// the end of a pause must offer the turn, or nothing would be compacted ever again.
type pausingScheduler struct {
	pebble.CompactionScheduler
	until  atomic.Int64   // in ns since 1970; 0: no pause yet
	offers sync.WaitGroup // the offer that is armed or under way

	mu struct {
		sync.Mutex
		armed  bool        // timer will offer, or is about to
		closed bool        // nothing is offered any more
		timer  *time.Timer // at the end of the pause
	}
}

func newPausingScheduler() *pausingScheduler {
	return &pausingScheduler{CompactionScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
}

// pause begins a pause, or makes it last longer. Pebble may hold its locks.
func (s *pausingScheduler) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return
	}
	s.until.Store(time.Now().Add(damagePause).UnixNano())
	if !s.mu.armed {
		s.mu.armed = true
		s.offers.Add(1)
		s.mu.timer = time.AfterFunc(damagePause, s.offer)
	}
}

// offer gives a compaction that waits its turn, once the pause is over.
func (s *pausingScheduler) offer() {
	s.mu.Lock()
	if left := s.until.Load() - time.Now().UnixNano(); left > 0 && !s.mu.closed {
		s.mu.timer.Reset(time.Duration(left)) // it was made longer
		s.mu.Unlock()
		return
	}
	s.mu.armed = false
	s.mu.Unlock()
	defer s.offers.Done()
	// Where there is a turn to be had, giving it back offers it.
	if ok, turn := s.TrySchedule(); ok {
		turn.Done()
	}
}

// Unregister implements pebble.CompactionScheduler.
func (s *pausingScheduler) Unregister() {
	s.mu.Lock()
	s.mu.closed = true
	if s.mu.armed && s.mu.timer.Stop() {
		s.mu.armed = false
		s.offers.Done()
	}
	s.mu.Unlock()
	s.offers.Wait()
	s.CompactionScheduler.Unregister()
}

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

// failedCompactions tells two kinds of background errors apart: a compaction ends
// before its error is reported, with Pebble's lock held.
type failedCompactions struct {
	mu   sync.Mutex
	errs []error
}

// mostFailed bounds what is remembered: more than compactions at a time.
const mostFailed = 16

func (f *failedCompactions) ended(info pebble.CompactionInfo) {
	if info.Err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, info.Err)
	if len(f.errs) > mostFailed {
		f.errs = slices.Delete(f.errs, 0, 1)
	}
}

// take reports whether this very error ended a compaction, and forgets it.
func (f *failedCompactions) take(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, e := range f.errs {
		if reflect.TypeOf(e).Comparable() && e == err {
			f.errs = slices.Delete(f.errs, i, i+1)
			return true
		}
	}
	return false
}

// statisticsRest is how long the collection of statistics waits at a damaged table.
const statisticsRest = time.Second

// restFromStatistics holds back the only other background work that meets damage:
// once open, Pebble collects statistics of all tables, and tries one that fails
// again at once and for ever. It holds no lock then.
func (s *Store) restFromStatistics() {
	rest := time.NewTimer(statisticsRest)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-s.stopping:
	case <-s.died:
	}
}
