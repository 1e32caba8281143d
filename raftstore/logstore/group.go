package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// LogBoundary is the type of the entry that stands for a boundary whose entry is
// not stored. Raft uses its index and term only; who ships it meets receivers
// that refuse the type, and a raft that applied it would panic.
const LogBoundary raft.LogType = 0xff

// Group is the log and the stable store of one Raft group. It implements
// raft.LogStore and raft.StableStore and is safe for concurrent use. Once its
// replica is retired every call is refused.
type Group struct {
	id uint64
	db *DB

	mu sync.RWMutex
	// state is what is durable. Written by the writer only, which therefore
	// reads it without the lock. Truncations narrow it before they commit and
	// everything else widens it afterwards, so an entry that is in it and not in
	// the database is lost, unless a truncation was counted meanwhile.
	state groupState
	// staged is the term of a vote whose candidate raft has not named yet (S3).
	staged uint64
	ledger ledger
	pins   []*pin // few

	swept     uint64 // writer only: what was truncated below it is out of the tables
	batch     uint64 // writer only: the last batch this group was in
	committed uint64 // writer only: the last commit it took part in, for pacing
}

var (
	_ raft.LogStore    = (*Group)(nil)
	_ raft.StableStore = (*Group)(nil)
)

type groupState struct {
	replica      uint64 // whose log it is; 0: never born
	boundary     uint64 // 0: never born
	boundaryTerm uint64
	boundaryKept bool // the entry at the boundary is stored
	last         uint64
	lastTerm     uint64
	term         uint64
	vote         vote
	ingest       Marker // zero: none
	// floor is a boundary that is durable, whatever becomes of later ones.
	floor   uint64
	retired bool
	cuts    uint64 // truncations since Open
}

// vote is the last vote; candidate is nil when there was none.
type vote struct {
	term      uint64
	candidate []byte
}

func (s *groupState) exists() bool {
	return s.boundary != 0 || s.term != 0 || s.vote.candidate != nil
}

func (s *groupState) mark() mark {
	return mark{
		last: s.last, lastTerm: s.lastTerm, term: s.term, voteTerm: s.vote.term,
		floor: max(s.floor, s.ingest.Index),
	}
}

func (g *Group) view() groupState {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.state
}

// change publishes what fn does to the state. Writer only.
func (g *Group) change(fn func(*groupState)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn(&g.state)
}

// FirstIndex is the boundary's index, 0 before birth (see the package comment).
func (g *Group) FirstIndex() (uint64, error) {
	s := g.view()
	return s.boundary, g.gone(s)
}

// LastIndex is the index of the last durable entry, or of the boundary when
// there is none after it; 0 before birth.
func (g *Group) LastIndex() (uint64, error) {
	s := g.view()
	return s.last, g.gone(s)
}

// gone refuses what is asked of a retired replica's log.
func (g *Group) gone(s groupState) error {
	if !s.retired {
		return nil
	}
	err := kverr.New(kverr.Closed, "logstore: group %d: replica %d was retired and its log is gone", g.id, s.replica)
	err.Shard = g.id
	return err
}

// goneRefusal is the same for the writer. Writer only.
func (g *Group) goneRefusal() error { return refusal{g.gone(g.state)} }

// GetLog reads one entry into out, or answers raft.ErrLogNotFound itself. Data
// and Extensions are shared and must not be changed. At a boundary of a birth or
// an ingest there is no entry; it answers one of type LogBoundary with the
// boundary's term, for raft's comparison with the previous entry.
func (g *Group) GetLog(index uint64, out *raft.Log) error {
	for s := g.view(); ; {
		if err := g.gone(s); err != nil {
			return err
		}
		if s.boundary == 0 || index < s.boundary || index > s.last {
			return raft.ErrLogNotFound
		}
		if index == s.boundary && !s.boundaryKept {
			*out = raft.Log{Index: index, Term: s.boundaryTerm, Type: LogBoundary}
			return nil
		}
		if g.db.cache.get(g.id, index, out) {
			return nil
		}
		l, err := g.readEntry(index)
		if err == nil {
			*out = l
			return nil
		}
		if err == errUnanswered {
			return g.db.answer(err)
		}
		before := s
		if s = g.view(); errors.Is(err, pebble.ErrNotFound) && s.cuts != before.cuts {
			continue // it was truncated under our feet, and may be back by now
		}
		// Raft panics on any other error than ErrLogNotFound, or takes it for a
		// missing entry and carries on with a log it cannot read.
		g.db.fail(fmt.Errorf("logstore: group %d: read entry %d of %d..%d: %w", g.id, index, s.boundary, s.last, err))
		return g.db.answer(errUnanswered)
	}
}

// readEntry reads an entry from the database.
func (g *Group) readEntry(index uint64) (raft.Log, error) {
	if err := g.db.enter(); err != nil {
		return raft.Log{}, err
	}
	defer g.db.users.Done()
	v, closer, err := g.db.pebble.Get(entryKey(g.id, index))
	if err != nil {
		return raft.Log{}, err
	}
	b := bytes.Clone(v)
	if err := closer.Close(); err != nil {
		return raft.Log{}, err
	}
	return decodeEntry(b, index)
}

// termAt is the term of an index from first to last. Writer only.
func (g *Group) termAt(index uint64) (uint64, error) {
	switch s := &g.state; index {
	case s.boundary:
		return s.boundaryTerm, nil
	case s.last:
		return s.lastTerm, nil
	}
	var l raft.Log
	if g.db.cache.get(g.id, index, &l) {
		return l.Term, nil
	}
	v, closer, err := g.db.pebble.Get(entryKey(g.id, index))
	if err != nil {
		return 0, fmt.Errorf("logstore: group %d: read term of entry %d: %w", g.id, index, err)
	}
	l, err = decodeEntry(v, index)
	return l.Term, errors.Join(err, closer.Close())
}

// StoreLog is StoreLogs with one entry.
func (g *Group) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs makes entries durable. They continue the log, or replace its end
// from the first entry's index on. See LS1 for errors.
func (g *Group) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	bytes := 0
	for _, l := range logs {
		bytes += entryKeyLen + entrySize(l)
	}
	return g.db.answer(g.db.submit(&request{op: &appendOp{group: g, logs: logs}, group: g, bytes: bytes}))
}

// DeleteRange truncates the log's beginning (min at or below FirstIndex) or its
// end (max at or past LastIndex). Truncating the beginning moves the boundary to
// max and is durable some time later; truncating the end is durable no later
// than the next StoreLogs. See LS1 for errors.
func (g *Group) DeleteRange(min, max uint64) error {
	return g.db.answer(g.db.submit(&request{op: &truncateOp{group: g, min: min, max: max}, group: g}))
}
