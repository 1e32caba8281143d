package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// restartEvery bounds how often one replica is restarted in place: a cure that
// does not help must not become the disease.
const restartEvery = time.Minute

// errRestartedLately marks a restart that was refused because the last one is not
// a minute ago.
var errRestartedLately = errors.New("the replica was restarted in place less than a minute ago")

// restartHistory is the restarts in place of each shard's replica on this node.
type restartHistory struct {
	mu struct {
		sync.Mutex
		shards map[shardmap.ShardID]restarts
	}
}

type restarts struct {
	count uint64
	last  string        // why
	at    time.Duration // on the monotonic clock
}

// begin notes a restart, or refuses it.
func (h *restartHistory) begin(shard shardmap.ShardID, why string, now time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.shards == nil {
		h.mu.shards = make(map[shardmap.ShardID]restarts)
	}
	r := h.mu.shards[shard]
	if r.count > 0 && now-r.at < restartEvery {
		return kverr.New(kverr.Unavailable, "shard %d: not restarted in place (%s): %w", shard, why, errRestartedLately)
	}
	h.mu.shards[shard] = restarts{count: r.count + 1, last: why, at: now}
	return nil
}

func (h *restartHistory) of(shard shardmap.ShardID) (count uint64, last string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.mu.shards[shard]
	return r.count, r.last
}

// restart replaces a group by a new one on the same replica, as if its node had
// been restarted: a supervised way out of states that raft cannot leave. While it
// runs the store does not have the shard; what waited is answered as unknown if it
// was proposed and as not applied if not. It does nothing when g is not the
// replica that runs, and is refused within a minute of the last one.
func (s *Store) restart(g *Group, why string) error { return s.restartAfter(g, why, 0) }

// restartAfter is restart with a pause before the replica runs again, for one that
// had better not be elected at once.
func (s *Store) restartAfter(g *Group, why string, pause time.Duration) error {
	select { // a channel: who waits here may wait for long
	case s.births <- struct{}{}:
		defer func() { <-s.births }()
	case <-s.stopping:
		return nil
	}
	if now, here := s.Group(g.shard); !here || now != g {
		return nil // stopped, removed or restarted meanwhile
	}
	if err := s.history.begin(g.shard, why, s.opts.Clock.Mono()); err != nil {
		return err
	}
	if !s.unregister(g) {
		return nil // the store is being stopped
	}
	s.counters.groupRestarts.Add(1)
	s.opts.Logger.Warn("restarting a group in place", "shard", g.shard, "reason", why)
	if err := s.stopUnregistered(g); err != nil {
		return err
	}
	if pause > 0 {
		over := time.NewTimer(pause)
		defer over.Stop()
		select {
		case <-over.C:
		case <-s.stopping:
			return nil
		}
	}
	return s.reopen(g)
}

// reopen starts a stopped replica again. It passes the same checks as at boot.
func (s *Store) reopen(g *Group) error {
	rec := g.Record() // only now: it may have changed until the group had stopped
	_, fault, err := s.settle(rec)
	if fault != nil {
		return s.condemn(Quarantined{Shard: g.shard, Replica: g.replica, Reason: fault.Error()})
	}
	var fresh *Group
	if err == nil {
		fresh, err = s.open(rec)
	}
	if err != nil {
		// The replica would be missing until the process restarts, so it restarts now.
		err = fmt.Errorf("raftstore: restart shard %d: %w", g.shard, err)
		s.fatal(err)
		return err
	}
	if err := s.register(fresh); err != nil {
		return errors.Join(err, fresh.stop())
	}
	return nil
}
