package logstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
)

// load reads what is known of replicas, every group's records and the ends of
// its log: a few seeks for each group.
func (d *DB) load() error {
	if err := d.scan([]byte{memberSpace}, nil, d.loadMembers); err != nil {
		return err
	}
	if err := d.scan([]byte{groupSpace}, []byte{memberSpace}, d.loadGroups); err != nil {
		return err
	}
	for _, g := range d.mu.groups {
		if err := g.estimate(); err != nil {
			return err
		}
	}
	for m := range d.members.retired {
		if d.mu.groups[m.Group] == nil {
			d.retiredLogs[m.Group] = true
		}
	}
	return nil
}

// scan gives load an iterator over a range.
func (d *DB) scan(from, to []byte, load func(*pebble.Iterator) error) error {
	it, err := d.pebble.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err == nil {
		if err := load(it); err != nil {
			return errors.Join(err, it.Close())
		}
		err = errors.Join(it.Error(), it.Close())
	}
	if err != nil {
		return fmt.Errorf("logstore: read records: %w", err)
	}
	return nil
}

func (d *DB) unknownKey(key []byte) error {
	return kverr.New(kverr.Format, "logstore: %s holds the key %x, which this build does not know: "+
		"start the build that wrote it", d.opts.Dir, key)
}

func (d *DB) loadGroups(it *pebble.Iterator) (err error) {
	for ok := it.First(); ok; {
		key, known := parseKey(it.Key())
		if !known {
			return d.unknownKey(it.Key())
		}
		g := &Group{id: key.group, db: d}
		d.mu.groups[key.group] = g
		if ok, err = g.load(it); err != nil {
			return err
		}
	}
	return nil
}

// load reads the group that the iterator stands at the beginning of, and moves
// on to the next; more is false when there is none.
func (g *Group) load(it *pebble.Iterator) (more bool, err error) {
	s := &g.state
	for ok := it.Valid(); ok; ok = it.Next() {
		key, known := parseKey(it.Key())
		if !known || key.group != g.id {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return false, fmt.Errorf("logstore: group %d: read record: %w", g.id, err)
		}
		if key.kind == kindEntry {
			if err := g.checkRecords(); err != nil {
				return false, err
			}
			return g.loadLog(it, key.index)
		}
		if err := g.loadRecord(key.kind, it.Key(), v); err != nil {
			return false, g.db.damaged(g.id, it.Key(), err)
		}
	}
	s.last, s.lastTerm = s.boundary, s.boundaryTerm
	return it.Valid(), g.checkRecords()
}

func (g *Group) loadRecord(k kind, key, value []byte) error {
	s := &g.state
	if k < kindBoundary || k > kindIngest {
		return errFormat
	}
	body, err := unseal(key, value)
	if err != nil {
		return err
	}
	switch k {
	case kindBoundary:
		err = readNumbers(body, &s.boundary, &s.boundaryTerm, &s.replica)
		s.floor = s.boundary // what was found when it opened is flushed by then
	case kindTerm:
		err = readNumbers(body, &s.term)
	case kindVote:
		s.vote, err = decodeVote(body)
	case kindIngest:
		err = readNumbers(body, &s.ingest.Index, &s.ingest.Term)
	}
	return err
}

// checkRecords finds records that cannot stand beside each other.
func (g *Group) checkRecords() error {
	s, detail := &g.state, ""
	switch {
	case s.boundary != 0 && g.db.members.isRetired(Member{g.id, s.replica}):
		detail = fmt.Sprintf("replica %d was retired and its log is still there", s.replica)
	case s.ingest != (Marker{}) && s.ingest.Index <= s.boundary:
		detail = fmt.Sprintf("a snapshot up to %d is being ingested into a log that begins after %d", s.ingest.Index, s.boundary)
	case s.ingest != (Marker{}) && s.boundary == 0:
		detail = "a snapshot is being ingested into a log without a boundary"
	}
	if detail != "" {
		return corrupt(g.db.opts.Dir, &CorruptError{Group: g.id, Detail: detail})
	}
	return nil
}

// estimate asks Pebble how long the log is; what it counts is on disk, since a
// database that opens flushes what it found in its WAL.
func (g *Group) estimate() error {
	s := &g.state
	bytes := uint64(0)
	if s.last > s.boundary {
		var err error
		if bytes, err = g.db.pebble.EstimateDiskUsage(entryKey(g.id, s.boundary+1), entryKey(g.id, s.last)); err != nil {
			return fmt.Errorf("logstore: group %d: estimate size: %w", g.id, err)
		}
	}
	g.ledger.restore(s.boundary, s.last, int64(bytes))
	return nil
}

// loadLog reads the ends of a log; the iterator stands at its first entry.
func (g *Group) loadLog(it *pebble.Iterator, first uint64) (more bool, err error) {
	s := &g.state
	if s.boundary == 0 || first != s.boundary && first != s.boundary+1 {
		return false, corrupt(g.db.opts.Dir, &CorruptError{Group: g.id,
			Detail: fmt.Sprintf("its log begins with entry %d and its boundary is %d", first, s.boundary)})
	}
	s.boundaryKept = first == s.boundary
	it.SeekLT(groupEnd(g.id))
	key, _ := parseKey(it.Key())
	v, err := it.ValueAndErr()
	if err != nil {
		return false, fmt.Errorf("logstore: group %d: read last entry: %w", g.id, err)
	}
	last, err := decodeEntry(v, key.index)
	if err != nil || key.kind != kindEntry {
		return false, g.db.damaged(g.id, it.Key(), errors.Join(err))
	}
	s.last, s.lastTerm = last.Index, last.Term
	return it.Next(), nil
}

// damaged is the error for a stored value that cannot be read.
func (d *DB) damaged(group uint64, key []byte, cause error) error {
	if errors.Is(cause, errFormat) {
		return kverr.New(kverr.Format, "logstore: %s: the record %x of group %d is of a kind or format this build does not know: "+
			"start the build that wrote it", d.opts.Dir, key, group)
	}
	return corrupt(d.opts.Dir, &CorruptError{Group: group, Detail: fmt.Sprintf("record %x: %v", key, cause)})
}
