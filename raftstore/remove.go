package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Retire removes a replica from this node for ever: its id is remembered, nobody
// can bring it back, and its data and log go. A replica that is not here, or not
// yet, is retired as well (F3). It may be repeated, also after a crash at any
// point; a boot finishes what a crash left.
//
// Where the record of a replica that was here cannot be read, nobody knows which data
// is its own: the replica is retired, the data stays, and the error (Internal) says
// what to do. It is listed by Quarantined until the process ends.
//
// Order (L2): stop the group → one synced batch of tombstone and the end of log
// and votes → flush and excise the data. The record goes last, so that a replica
// whose votes are gone can still be told from one that never voted.
func (s *Store) Retire(ctx context.Context, shard shardmap.ShardID, replica shardmap.ReplicaID) error {
	if replica == 0 {
		return kverr.New(kverr.Invalid, "raftstore: shard %d: no replica named", shard)
	}
	select {
	case s.births <- struct{}{}:
		defer func() { <-s.births }()
	case <-s.stopping:
		return kverr.New(kverr.Closed, "raftstore: the store is stopped")
	case <-ctx.Done():
		return fmt.Errorf("raftstore: retire shard %d: %w", shard, ctx.Err())
	}
	held := s.holds(shard, replica)
	var ran *shardmap.Record // of a replica that ran until now: it knows what is its own
	if g, here := s.Group(shard); here && g.replica == replica && s.unregister(g) {
		if err := s.stopUnregistered(g); err != nil {
			return err
		}
		rec := g.Record()
		ran = &rec
		g.excisions.Add(1) // and stays odd: for a read that is still under way
		s.opts.Failpoints.Hit(failpoint.RemovalStopped)
	}
	s.opts.Network.Retire(uint64(shard), replica)
	if err := s.log.Retire(uint64(shard), uint64(replica)); err != nil {
		return fmt.Errorf("raftstore: shard %d: retire replica %d: %w", shard, replica, err)
	}
	s.opts.Failpoints.Hit(failpoint.RemovalTombstoned)
	rec, found, damage, err := s.recordOf(shard, replica)
	switch {
	case err != nil:
		return err
	case found:
	case ran != nil:
		rec = *ran
	case held && damage != nil:
		return s.keepsData(shard, replica, damage)
	default:
		s.quarantined.remove(shard, replica)
		return nil
	}
	s.quarantined.remove(shard, replica)
	return s.finishRemoval(ctx, rec)
}

// holds reports whether anything of a replica is here.
func (s *Store) holds(shard shardmap.ShardID, replica shardmap.ReplicaID) bool {
	info := s.log.Info(uint64(shard))
	m, held := s.quarantined.get(shard)
	return info.Exists && info.Replica == uint64(replica) || held && m.Replica == replica
}

// keepsData is the outcome for a retired replica whose data cannot be told from
// others'. To guess would be to risk that of sound replicas.
func (s *Store) keepsData(shard shardmap.ShardID, replica shardmap.ReplicaID, damage error) error {
	e := kverr.New(kverr.Internal, "raftstore: shard %d: replica %d is retired and will not run again, but its record cannot be read, "+
		"so its data stays in %s: to be rid of it, and before another replica of these keys comes here, give the node an empty data "+
		"directory once its other replicas are elsewhere: %w", shard, replica, s.opts.Dir, damage)
	e.Shard = uint64(shard)
	s.opts.Logger.Error("the data of a retired replica stays", "shard", shard, "replica", replica, "err", damage)
	s.quarantined.add(Quarantined{Shard: shard, Replica: replica,
		Reason: "retired, but its record cannot be read and its data stays: " + damage.Error()})
	return e
}

// finishRemoval takes the data of a replica whose retirement is on disk.
func (s *Store) finishRemoval(ctx context.Context, rec shardmap.Record) error {
	if err := s.excise(ctx, rec.Arc); err != nil {
		return fmt.Errorf("raftstore: shard %d: remove its data: %w", rec.Shard, err)
	}
	s.opts.Failpoints.Hit(failpoint.RemovalExcised)
	s.opts.Logger.Info("removed a retired replica", "shard", rec.Shard, "arc", rec.Arc)
	s.opts.Failpoints.Hit(failpoint.RemovalNoted)
	return nil
}

// excise takes an arc out of the state database, durably. The flush first: an
// overlapping memtable would make all shards' applies wait for one during the
// excise. On a full disk it waits for space until ctx ends.
func (s *Store) excise(ctx context.Context, arc shardmap.Arc) error {
	if err := s.flushWithin(ctx); err != nil {
		return err
	}
	from, to := state.Span(arc)
	return s.cut(from, to, func(span pebble.KeyRange) error { return s.state.Excise(context.Background(), span) })
}

// recordOf finds the stored record of a replica that does not run. damage is what
// could not be read meanwhile: it may have been that record.
func (s *Store) recordOf(shard shardmap.ShardID, replica shardmap.ReplicaID) (rec shardmap.Record, found bool, damage, err error) {
	stored, err := s.storedRecords()
	if err != nil {
		return shardmap.Record{}, false, nil, err
	}
	for _, rec := range stored.records {
		member, ok := rec.On(s.opts.Self)
		if rec.Shard == shard && ok && member.ID == replica {
			return rec, true, nil, nil
		}
	}
	return shardmap.Record{}, false, stored.damage, nil
}

// stopUnregistered stops a group that is no longer in the table, and does the
// sweeper's work for it: raft may be waiting for a slow disk meanwhile.
func (s *Store) stopUnregistered(g *Group) error {
	stopped := make(chan error, 1)
	why := &kverr.Error{Kind: kverr.Unavailable, Shard: uint64(g.shard),
		Message: fmt.Sprintf("shard %d: its replica on this node is being restarted or removed", g.shard)}
	s.restarts.Go(func() { stopped <- g.stopSaying(why) })
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-stopped:
			if err != nil {
				return fmt.Errorf("raftstore: stop shard %d: %w", g.shard, err)
			}
			return nil
		case now := <-tick.C:
			g.waiters.expire(now)
		case <-s.died: // raft waits for a log write that is never answered; Stop ends that
			return errors.Join(errFailed, kverr.New(kverr.Unavailable, "raftstore: stop shard %d", g.shard))
		}
	}
}

// errFailed marks work that a failed store left undone.
var errFailed = errors.New("the store failed")
