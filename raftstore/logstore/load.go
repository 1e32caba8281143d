package logstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
)

// load reads every group's records and the ends of its log: a few seeks each.
func (d *DB) load() (err error) {
	it, err := d.pebble.NewIter(&pebble.IterOptions{LowerBound: []byte{groupSpace}})
	if err != nil {
		return fmt.Errorf("logstore: read groups: %w", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		key, known := parseKey(it.Key())
		if !known {
			return kverr.New(kverr.Format, "logstore: %s holds the key %x, which this build does not know: "+
				"start the build that wrote it", d.opts.Dir, it.Key())
		}
		g := &Group{id: key.group, db: d}
		d.mu.groups[key.group] = g
		if ok, err = g.load(it); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("logstore: read groups: %w", err)
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
		switch key.kind {
		case kindTombstone:
			s.removed = true
		case kindBoundary:
			s.boundary, s.boundaryTerm, err = decodeBoundary(v)
		case kindTerm:
			s.term, err = decodeTerm(v)
		case kindVote:
			s.vote, err = decodeVote(v)
		case kindEntry:
			return g.loadLog(it, key.index)
		default:
			err = errFormat
		}
		if err != nil {
			return false, g.damaged(it.Key(), err)
		}
	}
	s.last, s.lastTerm = s.boundary, s.boundaryTerm
	return it.Valid(), nil
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
		return false, g.damaged(it.Key(), errors.Join(err))
	}
	s.last, s.lastTerm = last.Index, last.Term
	return it.Next(), nil
}

// damaged is the error for a stored value that cannot be read.
func (g *Group) damaged(key []byte, cause error) error {
	if errors.Is(cause, errFormat) {
		return kverr.New(kverr.Format, "logstore: %s: the record %x of group %d is of a kind or format this build does not know: "+
			"start the build that wrote it", g.db.opts.Dir, key, g.id)
	}
	return corrupt(g.db.opts.Dir, &CorruptError{Group: g.id, Detail: fmt.Sprintf("record %x: %v", key, cause)})
}
