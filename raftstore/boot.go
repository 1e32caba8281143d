package raftstore

import (
	"context"
	"encoding/binary"
	"fmt"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/snapshot"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"

	"github.com/cockroachdb/pebble/v2"
)

// boot checks every replica on disk against rule L2, finishes what a crash left
// half done, and starts the sound ones. All are checked before any starts: raft
// panics on a log with a hole, and a panic would take the sound ones along. One
// that cannot be trusted is quarantined; the others run.
func (s *Store) boot() error {
	for _, m := range s.log.Retired() {
		s.opts.Network.Retire(m.Group, shardmap.ReplicaID(m.Replica))
	}
	stored, err := s.storedRecords()
	if err != nil {
		return err
	}
	retired := make(map[logstore.Member]bool)
	for _, m := range s.log.Retired() {
		retired[m] = true
	}
	condemned := make(map[logstore.Member]string)
	for _, m := range s.log.Quarantined() {
		condemned[m.Member] = m.Reason
	}
	var start []shardmap.Record
	var rebirths []logstore.Birth
	known := make(map[uint64]bool)
	for _, rec := range stored.records {
		known[uint64(rec.Shard)] = true
		member, ok := rec.On(s.opts.Self)
		id := logstore.Member{Group: uint64(rec.Shard), Replica: uint64(member.ID)}
		if reason, held := condemned[id]; held {
			s.quarantined.add(Quarantined{Shard: rec.Shard, Replica: member.ID, Reason: reason})
			continue
		}
		if retired[id] {
			if err := s.finishRemoval(context.Background(), rec); err != nil && !damaged(err) {
				return err
			} else if err != nil { // it cannot run again, and the others can
				s.opts.Logger.Error("the data of a retired replica stays", "shard", rec.Shard, "replica", member.ID, "err", err)
			}
			continue
		}
		rebirth, fault, err := s.settle(rec)
		if err != nil {
			return fmt.Errorf("raftstore: shard %d: %w", rec.Shard, err)
		}
		if fault == nil && !ok {
			fault = kverr.New(kverr.Internal, "its record places no replica on this node")
		}
		if fault != nil {
			if err := s.condemn(Quarantined{Shard: rec.Shard, Replica: member.ID, Reason: fault.Error()}); err != nil {
				return err
			}
			continue
		}
		if rebirth {
			rebirths = append(rebirths, birthOf(rec.Shard, member.ID))
		}
		start = append(start, rec)
	}
	if err := s.condemnLogs(known, condemned, stored.damage); err != nil {
		return err
	}
	if err := s.log.Birth(rebirths); err != nil {
		return fmt.Errorf("raftstore: redo births: %w", err)
	}
	// No ingest waits for a staging any more: what was begun is sent again.
	if _, err := s.staging.Recover(func(snapshot.Descriptor) bool { return false }); err != nil {
		return err
	}
	return s.startAll(start)
}

// startAll starts groups that have passed the checks.
func (s *Store) startAll(records []shardmap.Record) error {
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

// condemnLogs quarantines the logs that have no record. They are never cleaned by
// guess: the record may have been lost, and with it the only reason to keep a
// vote.
func (s *Store) condemnLogs(known map[uint64]bool, condemned map[logstore.Member]string, damage error) error {
	for _, group := range s.log.Groups() {
		info := s.log.Info(group)
		if known[group] || info.Replica == 0 {
			continue
		}
		m := Quarantined{Shard: shardmap.ShardID(group), Replica: shardmap.ReplicaID(info.Replica),
			Reason: "it has a log and no record: the state database is incomplete"}
		if damage != nil {
			m.Reason += ": " + damage.Error()
		}
		if reason, held := condemned[logstore.Member{Group: group, Replica: info.Replica}]; held {
			m.Reason = reason
			s.quarantined.add(m)
			continue
		}
		if err := s.condemn(m); err != nil {
			return err
		}
	}
	return nil
}

// stored is what the state database says of shards.
type stored struct {
	records []shardmap.Record
	damage  error // what could not be read as a record
}

// storedRecords finds every shard's record by skipping from span to span: a
// record says where its shard's span ends, and stands first in it. A slot with
// data and no readable record is noted and passed over; the log of its shard,
// which is then without a record, is quarantined by boot.
func (s *Store) storedRecords() (found stored, err error) {
	it, err := s.state.NewIter(&pebble.IterOptions{})
	if err != nil {
		return stored{}, fmt.Errorf("raftstore: read records: %w", err)
	}
	defer it.Close()
	for next := shardmap.Slot(0); next < shardmap.SlotEnd; {
		from, _ := state.Span(shardmap.Arc{From: next, To: shardmap.SlotEnd})
		if !it.SeekGE(from) {
			err := it.Error()
			if !pebble.IsCorruptionError(err) {
				return found, err
			}
			found.damage = err
			// The damaged block may be the last one of the shard before: a record is
			// looked up without it.
			if rec, ok, err := state.ReadRecord(kvReader{s.state}, next); err == nil && ok {
				found.records = append(found.records, rec)
				next = rec.Arc.To
				continue
			}
			edge, err := damageEnds(it, next)
			if err != nil {
				return stored{}, err
			}
			next = max(edge, next+1)
			continue
		}
		if len(it.Key()) < 2 {
			return stored{}, kverr.New(kverr.Internal, "raftstore: the state database holds a key of no slot: %x", it.Key())
		}
		slot := shardmap.Slot(binary.BigEndian.Uint16(it.Key()))
		rec, ok, err := state.ReadRecord(kvReader{s.state}, slot)
		switch {
		case err != nil && !damaged(err):
			return stored{}, err // a newer build's, or the disk's
		case err != nil:
			found.damage = err
		case !ok:
			if found.damage == nil {
				found.damage = kverr.New(kverr.Internal, "slot %d holds data that no record covers", slot)
			}
		default:
			found.records = append(found.records, rec)
			next = rec.Arc.To
			continue
		}
		next = slot + 1
	}
	return found, nil
}

// damageEnds is the last slot, from one on that cannot be sought, that cannot
// either: in steps that double and then halve, since Pebble looks for the flipped bit
// of a damaged block each time that it is read, which may take it a second. What is
// sound between two damaged blocks may be passed over.
func damageEnds(it *pebble.Iterator, from shardmap.Slot) (shardmap.Slot, error) {
	bad, good := int(from), int(shardmap.SlotEnd)
	for step, halving := 1, false; good-bad > 1; {
		at := bad + (good-bad)/2
		if !halving {
			if at = int(from) + step; at >= good {
				halving = true
				continue
			}
			step *= 2
		}
		key, _ := state.Span(shardmap.Arc{From: shardmap.Slot(at), To: shardmap.SlotEnd})
		switch it.SeekGE(key); {
		case it.Error() == nil:
			good, halving = at, true
		case pebble.IsCorruptionError(it.Error()):
			bad = at
		default:
			return 0, it.Error()
		}
	}
	return shardmap.Slot(bad), nil
}

// confirm answers other leaders' rounds: is our replica's term still theirs?
func (s *Store) confirm(qs []*peerv1.TermQuestion) transport.Confirmation {
	c := transport.Confirmation{Same: make([]bool, len(qs))}
	if s.dead.Load() {
		return c
	}
	for i, q := range qs {
		g, ok := s.Group(shardmap.ShardID(q.GetGroup()))
		c.Same[i] = ok && uint64(g.replica) == q.GetReplica() && g.raft.CurrentTerm() == q.GetTerm()
		if q.GetWantTime() && c.Same[i] {
			if c.Times == nil {
				c.Times = make([]uint64, len(qs))
			}
			c.Times[i] = g.elapsed.Load().at(s.opts.Clock.Mono())
		}
	}
	c.WallMicros = s.opts.Clock.WallMicros()
	return c
}
