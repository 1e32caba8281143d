package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/logstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Quarantined is a replica whose data or log cannot be trusted. It runs never
// again under its id: it serves nobody and does not vote. What it has on disk is
// left as it is, for a human to look at, until the replica is retired.
type Quarantined struct {
	Shard   shardmap.ShardID
	Replica shardmap.ReplicaID
	Reason  string
}

// quarantine is the set of such replicas on this node.
type quarantine struct {
	mu struct {
		sync.Mutex
		members map[shardmap.ShardID]Quarantined
	}
}

func (q *quarantine) add(m Quarantined) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.members == nil {
		q.mu.members = make(map[shardmap.ShardID]Quarantined)
	}
	q.mu.members[m.Shard] = m
}

func (q *quarantine) remove(shard shardmap.ShardID, replica shardmap.ReplicaID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.members[shard].Replica == replica {
		delete(q.mu.members, shard)
	}
}

func (q *quarantine) get(shard shardmap.ShardID) (Quarantined, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m, ok := q.mu.members[shard]
	return m, ok
}

// Quarantined lists the node's quarantined replicas by shard.
func (s *Store) Quarantined() []Quarantined {
	s.quarantined.mu.Lock()
	defer s.quarantined.mu.Unlock()
	var all []Quarantined
	for _, m := range s.quarantined.mu.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Quarantined) int { return int(a.Shard) - int(b.Shard) })
	return all
}

// condemn writes down, durably and first of all, that a replica must not run.
func (s *Store) condemn(m Quarantined) error {
	s.opts.Logger.Error("a replica is quarantined: it will neither serve nor vote; its shard goes on without it "+
		"while a majority of the others is sound", "shard", m.Shard, "replica", m.Replica, "reason", m.Reason)
	if err := s.log.Quarantine(uint64(m.Shard), uint64(m.Replica), m.Reason); err != nil {
		return fmt.Errorf("raftstore: shard %d: note the quarantine: %w", m.Shard, err)
	}
	s.quarantined.add(m)
	s.opts.Failpoints.Hit(failpoint.QuarantineNoted)
	return nil
}

// quarantineRunning takes a running replica out of service for good. Until the
// mark is synced it goes on; after that it is stopped, and no restart brings it
// back.
func (s *Store) quarantineRunning(g *Group, reason error) {
	select {
	case s.births <- struct{}{}:
		defer func() { <-s.births }()
	case <-s.stopping:
		return
	}
	if !s.unregister(g) {
		return // stopped, restarted or quarantined meanwhile
	}
	if err := s.condemn(Quarantined{Shard: g.shard, Replica: g.replica, Reason: reason.Error()}); err != nil {
		s.fatal(err)
	}
	if err := s.stopUnregistered(g); err != nil {
		s.opts.Logger.Warn("stopping a quarantined replica", "shard", g.shard, "err", err)
	}
}

// inspector finds out which replicas a damaged table concerns. Pebble names a
// range of keys that may be wider than the damage, so every replica in it is read
// once, whole, and only those that cannot be read are quarantined.
type inspector struct {
	store  *Store
	wanted chan struct{} // capacity 1

	mu struct {
		sync.Mutex
		from, to []byte // what to look at; nil for nothing
		cause    error
		reported map[string]bool // files told of: every read of a damaged one is an event
	}
}

func newInspector(s *Store) *inspector {
	return &inspector{store: s, wanted: make(chan struct{}, 1)}
}

// suspect is called by Pebble's readers, of whatever kind, also with its locks held.
func (i *inspector) suspect(info pebble.DataCorruptionInfo) {
	i.mu.Lock()
	from, to := info.Bounds.Start, info.Bounds.End.Key
	if i.mu.from == nil || bytes.Compare(from, i.mu.from) < 0 {
		i.mu.from = append([]byte{}, from...)
	}
	if bytes.Compare(to, i.mu.to) > 0 {
		i.mu.to = append([]byte{}, to...)
	}
	i.mu.cause = info.Details
	first := !i.mu.reported[info.Path]
	if i.mu.reported == nil {
		i.mu.reported = make(map[string]bool)
	}
	i.mu.reported[info.Path] = true
	i.mu.Unlock()
	if first {
		i.store.opts.Logger.Error("the state database is damaged; looking which replicas are", "info", info.String())
	}
	signal(i.wanted)
}

func (i *inspector) run() {
	for {
		select {
		case <-i.wanted:
			i.inspect()
		case <-i.store.stopping:
			return
		case <-i.store.died:
			return
		}
	}
}

func (i *inspector) inspect() {
	i.mu.Lock()
	from, to, cause := i.mu.from, i.mu.to, i.mu.cause
	i.mu.from, i.mu.to = nil, nil
	i.mu.Unlock()
	for _, g := range i.store.Groups() {
		first, end := state.Span(g.Record().Arc)
		if bytes.Compare(end, from) <= 0 || bytes.Compare(to, first) < 0 {
			continue
		}
		switch err := g.readable(); {
		case damaged(err):
			i.store.quarantineRunning(g, errors.Join(err, cause))
		case err != nil: // that is no reason to give the replica up for good
			i.store.opts.Logger.Error("looking whether a replica is damaged", "shard", g.shard, "err", err)
		}
	}
}

// readable reads the replica's whole span. A block that was just found damaged is
// in no cache, so this meets it again.
func (g *Group) readable() error {
	from, to := state.Span(g.Record().Arc)
	it, err := g.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return fmt.Errorf("shard %d: inspect: %w", g.shard, err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		if g.isClosing() || g.store.isStopping() {
			break
		}
		if _, err := it.ValueAndErr(); err != nil {
			return errors.Join(fmt.Errorf("shard %d: inspect: %w", g.shard, err), it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("shard %d: inspect: %w", g.shard, err)
	}
	return nil
}

// Barred reports whether a replica must not run here, now or ever: it is retired or
// quarantined, and Create refuses it.
func (s *Store) Barred(shard shardmap.ShardID, replica shardmap.ReplicaID) bool {
	return s.refuseBarred(shard, replica) != nil
}

// refuseBarred is the answer to a birth of a replica that must not run again.
func (s *Store) refuseBarred(shard shardmap.ShardID, replica shardmap.ReplicaID) error {
	if slices.Contains(s.log.Retired(), logstore.Member{Group: uint64(shard), Replica: uint64(replica)}) {
		return kverr.New(kverr.Conflict, "raftstore: shard %d: replica %d is retired for ever", shard, replica)
	}
	if m, ok := s.quarantined.get(shard); ok && m.Replica == replica {
		return kverr.New(kverr.Conflict, "raftstore: shard %d: replica %d is quarantined (%s): replace it by a new replica",
			shard, replica, m.Reason)
	}
	return nil
}
