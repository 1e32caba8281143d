package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// viewIdle is how long a view may lie unused, viewAge how long it may live: what
	// it pins is bounded by how many views there are and by how old they may get.
	viewIdle = 30 * time.Second
	viewAge  = 5 * time.Minute
	// viewsFullRetry is about the time of a short scan.
	viewsFullRetry = 100 * time.Millisecond
)

// View is one consistent view of a shard's replica: a Pebble iterator over its
// span. Pebble (v2.1.7) promises that an open iterator goes on showing what it
// showed, also through an excise or an ingest with one (excise.go: it "pins all
// memtables and sstables in its view of the LSM until it's closed"), and a Clone of
// it the same; a classic snapshot does not (see Group.excisions). What it does not
// promise is that an iterator opened while an excise runs shows either state:
// newIter takes the tables first and the sequence number after that (db.go), so
// entries applied after an ingest may be seen on top of the tables from before it.
// Therefore a view counts only when nothing was excised while it was opened.
//
// It holds back what it pins: the memtables and files of its moment. So there are
// at most MaxViews of them on a node; one that lies unused for 30 s, or is 5 minutes
// old, is closed under its owner, who is told Unavailable at the next use and may
// open another. Safe for concurrent use, though uses wait for each other.
type View struct {
	ViewInfo

	group  *Group
	opened time.Time

	mu struct {
		sync.Mutex
		it   *pebble.Iterator // nil once it is closed
		why  error            // it is closed
		used time.Time
	}
}

// View opens a view of the shard that is as new as spec asks. It waits for that
// until ctx ends, or for 10 s. Errors are those of a Read, and Overloaded when the
// node has MaxViews open. The caller closes it.
func (g *Group) View(ctx context.Context, spec ReadSpec) (*View, error) {
	served, err := g.await(ctx, spec)
	if err != nil {
		return nil, err
	}
	v := &View{ViewInfo: ViewInfo{Served: served}, group: g, opened: time.Now()}
	v.mu.used = v.opened
	if err := g.store.views.admit(v); err != nil {
		g.store.counters.overloaded.Add(1)
		return nil, err
	}
	// Locked, so that a stop of the store waits until it is open, or finds it failed.
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.why == nil {
		v.mu.why = v.openLocked()
	}
	if v.mu.why != nil {
		g.store.views.leave(v)
		return nil, v.mu.why
	}
	return v, nil
}

// ViewInfo is what a view is a view of.
type ViewInfo struct {
	Record  shardmap.Record
	Version uint64 // the shard's last version in it
	// ShardTime is by what deadlines are due: on a leader its clock's, elsewhere that
	// of the last entry applied.
	ShardTime uint64
	Served    ServedBy
}

// Info says what the view is a view of.
func (v *View) Info() ViewInfo { return v.ViewInfo }

// openAttempts is how often a view is opened again because the replica was being
// replaced meanwhile.
const openAttempts = 3

func (v *View) openLocked() error {
	g := v.group
	for range openAttempts {
		if g.store.dead.Load() {
			return kverr.New(kverr.Unavailable, "shard %d: the node has failed", g.shard)
		}
		excisions, arc := g.excisions.Load(), g.Record().Arc
		from, to := state.Span(arc)
		it, err := g.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err == nil && (excisions%2 == 1 || g.excisions.Load() != excisions) {
			if err = it.Close(); err == nil {
				continue
			}
		}
		ours := false
		if err == nil {
			ours, err = v.describeLocked(it, arc)
		}
		if err == nil && ours {
			v.mu.it = it
			return nil
		}
		if it != nil {
			err = errors.Join(err, it.Close())
		}
		if err != nil {
			g.store.readFailed(err)
			return kverr.New(kverr.Internal, "shard %d: open a view: %w", g.shard, err)
		}
	}
	return kverr.New(kverr.Unavailable, "shard %d: its replica here is being replaced", g.shard)
}

// describeLocked reads from the view what it is a view of. It is of no use if the
// shard has another arc in it than the iterator's bounds.
func (v *View) describeLocked(it *pebble.Iterator, arc shardmap.Arc) (ours bool, err error) {
	r := iterReader{it}
	var found bool
	if v.Record, found, err = state.ReadRecord(r, arc.From); err != nil || !found || v.Record.Arc != arc {
		return false, err
	}
	applied, found, err := state.LoadApplied(r, arc.From)
	if err != nil || !found {
		return false, err
	}
	v.Version, v.ShardTime = applied.LastVersion, applied.ShardTime
	if v.Served == ByLeader {
		v.ShardTime = max(v.ShardTime, v.group.shardNow())
	}
	return true, nil
}

// Use calls fn with the view's cursor, whose bounds are the shard's span. Its
// position is that of the last use. While fn runs the view is not closed, so it
// must not wait for anybody.
func (v *View) Use(fn func(scan.Cursor) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.why != nil {
		return v.mu.why
	}
	err := fn(v.mu.it)
	if e := v.mu.it.Error(); e != nil {
		v.group.store.readFailed(e)
		err = kverr.New(kverr.Internal, "shard %d: read: %w", v.group.shard, e)
	}
	if v.group.store.dead.Load() {
		err = kverr.New(kverr.Unavailable, "shard %d: the node has failed", v.group.shard)
	}
	v.mu.used = time.Now()
	return err
}

// Close gives up what the view pins. It may be called again.
func (v *View) Close() { v.end(kverr.New(kverr.Closed, "the view is closed")) }

func (v *View) end(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.endLocked(why)
}

func (v *View) endLocked(why error) {
	if v.mu.why != nil {
		return
	}
	v.mu.why = why
	if v.mu.it != nil {
		if err := v.mu.it.Close(); err != nil { // of a read, which was told already
			v.group.store.opts.Logger.Warn("closing a view", "shard", v.group.shard, "err", err)
		}
		v.mu.it = nil
	}
	v.group.store.views.leave(v)
}

// outlived ends a view that has lain unused or lived for too long, unless it is in
// use this moment.
func (v *View) outlived(now time.Time) {
	if !v.mu.TryLock() {
		return
	}
	defer v.mu.Unlock()
	if now.Sub(v.mu.used) >= viewIdle || now.Sub(v.opened) >= viewAge {
		v.endLocked(&kverr.Error{Kind: kverr.Unavailable, Shard: uint64(v.group.shard), Message: fmt.Sprintf(
			"shard %d: the view was given up, unused for %s or %s old; go on with a new one", v.group.shard, viewIdle, viewAge)})
	}
}

// views are those that are open on a node.
type views struct {
	max int

	mu struct { // after View.mu
		sync.Mutex
		open   map[*View]struct{}
		closed bool
	}
}

func newViews(most int) *views {
	v := &views{max: most}
	v.mu.open = make(map[*View]struct{})
	return v
}

func (vs *views) admit(v *View) error {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	switch {
	case vs.mu.closed:
		return kverr.New(kverr.Closed, "raftstore: the store is stopped")
	case len(vs.mu.open) >= vs.max:
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: viewsFullRetry,
			Message: fmt.Sprintf("%d views are open on this node, its limit; try again shortly", len(vs.mu.open))}
	}
	vs.mu.open[v] = struct{}{}
	return nil
}

func (vs *views) leave(v *View) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.mu.open, v)
}

func (vs *views) count() int {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return len(vs.mu.open)
}

func (vs *views) all(which func(*View) bool) []*View {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	var some []*View
	for v := range vs.mu.open {
		if which(v) {
			some = append(some, v)
		}
	}
	return some
}

// sweep closes the views that were left lying.
func (vs *views) sweep(now time.Time) {
	for _, v := range vs.all(func(*View) bool { return true }) {
		v.outlived(now)
	}
}

// endOf closes the views of a group that stops.
func (vs *views) endOf(g *Group, why error) {
	for _, v := range vs.all(func(v *View) bool { return v.group == g }) {
		v.end(why)
	}
}

// close closes all views: iterators must be gone before their database.
func (vs *views) close() {
	vs.mu.Lock()
	vs.mu.closed = true
	vs.mu.Unlock()
	for _, v := range vs.all(func(*View) bool { return true }) {
		v.end(kverr.New(kverr.Closed, "raftstore: the store is stopped"))
	}
}

// iterReader reads single keys through an iterator, and so in its view.
type iterReader struct{ *pebble.Iterator }

// Get implements state.Reader.
func (r iterReader) Get(key []byte) ([]byte, bool, error) {
	if !r.SeekGE(key) {
		return nil, false, r.Error()
	}
	if string(r.Key()) != string(key) {
		return nil, false, nil
	}
	value, err := r.ValueAndErr()
	return append([]byte(nil), value...), err == nil, err
}

// Scan implements state.Reader.
func (r iterReader) Scan(from, to []byte, fn func(k, v []byte) error) error {
	for ok := r.SeekGE(from); ok && string(r.Key()) < string(to); ok = r.Next() {
		v, err := r.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(r.Key(), v); err != nil {
			return err
		}
	}
	return r.Error()
}

// awaitLimit bounds the wait of those who name no deadline.
const awaitLimit = 10 * time.Second

// await waits until what is applied here is as new as spec asks.
func (g *Group) await(ctx context.Context, spec ReadSpec) (ServedBy, error) {
	deadline := time.Now().Add(awaitLimit)
	if at, ok := ctx.Deadline(); ok {
		deadline = at
	}
	done := make(chan error, 1)
	c := &readCall{Read: &Read{ReadSpec: spec, Deadline: deadline}}
	c.Done = func(_ []Value, _ uint64, err error) { done <- err }
	g.read(c)
	select {
	case err := <-done:
		return c.Served, err
	case <-ctx.Done():
		g.drop(c, kverr.New(kverr.Deadline, "shard %d: nobody waits for the read any more: %w", g.shard, ctx.Err()))
		return c.Served, <-done // one of the two was first
	}
}
