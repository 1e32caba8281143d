package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// Every group is born from the same synthetic snapshot, so that a blank joiner
// can never replay from entry 1: it always lacks what came before birthIndex.
const (
	birthIndex = 10
	birthTerm  = 5
)

func birthOf(shard shardmap.ShardID, replica shardmap.ReplicaID) logstore.Birth {
	return logstore.Birth{Group: uint64(shard), Replica: uint64(replica), Index: birthIndex, Term: birthTerm}
}

// Create brings the local replicas of new shards to life and starts them. Every
// member's node calls it with the same records, once in a shard's life: it is
// for replicas that have never run anywhere. A shard that is here already with
// the same replica is left as it is, so a repeated Create is harmless; another
// replica of a slot that a local shard covers is refused (G1).
//
// Order (L2): records into the state database, flush, then one synced batch of
// log boundaries and first terms, then the groups. The first replica of each
// record campaigns at once, so a shard need not wait for an election timeout
// and leaders are spread as placement wanted them.
func (s *Store) Create(ctx context.Context, records []shardmap.Record) error {
	select {
	case s.births <- struct{}{}:
		defer func() { <-s.births }()
	case <-s.stopping:
		return kverr.New(kverr.Closed, "raftstore: the store is stopped")
	case <-ctx.Done(): // a removal or restart may be waiting for the disk
		return fmt.Errorf("raftstore: create: %w", ctx.Err())
	}
	fresh, err := s.admitBirths(records)
	if err != nil || len(fresh) == 0 {
		return err
	}
	if err := s.writeBirths(fresh); err != nil {
		return err
	}
	for _, rec := range fresh {
		if err := ctx.Err(); err != nil {
			return err // the rest starts at the next boot or a repeated Create
		}
		g, err := s.open(rec)
		if err != nil {
			return err
		}
		if err := s.register(g); err != nil {
			return errors.Join(err, g.stop())
		}
		if rec.Replicas[0].Node == s.opts.Self {
			g.workers.Go(g.campaignWhenBorn)
		}
	}
	return nil
}

// admitBirths drops the shards that are here already and refuses overlaps.
func (s *Store) admitBirths(records []shardmap.Record) ([]shardmap.Record, error) {
	var fresh []shardmap.Record
	for _, rec := range records {
		member, ok := rec.On(s.opts.Self)
		if !ok {
			return nil, kverr.New(kverr.Invalid, "raftstore: shard %d places no replica on this node", rec.Shard)
		}
		if err := s.refuseBarred(rec.Shard, member.ID); err != nil {
			return nil, err
		}
		if g, ok := s.Group(rec.Shard); ok {
			if g.replica != member.ID {
				return nil, kverr.New(kverr.Conflict, "raftstore: shard %d: replica %d is here, %d cannot be",
					rec.Shard, g.replica, member.ID)
			}
			continue
		}
		for _, g := range s.Groups() {
			if g.Record().Arc.Overlaps(rec.Arc) {
				return nil, kverr.New(kverr.Conflict, "raftstore: shard %d covers %s already, shard %d %s cannot be born here",
					g.shard, g.Record().Arc, rec.Shard, rec.Arc)
			}
		}
		fresh = append(fresh, rec)
	}
	return fresh, nil
}

func (s *Store) writeBirths(records []shardmap.Record) error {
	batch := s.state.NewBatch()
	births := make([]logstore.Birth, 0, len(records))
	for _, rec := range records {
		member, _ := rec.On(s.opts.Self) // admitted
		if applied, found, err := state.LoadApplied(kvReader{s.state}, rec.Arc.From); err != nil || found {
			if err == nil && applied.Index == birthIndex && s.bornAs(rec, member.ID) {
				births = append(births, birthOf(rec.Shard, member.ID)) // an earlier Create got this far
				continue
			}
			return errors.Join(kverr.New(kverr.Conflict, "raftstore: shard %d has state here already", rec.Shard), err, batch.Close())
		}
		conf := raft.EncodeConfiguration(configurationOf(rec))
		if err := state.Birth(batchWriter{batch}, rec, birthIndex, birthTerm, conf); err != nil {
			return errors.Join(fmt.Errorf("raftstore: shard %d: birth: %w", rec.Shard, err), batch.Close())
		}
		births = append(births, birthOf(rec.Shard, member.ID))
	}
	if err := errors.Join(batch.Commit(pebble.NoSync), batch.Close()); err != nil {
		return fmt.Errorf("raftstore: write records: %w", err)
	}
	s.opts.Failpoints.Hit(failpoint.BirthWritten)
	// Before the flush the records are nowhere but in memory, and a log whose
	// record was lost could not be replayed.
	if err := s.flush(); err != nil {
		return fmt.Errorf("raftstore: flush records: %w", err)
	}
	s.opts.Failpoints.Hit(failpoint.BirthFlushed)
	if err := s.log.Birth(births); err != nil {
		return fmt.Errorf("raftstore: write log boundaries: %w", err)
	}
	s.opts.Failpoints.Hit(failpoint.BirthLogged)
	return nil
}

// bornAs reports whether the record stored where this one would be is of the same
// replica: what is left of another's birth must not become this one's.
func (s *Store) bornAs(rec shardmap.Record, replica shardmap.ReplicaID) bool {
	stored, found, err := state.ReadRecord(kvReader{s.state}, rec.Arc.From)
	if err != nil || !found || stored.Shard != rec.Shard {
		return false
	}
	member, ok := stored.On(s.opts.Self)
	return ok && member.ID == replica
}

func configurationOf(rec shardmap.Record) raft.Configuration {
	var conf raft.Configuration
	for _, m := range rec.Replicas {
		id := transport.ServerID(m.Node, m.ID)
		suffrage := raft.Voter
		if m.Role == shardmap.Learner {
			suffrage = raft.Nonvoter
		}
		conf.Servers = append(conf.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: suffrage})
	}
	return conf
}

const (
	campaignPoll  = 20 * time.Millisecond
	campaignTries = 50
)

// campaignWhenBorn campaigns as soon as a majority of the newborn's replicas
// run, or leaves it to the election timeout after about a second.
func (g *Group) campaignWhenBorn() {
	rec := g.Record()
	tick := time.NewTicker(campaignPoll)
	defer tick.Stop()
	for range campaignTries {
		if g.raft.CurrentTerm() != birthTerm {
			return // somebody campaigned already
		}
		if g.majorityBorn(rec) {
			g.trans.Campaign()
			return
		}
		select {
		case <-g.closing:
			return
		case <-tick.C:
		}
	}
}

// majorityBorn asks the other voters whether they are at the birth term.
func (g *Group) majorityBorn(rec shardmap.Record) bool {
	voters, others := 0, 0
	answers := make(chan bool, len(rec.Replicas))
	for _, m := range rec.Replicas {
		if m.Role != shardmap.Voter {
			continue
		}
		voters++
		if m.ID == g.replica {
			continue
		}
		others++
		q := []*peerv1.TermQuestion{{Group: uint64(g.shard), Replica: uint64(m.ID), Term: birthTerm}}
		g.store.opts.Network.Confirm(m.Node, q, confirmTimeout, func(c transport.Confirmation, err error) {
			answers <- err == nil && len(c.Same) == 1 && c.Same[0]
		})
	}
	born := 1
	for range others {
		select {
		case ok := <-answers:
			if ok {
				born++
			}
		case <-g.closing:
			return false
		}
		if born > voters/2 {
			return true
		}
	}
	return born > voters/2
}
