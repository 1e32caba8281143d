package logstore

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/histogram"
)

// DB is the log database of a node. It is safe for concurrent use.
type DB struct {
	opts   Options
	start  time.Time
	pebble *pebble.DB
	cache  *cache
	marks  *highWater

	members *members

	queue    chan *request
	cut      chan struct{}  // 1: the sweeper should flush some time
	flushed  chan struct{}  // 1: Pebble has flushed since the sweeper looked
	stop     chan struct{}  // closed when nobody is inside any more
	workers  sync.WaitGroup // writer, keeper and sweeper
	users    sync.WaitGroup // callers inside
	released chan struct{}  // closed by Close: ends who waits on a dead database
	closed   chan struct{}  // closed at Close's end
	closeErr error          // readable after closed

	retiredLogs map[uint64]bool // writer only: groups whose log may still be in tables

	opened  atomic.Bool // from here on a failing log file is the end (guardedFS)
	failing atomic.Bool
	dead    chan struct{}
	cause   error // readable after dead

	pendingSince          atomic.Int64 // 1 + nanoseconds after start; 0: none
	syncs, entries, bytes atomic.Uint64
	pinsBroken, excised   atomic.Uint64
	usage                 atomic.Pointer[usage]
	syncTimes             histogram.Histogram

	mu struct {
		sync.Mutex
		closing bool
		groups  map[uint64]*Group
	}
}

// Info is what the database holds of a group.
type Info struct {
	// Boundary and BoundaryTerm: below them nothing exists (L1). 0 before birth.
	Boundary     uint64
	BoundaryTerm uint64
	// FirstIndex and LastIndex as raft sees them: FirstIndex is the boundary, and
	// so is LastIndex while no entry follows. State applied below Boundary cannot
	// be continued from this log.
	FirstIndex  uint64
	LastIndex   uint64
	CurrentTerm uint64
	Exists      bool    // something is stored
	Replica     uint64  // whose log it is; 0 before birth
	Bytes       int64   // of log after the boundary, see Group.Bytes
	Ingest      *Marker // the snapshot that is being ingested (L2), nil for none
	Quarantined string  // why Replica is in quarantine, empty when it is not
}

// Group returns the group's log, stored or not yet; the same pointer until its
// replica is retired. It stays in memory: ask for groups of this node only.
func (d *DB) Group(group uint64) *Group {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.mu.groups[group]
	if g == nil {
		g = &Group{id: group, db: d}
		d.mu.groups[group] = g
	}
	return g
}

// find returns nil for a group that nobody has asked for.
func (d *DB) find(group uint64) *Group {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.groups[group]
}

func (d *DB) all() []*Group {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.mu.groups))
}

// Groups lists the groups of which something is stored, in order.
func (d *DB) Groups() []uint64 {
	var ids []uint64
	for _, g := range d.all() {
		if s := g.view(); s.exists() {
			ids = append(ids, g.id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Info describes a group; the zero Info when nothing is stored.
func (d *DB) Info(group uint64) Info {
	g := d.find(group)
	if g == nil {
		return Info{}
	}
	g.mu.RLock()
	s, bytes := g.state, g.ledger.bytes()
	g.mu.RUnlock()
	if s.retired {
		return Info{}
	}
	info := Info{
		Boundary: s.boundary, BoundaryTerm: s.boundaryTerm,
		FirstIndex: s.boundary, LastIndex: s.last, CurrentTerm: s.term,
		Exists: s.exists(), Replica: s.replica, Bytes: bytes,
	}
	if s.ingest != (Marker{}) {
		info.Ingest = &s.ingest
	}
	info.Quarantined, _ = d.members.quarantine(Member{group, s.replica})
	return info
}

// Metrics are Pebble's; false when the database is dead or closed. It may wait
// for the disk: Pebble collects them under locks that it holds over I/O.
func (d *DB) Metrics() (*pebble.Metrics, bool) {
	if d.enter() != nil {
		return nil, false
	}
	defer d.users.Done()
	return d.pebble.Metrics(), true
}

// OldestPendingSync is how long the oldest write has waited for the disk, 0 when
// none is waiting. An idle database syncs a probe each second, so a hung disk
// shows without work (D1).
func (d *DB) OldestPendingSync() time.Duration {
	since := d.pendingSince.Load()
	if since == 0 {
		return 0
	}
	return max(time.Since(d.start)-time.Duration(since-1), 1)
}

// enter lets a caller use the database until it calls users.Done.
func (d *DB) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closing || !d.alive() {
		return errUnanswered
	}
	d.users.Add(1)
	return nil
}

// submit hands a request to the writer and waits for its answer. When the queue
// is full it waits for room.
func (d *DB) submit(r *request) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	r.at = time.Now()
	r.done = make(chan error, 1)
	select {
	case d.queue <- r:
	case <-d.dead:
		return errUnanswered
	}
	select {
	case err := <-r.done:
		return err
	case <-d.dead:
		return errUnanswered
	}
}

// Close answers what was accepted, then closes; a second call waits for the
// first. It waits for the disk. On a dead database it ends those who wait there
// and returns the cause.
func (d *DB) Close() error {
	d.mu.Lock()
	again := d.mu.closing
	d.mu.closing = true
	d.mu.Unlock()
	if again {
		<-d.closed
		return d.closeErr
	}
	close(d.released)
	d.users.Wait()
	close(d.stop)
	d.workers.Wait()
	if d.alive() {
		d.refreshMarks()
	}
	err := d.pebble.Close()
	if !d.alive() {
		err = errors.Join(d.unanswered(), err)
	}
	d.closeErr = err
	close(d.closed)
	return err
}
