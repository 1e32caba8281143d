package raftstore

import (
	"context"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Watch is a position in the changes of a shard, as one replica remembers them. It
// skips, repeats and reorders nothing (P6): changes come in the order of their
// versions, those of one version together, and when some are not remembered any
// more it says Compacted. It holds nothing but what it was given last, and the
// apply loop does not know of it. One goroutine at a time uses it.
type Watch struct {
	group  *Group
	reader *reader
}

// Watch begins after a version that the shard has given out, or 0; or, with now,
// after everything that was acknowledged before the call, for which it waits, until
// ctx ends. Any replica will do.
//
// Errors: Compacted; Invalid when the shard has not given the version out; those of
// a linearizable Read.
func (g *Group) Watch(ctx context.Context, after uint64, now bool) (*Watch, error) {
	_, _, last := g.changes.size()
	if now || after > last { // the token may be ahead of this replica, but not of the shard
		if _, err := g.await(ctx, ReadSpec{AnyReplica: true}); err != nil {
			return nil, err
		}
		if _, _, last = g.changes.size(); !now && after > last {
			return nil, kverr.New(kverr.Invalid, "shard %d is at version %d and has not given out %d: the token is of "+
				"another cluster, or damaged", g.shard, last, after)
		}
	}
	r, err := g.changes.reader(after, now)
	if err != nil {
		return nil, err
	}
	return &Watch{g, r}, nil
}

// Ready is closed once Take may have more than it had before the call.
func (w *Watch) Ready() <-chan struct{} { return w.reader.ready() }

// Take returns the next changes, about most bytes of them and at least one entry's,
// or none. A part is what one entry of the log did. Everything is shared: it must
// not be changed. Errors: Compacted when the watch was too slow, or the replica was
// replaced by a snapshot; Unavailable when the replica stops.
func (w *Watch) Take(most int) (parts [][]state.Change, err error) {
	return w.reader.take(int64(most))
}

// UpTo is the version up to which everything was given out.
func (w *Watch) UpTo() uint64 { return w.reader.upTo }

// Record is the shard's record as last applied here.
func (w *Watch) Record() shardmap.Record { return w.group.Record() }

// Confirm asks whether this replica has applied all that was acknowledged a moment
// ago, age at most: one that is cut off would be silent for ever, and silence would
// pass for rest. The channel delivers nil, or why that is not known after limit.
func (w *Watch) Confirm(age, limit time.Duration) <-chan error {
	done := make(chan error, 1)
	c := &readCall{Read: &Read{ReadSpec: ReadSpec{Level: BoundedStale, MaxAge: age}, Deadline: time.Now().Add(limit)}}
	c.Done = func(_ []Value, _ uint64, err error) { done <- err }
	w.group.read(c)
	return done
}

// shareWatches divides what all rings may hold. Callers hold Store.mu.
func (s *Store) shareWatchesLocked() {
	share := min(s.opts.WatchBytesPerShard, s.opts.MaxWatchBytes/int64(max(1, len(s.mu.groups))))
	if s.watchShare.Swap(share) > share {
		for _, g := range s.mu.groups {
			g.changes.trim()
		}
	}
}
