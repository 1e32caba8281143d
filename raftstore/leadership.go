package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// reconcileEvery bounds how long a lost observation goes unnoticed: Raft's
	// observer channel drops what it cannot deliver at once.
	reconcileEvery = 250 * time.Millisecond
	// deposedGrace is how long a deposed leader waits for the log to tell what
	// became of its proposals before it answers "outcome unknown".
	deposedGrace = 500 * time.Millisecond
)

// tenure is this replica's leadership of one term. It serves once its clock has
// had a round and the term's first entry is applied here.
type tenure struct {
	term  uint64
	ready atomic.Bool
	over  chan struct{} // closed when it ends
	clock shardClock    // the lead goroutine's alone
	// shown is a copy of the clock as of its last round, for others than the lead
	// goroutine. What they make of it is checked at apply.
	shown atomic.Pointer[shardClock]
}

// elapsed is shard time as a replica can tell by its own monotonic clock: when it
// applied an entry, the shard's time was at least that of the entry, and the same
// time has passed since for everybody. So it is never ahead of what the leader
// stamps, and no wall clock can hold it back.
type elapsed struct {
	base uint64
	mono time.Duration
}

func (e *elapsed) at(mono time.Duration) uint64 {
	return e.base + uint64(max(0, mono-e.mono)/time.Microsecond)
}

// sawTime notes the shard time of what was applied. Only the apply loop calls it.
func (g *Group) sawTime(time uint64) {
	mono := g.store.opts.Clock.Mono()
	if e := g.elapsed.Load(); e == nil || e.at(mono) <= time {
		g.elapsed.Store(&elapsed{base: time, mono: mono})
	}
}

// shardNow is the tenure's shard time, never ahead of what its next entry will be
// stamped with; false before the first round.
func (t *tenure) shardNow(c clock.Clock) (uint64, bool) {
	shown := t.shown.Load()
	if shown == nil {
		return 0, false
	}
	return shown.at(c.Mono()), true
}

func wantedObservation(o *raft.Observation) bool {
	switch o.Data.(type) {
	case raft.RaftState, raft.LeaderObservation:
		return true
	}
	return false
}

// watch follows Raft's state and begins and ends tenures.
func (g *Group) watch() {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-g.closing:
			return
		case <-g.observations:
		case <-tick.C:
		}
		g.reconcile()
	}
}

// leading reports whether this replica leads the term it names. Raft changes
// state before term when it steps down, and S1 keeps both on one goroutine, so
// a leader seen between two equal terms led that term.
func (g *Group) leading() (term uint64, ok bool) {
	before := g.raft.CurrentTerm()
	state := g.raft.State()
	return before, state == raft.Leader && g.raft.CurrentTerm() == before
}

// reconcile compares what Raft says with the current tenure and the leader last
// reported. Only the watch goroutine calls it.
func (g *Group) reconcile() {
	term, leads := g.leading()
	current := g.tenure.Load()
	leads = leads && !g.silent.Load() // D1: raft may not know that it should not
	if current != nil && (!leads || current.term != term) {
		g.endTenure(current)
		current = nil
	}
	g.withdraw()
	if leads && current == nil && !g.isClosing() {
		g.tenure.Store(&tenure{term: term, over: make(chan struct{})})
		g.store.counters.electionsWon.Add(1)
		signal(g.elected)
	}
	g.reportLeader()
}

// withdraw tells the transport which leaderships are over: all of earlier terms,
// and that of this one if this replica follows in it.
func (g *Group) withdraw() {
	term := g.raft.CurrentTerm() // before the state: it rises before a candidate leads
	if g.raft.State() == raft.Follower {
		g.trans.Withdraw(term)
	} else {
		g.trans.Withdraw(term - 1)
	}
}

// retain tells the transport who the members are.
func (g *Group) retain(conf raft.Configuration) {
	members := make(map[raft.ServerID]bool, len(conf.Servers))
	for _, srv := range conf.Servers {
		members[srv.ID] = true
	}
	g.trans.Retain(func(id raft.ServerID) bool { return members[id] })
}

// endTenure stops serving: what waits is refused, what is in flight gets the
// grace. With nil it ends whatever tenure there is.
func (g *Group) endTenure(t *tenure) {
	if t == nil {
		if t = g.tenure.Load(); t == nil {
			return
		}
	}
	if !g.tenure.CompareAndSwap(t, nil) {
		return
	}
	t.ready.Store(false)
	close(t.over)
	g.queue.close(g.notServing())
	g.waiters.deposed(t.term, time.Now().Add(deposedGrace))
	g.reads.deposed(g.notServing())
}

func (g *Group) notServing() error {
	return &kverr.Error{Kind: kverr.NotLeader, Shard: uint64(g.shard), Message: "leadership of the shard was lost"}
}

// reportLeader tells the store's owner about a leader it has not heard of.
func (g *Group) reportLeader() {
	term := g.raft.CurrentTerm()
	_, id := g.raft.LeaderWithID()
	if g.raft.CurrentTerm() != term {
		return // between terms; the next observation settles it
	}
	hint := shardmap.LeaderHint{Shard: g.shard, Term: term}
	if id == raft.ServerID(g.self) && g.silent.Load() {
		return // raft has not noticed yet
	}
	if id != "" {
		node, _, err := transport.ParseServerID(string(id))
		if err != nil {
			g.store.opts.Logger.Error("raft names a leader with a malformed id", "shard", g.shard, "id", id, "err", err)
			return
		}
		hint.Node = node
		g.leaderless.Store(0)
	} else {
		g.leaderless.CompareAndSwap(0, int64(g.store.opts.Clock.Mono())+1)
	}
	last := g.leader.Load()
	if last != nil && *last == hint {
		return
	}
	if last != nil && last.Term != hint.Term {
		g.store.counters.termChanges.Add(1)
	}
	g.leader.Store(&hint)
	if hint.Node != "" && g.store.opts.Events.Leader != nil {
		g.store.opts.Events.Leader(hint)
	}
}
