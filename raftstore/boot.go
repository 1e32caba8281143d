package raftstore

import (
	"encoding/binary"
	"fmt"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"

	"github.com/cockroachdb/pebble/v2"
)

// boot checks every group on disk against rule L2 and starts it. All are checked
// before any starts: raft panics on a log with a hole, and a panic would take
// the sound groups along.
func (s *Store) boot() error {
	records, err := s.storedRecords()
	if err != nil {
		return err
	}
	known := make(map[uint64]bool)
	var rebirths []logstore.Birth
	for _, rec := range records {
		known[uint64(rec.Shard)] = true
		applied, found, err := state.LoadApplied(kvReader{s.state}, rec.Arc.From)
		if err != nil || !found {
			return fmt.Errorf("raftstore: shard %d: applied state (found %t): %w", rec.Shard, found, err)
		}
		again, err := checkBoot(rec.Shard, applied, s.log.Info(uint64(rec.Shard)))
		if err != nil {
			return err
		}
		if again {
			member, ok := rec.On(s.opts.Self)
			if !ok {
				return kverr.New(kverr.Internal, "raftstore: shard %d places no replica on this node", rec.Shard)
			}
			rebirths = append(rebirths, birthOf(rec.Shard, member.ID))
		}
	}
	for _, group := range s.log.Groups() {
		if !known[group] {
			// Never cleaned by guess: the record may have been lost, and with it
			// the only reason to keep a vote.
			return kverr.New(kverr.Internal, "raftstore: group %d has a log and no record in %s: "+
				"the state database is incomplete; restore it or wipe the data directory and join as a new node",
				group, s.opts.Dir)
		}
	}
	if err := s.log.Birth(rebirths); err != nil {
		return fmt.Errorf("raftstore: redo births: %w", err)
	}
	for _, rec := range records {
		g, err := s.open(rec)
		if err != nil {
			return err
		}
		if err := s.register(g); err != nil {
			return err
		}
	}
	return nil
}

// checkBoot judges what a crash may have left of a group (L2). A record at its
// birth without a log is a birth to be redone; an applied index past the log's
// end is a log that lost acknowledged entries.
func checkBoot(shard shardmap.ShardID, applied state.AppliedState, log logstore.Info) (rebirth bool, err error) {
	if !log.Exists {
		if applied.Index == birthIndex {
			return true, nil
		}
		return false, kverr.New(kverr.Internal,
			"raftstore: shard %d: state is applied up to %d and its log is gone: the log database is incomplete",
			shard, applied.Index)
	}
	if applied.Index > log.LastIndex {
		return false, kverr.New(kverr.Internal,
			"raftstore: shard %d: state is applied up to %d and the log ends at %d: the log database lost entries",
			shard, applied.Index, log.LastIndex)
	}
	if log.Boundary > applied.Index {
		return false, kverr.New(kverr.Internal,
			"raftstore: shard %d: the log begins at %d and state is applied only up to %d: entries between are gone",
			shard, log.Boundary, applied.Index)
	}
	return false, nil
}

// storedRecords finds every shard's record by skipping from span to span: a
// record says where its shard's span ends, and stands first in it.
func (s *Store) storedRecords() ([]shardmap.Record, error) {
	var records []shardmap.Record
	it, err := s.state.NewIter(&pebble.IterOptions{})
	if err != nil {
		return nil, fmt.Errorf("raftstore: read records: %w", err)
	}
	defer it.Close()
	for next := shardmap.Slot(0); next < shardmap.SlotEnd; {
		from, _ := state.Span(shardmap.Arc{From: next, To: shardmap.SlotEnd})
		if !it.SeekGE(from) {
			break
		}
		if len(it.Key()) < 2 {
			return nil, kverr.New(kverr.Internal, "raftstore: the state database holds a key of no slot: %x", it.Key())
		}
		slot := shardmap.Slot(binary.BigEndian.Uint16(it.Key()))
		rec, found, err := state.ReadRecord(kvReader{s.state}, slot)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, kverr.New(kverr.Internal, "raftstore: slot %d holds data that no record covers", slot)
		}
		records = append(records, rec)
		next = rec.Arc.To
	}
	return records, it.Error()
}

// confirm answers other leaders' rounds: is our replica's term still theirs?
func (s *Store) confirm(qs []*peerv1.TermQuestion) (same []bool, wallMicros uint64) {
	same = make([]bool, len(qs))
	if s.dead.Load() {
		return same, 0
	}
	for i, q := range qs {
		g, ok := s.Group(shardmap.ShardID(q.GetGroup()))
		same[i] = ok && uint64(g.replica) == q.GetReplica() && g.raft.CurrentTerm() == q.GetTerm()
	}
	return same, s.opts.Clock.WallMicros()
}
