package raftstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/diskspace"
)

const (
	// flushLook is how often the scheduler looks whether there is something to do
	// that no event told it of.
	flushLook = 500 * time.Millisecond
	// cutStep is the least that a log is cut by while there is room: a truncation
	// is a range tombstone that has to be written, flushed and compacted too.
	cutStep = 4 << 20
	// pressedKeep is what each shard keeps for followers while disk space is low.
	pressedKeep = 1 << 20
	// keptEntries stay in a log while the node's logs are within their bound (rule L5):
	// a follower that is a breath behind must not need a snapshot.
	keptEntries = 64
)

// flusher decides for all groups of a node when the state database is flushed
// and how far the logs are cut (ADR 0003). One flush serves all groups: what they
// had applied before it began is durable after it, so their logs may go up to
// there.
//
// It bounds three things: the log that a restart replays (FlushBytes), the log
// that followers can be served from (LogBytesPerShard) and the log on disk
// (MaxLogBytes). The state database also flushes by itself when a memtable is
// full, which serves as well; the scheduler hears of it and only cuts.
type flusher struct {
	store   *Store
	flushed chan struct{} // capacity 1: the state database has flushed
	pressed chan struct{} // capacity 1: disk space has become low

	last     time.Time // when the last flush of ours began
	lastSize uint64    // log bytes appended until then
	dirty    bool      // the log had something to replay when the store opened

	mu struct {
		sync.Mutex
		pins []expiringPin
	}
}

// expiringPin is what keeps a part of a log until a time.
type expiringPin struct {
	until   time.Time
	release func()
}

func newFlusher(s *Store) *flusher {
	return &flusher{store: s, flushed: make(chan struct{}, 1), pressed: make(chan struct{}, 1), dirty: true}
}

// flushEnded is called by Pebble, with its locks held.
func (f *flusher) flushEnded() { signal(f.flushed) }

// later releases a pin after a while, or at the end of the store.
func (f *flusher) later(d time.Duration, release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.pins = append(f.mu.pins, expiringPin{time.Now().Add(d), release})
}

func (f *flusher) unpin(now time.Time) {
	var due []func()
	f.mu.Lock()
	f.mu.pins = slices.DeleteFunc(f.mu.pins, func(p expiringPin) bool {
		if now.Before(p.until) {
			return false
		}
		due = append(due, p.release)
		return true
	})
	f.mu.Unlock()
	for _, release := range due {
		release()
	}
}

func (f *flusher) run() {
	tick := time.NewTicker(flushLook)
	defer tick.Stop()
	f.last = time.Now()
	for {
		select {
		case <-f.store.stopping:
			return
		case <-f.store.died:
			return
		case <-f.flushed:
			f.cut()
		case <-f.pressed:
			f.flush()
		case now := <-tick.C:
			f.unpin(now)
			f.look()
		}
	}
}

// look flushes when there is much to replay, when something has waited for long,
// or when the logs need room and only a flush can make it.
func (f *flusher) look() {
	o := &f.store.opts
	if f.logBytes() > o.MaxLogBytes {
		// Followers that just got a snapshot may need another one now; that is
		// better than to refuse writes for them.
		f.unpin(time.Now().Add(pinGrace))
		f.cut()
	}
	appended := f.store.log.Stats().Bytes
	unflushed := appended - f.lastSize
	due := unflushed >= uint64(o.FlushBytes) ||
		(unflushed > 0 || f.dirty) && time.Since(f.last) >= o.FlushInterval ||
		(unflushed >= cutStep || f.dirty) && f.logBytes() > o.MaxLogBytes
	if !due {
		f.judge()
		return
	}
	f.flush()
}

// flush flushes now and cuts the logs, unless the disk has no room for tables.
func (f *flusher) flush() {
	if f.store.space.InReserve() {
		f.judge()
		return
	}
	f.last, f.lastSize, f.dirty = time.Now(), f.store.log.Stats().Bytes, false
	f.store.opts.Failpoints.Hit(failpoint.FlushBegun)
	if err := f.store.flush(); err != nil {
		// A store that dies or stops ends the scheduler; a stop flushes by itself.
		f.store.opts.Logger.Warn("flushing the state", "err", err)
		return
	}
	f.store.opts.Failpoints.Hit(failpoint.FlushDone)
	f.cut()
}

func (f *flusher) logBytes() (sum int64) {
	for _, g := range f.store.Groups() {
		sum += g.log.Bytes()
	}
	return sum
}

// retained is how much log each shard may keep for followers that lag.
func (f *flusher) retained(groups int) int64 {
	o := &f.store.opts
	if groups == 0 {
		return o.LogBytesPerShard
	}
	// Half of the node's allowance, so that the other half is for what is not
	// durable yet and for the step between two cuts.
	keep := min(o.LogBytesPerShard, o.MaxLogBytes/2/int64(groups))
	if f.store.space.Level() > diskspace.OK {
		keep = min(keep, pressedKeep)
	}
	return keep
}

// cut shortens every log that is longer than it may be, up to what is durable.
func (f *flusher) cut() {
	groups := f.store.Groups()
	keep := f.retained(len(groups))
	step := min(cutStep, keep)
	entries := uint64(keptEntries)
	if f.logBytes() > f.store.opts.MaxLogBytes {
		// So many large entries may be more than the bound. Beyond it nothing is taken
		// on, and without anything new nothing would ever be cut again.
		entries = 1
	}
	for _, g := range groups {
		if g.log.Bytes() < keep+step {
			continue
		}
		if err := g.truncate(keep, entries); err != nil {
			f.store.opts.Logger.Warn("cutting a log", "shard", g.shard, "err", err)
		}
	}
	f.judge()
}

// judge closes the node to new writes while its logs are far above their bound:
// the disk of the state database cannot keep up. The flusher and the disk gate call
// it; whichever is late is put right by the other's next look.
func (f *flusher) judge() {
	o := &f.store.opts
	full := f.logBytes() > o.MaxLogBytes+o.MaxLogBytes/2
	if f.store.logsFull.Swap(full) != full {
		f.store.opts.Logger.Warn("log space", "full", full, "bound_bytes", o.MaxLogBytes)
	}
}

// truncate cuts the group's log to about keep bytes, but never what is not
// durable in the state database, nor its last entries, so many.
func (g *Group) truncate(keep int64, entries uint64) error {
	applied, found, err := g.store.durableApplied(g.Record().Arc.From)
	if err != nil || !found {
		return fmt.Errorf("shard %d: read the durable applied index (found %t): %w", g.shard, found, err)
	}
	last, err := g.log.LastIndex()
	if err != nil {
		return err
	}
	if last <= entries {
		return nil
	}
	upTo := min(applied.Index, g.log.CutPoint(keep), last-entries)
	return g.log.Truncate(upTo)
}

// flush makes the state durable unless the store is dead, dies of it or stops. The
// state database has no log of its own: what is not flushed is replayed from the
// Raft log at the next start. On a full disk it waits for space.
func (s *Store) flush() error { return s.flushWithin(context.Background()) }

// flushWithin is flush, but gives up when ctx ends.
func (s *Store) flushWithin(ctx context.Context) error {
	select {
	case <-s.stopping:
		return kverr.New(kverr.Closed, "raftstore: the store stops and flushes by itself")
	default:
		return s.flushUntil(ctx, s.stopping)
	}
}

func (s *Store) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// lastFlush is that of a stop. It ends with ctx, and does not begin on a disk without
// room.
func (s *Store) lastFlush(ctx context.Context) error {
	if s.space.InReserve() {
		s.opts.Logger.Warn("no disk space to flush the state; the next start replays it", "dir", s.opts.Dir)
		return nil
	}
	return s.flushUntil(ctx, nil)
}

func (s *Store) flushUntil(ctx context.Context, end <-chan struct{}) error {
	if s.dead.Load() {
		return kverr.New(kverr.Internal, "raftstore: the store has failed; the next start replays the state")
	}
	flushed, err := s.state.AsyncFlush()
	if err != nil {
		return fmt.Errorf("raftstore: flush state: %w", err)
	}
	select {
	case <-flushed:
		return nil
	case <-s.died:
		return kverr.New(kverr.Internal, "raftstore: the state could not be flushed; the next start replays it")
	case <-ctx.Done():
		return fmt.Errorf("raftstore: the state was not flushed in time; what is not is replayed at the next start: %w", ctx.Err())
	case <-end:
		return kverr.New(kverr.Closed, "raftstore: the store stopped before the state was flushed; the next start replays it")
	}
}
