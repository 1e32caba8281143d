package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

const (
	databaseName  = "db"
	highWaterName = "highwater"
)

// Open opens the database, creating it when Dir holds none, and checks it
// against the high-water mark (L3). Kinds of its errors: Invalid for options,
// Format for a database of a newer build, Internal with a *CorruptError inside
// for one that lost or damaged what it had.
//
// A missing mark is a first start only while no group is stored: creation writes
// the mark before Open returns, so groups without one mean that files were lost.
func Open(o Options) (*DB, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	d := &DB{
		opts: o, start: time.Now(), cache: newCache(o.LogCacheBytes), members: newMembers(),
		queue: make(chan *request, queueLen), cut: make(chan struct{}, 1), flushed: make(chan struct{}, 1), stop: make(chan struct{}),
		released: make(chan struct{}), closed: make(chan struct{}), dead: make(chan struct{}),
	}
	d.retiredLogs = make(map[uint64]bool)
	d.mu.groups = make(map[uint64]*Group)
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("logstore: make %s: %w", o.Dir, err)
	}
	path := o.FS.PathJoin(o.Dir, databaseName)
	if d.pebble, err = pebble.Open(path, d.pebbleOptions()); err != nil {
		return nil, fmt.Errorf("logstore: open %s: %w", path, err)
	}
	if err := d.prepare(); err != nil {
		close(d.released)
		return nil, errors.Join(err, d.pebble.Close())
	}
	d.opened.Store(true)
	if len(d.mu.groups)+len(d.retiredLogs) > 0 {
		d.truncated() // by an earlier process
	}
	w := &writer{db: d, queue: d.queue, stop: d.stop}
	d.workers.Go(w.run)
	d.workers.Go(d.keep)
	d.workers.Go(d.sweep)
	return d, nil
}

// prepare does what comes between Pebble's opening and ours.
func (d *DB) prepare() error {
	if err := d.checkFormat(); err != nil {
		return err
	}
	if err := d.load(); err != nil {
		return err
	}
	file, found, err := readHighWater(d.opts.FS, d.opts.Dir)
	if err != nil {
		return err
	}
	if stored := len(d.mu.groups) + int(d.members.weight()); !found && stored > 0 {
		return corrupt(d.opts.Dir, &CorruptError{
			Detail: fmt.Sprintf("%d groups are stored and the high-water mark is missing", len(d.mu.groups)),
		})
	}
	if err := d.checkMarks(file); err != nil {
		return err
	}
	d.marks = newHighWater(d.opts.FS, d.opts.Dir, file)
	d.marks.noteMembers(d.members)
	for _, g := range d.mu.groups {
		d.marks.note(g)
	}
	if !found {
		return d.marks.write()
	}
	return nil
}

// checkFormat reads the store's format, and writes it into a new database.
func (d *DB) checkFormat() error {
	v, closer, err := d.pebble.Get(formatKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return d.create()
	}
	if err != nil {
		return fmt.Errorf("logstore: read format: %w", err)
	}
	v = append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		return fmt.Errorf("logstore: read format: %w", err)
	}
	if len(v) != 4 {
		return corrupt(d.opts.Dir, &CorruptError{Detail: fmt.Sprintf("store format has %d bytes", len(v))})
	}
	if got := binary.BigEndian.Uint32(v); got != storeFormat {
		return kverr.New(kverr.Format, "logstore: the log database in %s has format %d, this build knows %d: "+
			"start the build that wrote it", d.opts.Dir, got, storeFormat)
	}
	return nil
}

func (d *DB) create() error {
	if err := d.pebble.Set(formatKey, binary.BigEndian.AppendUint32(nil, storeFormat), pebble.Sync); err != nil {
		return fmt.Errorf("logstore: write format: %w", err)
	}
	// The first WAL of a new database is made before the format is raised and
	// cannot tell damage from its end. A flush goes on to the second.
	if err := d.pebble.Flush(); err != nil {
		return fmt.Errorf("logstore: flush new database: %w", err)
	}
	if !d.alive() {
		return d.unanswered() // Pebble told its logger only
	}
	return nil
}

// checkMarks is rule L3.
func (d *DB) checkMarks(file highWaterFile) error {
	if have := d.members.weight(); have < file.members {
		return corrupt(d.opts.Dir, &CorruptError{
			What: "count of retired and quarantined replicas", Have: have, Want: file.members,
		})
	}
	for group, m := range file.marks {
		g := d.mu.groups[group]
		if g == nil {
			g = &Group{id: group, db: d} // judged as one with nothing left
		}
		if e := g.checkMark(m); e != nil {
			e.Group = group
			return corrupt(d.opts.Dir, e)
		}
	}
	return nil
}

func (g *Group) checkMark(m mark) *CorruptError {
	s := &g.state
	switch {
	case s.last < m.last:
		return &CorruptError{What: "last index", Have: s.last, Want: m.last}
	case s.term < m.term:
		return &CorruptError{What: "current term", Have: s.term, Want: m.term}
	case s.vote.term < m.voteTerm:
		return &CorruptError{What: "term of the last vote", Have: s.vote.term, Want: m.voteTerm}
	case max(s.boundary, s.ingest.Index) < m.floor:
		return &CorruptError{What: "index before the log", Have: max(s.boundary, s.ingest.Index), Want: m.floor}
	case m.last <= s.boundary || m.last == 0:
		return nil // truncated since, replaced by a snapshot, or never born
	}
	term, err := g.termAt(m.last)
	if err != nil {
		return &CorruptError{Detail: err.Error()}
	}
	if term != m.lastTerm {
		return &CorruptError{What: fmt.Sprintf("term of entry %d", m.last), Have: term, Want: m.lastTerm}
	}
	return nil
}

// makeDir makes dir durably, with those of its parents that are missing.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for parent := fs.PathDir(dir); ; parent = fs.PathDir(parent) {
		parents = append(parents, parent)
		if _, err := fs.Stat(parent); err == nil || parent == fs.PathDir(parent) {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}
