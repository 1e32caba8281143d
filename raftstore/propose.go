package raftstore

import (
	"bytes"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

const (
	// largeEntry is the size from which more entries are put in flight: their
	// transfer then costs more than their sync, so overlapping pays.
	largeEntry = 128 << 10
	// largeInFlight is how many large entries are in flight at most.
	largeInFlight = 4
	// MaxWriteBytes bounds the encoded operations of one Write.
	MaxWriteBytes = 12 << 20
)

// Propose hands writes to the shard. See Write for how and when it is answered.
func (g *Group) Propose(w *Write) {
	c := &writeCall{Write: w}
	if len(w.Ops) == 0 {
		c.refuse(phaseWaiting, kverr.New(kverr.Invalid, "a write without operations"))
		return
	}
	if t := g.tenure.Load(); t == nil || !t.ready.Load() || g.transferring.Load() {
		c.refuse(phaseWaiting, g.unavailable())
		return
	}
	if err := g.admitsAll(w.Ops); err != nil {
		if kverr.KindOf(err) == kverr.Overloaded {
			g.store.counters.overloaded.Add(uint64(len(w.Ops)))
		}
		c.refuse(phaseWaiting, err)
		return
	}
	if g.store.logsFull.Load() {
		g.store.counters.overloaded.Add(uint64(len(w.Ops)))
		c.refuse(phaseWaiting, &kverr.Error{Kind: kverr.Overloaded, Shard: uint64(g.shard), RetryAfter: logsFullRetry,
			Message: "the node's logs are at their bound: its disk cannot keep up; try again shortly"})
		return
	}
	if err := g.queue.put(c); err != nil {
		if kverr.KindOf(err) == kverr.Overloaded {
			g.store.counters.overloaded.Add(uint64(len(w.Ops)))
		}
		c.refuse(phaseWaiting, err)
	}
}

// logsFullRetry is about the time of a flush.
const logsFullRetry = 200 * time.Millisecond

// lead serves one tenure after another until the group closes. It is the
// shard's only proposer, so entries reach Raft in the order they were stamped.
func (g *Group) lead() {
	for {
		select {
		case <-g.closing:
			return
		case <-g.elected:
		}
		t := g.tenure.Load()
		if t == nil || !g.openTenure(t) {
			continue
		}
		g.serve(t)
	}
}

// openingPatience is how long the first entry of a tenure is waited for before
// another is proposed.
const openingPatience = time.Second

// openTenure makes the tenure ready: a clock round of this term (T1), then an
// entry of this term applied here, so that every earlier commit is too. Raft may
// refuse the entry through the future nobody reads, while a transfer of an
// earlier term still counts as under way, so it is proposed until one lands.
func (g *Group) openTenure(t *tenure) bool {
	for landed := false; !landed; {
		p := g.propose(t, nil, 0)
		if p == nil {
			return false
		}
		patience := time.NewTimer(openingPatience)
		select {
		case <-p.applied:
			landed = p.landed
		case <-patience.C:
			g.waiters.forget(p) // it carries no writes, so nobody misses its fate
		case <-t.over:
			patience.Stop()
			return false
		case <-g.closing:
			patience.Stop()
			return false
		}
		patience.Stop()
	}
	t.ready.Store(true)
	g.queue.open(func() bool { return g.tenure.Load() == t })
	return true
}

// serve proposes what waits, merged, until the tenure ends.
func (g *Group) serve(t *tenure) {
	for {
		select {
		case <-t.over:
			return
		case <-g.closing:
			return
		case <-g.queue.ready:
		}
		if !g.awaitRoom(t) {
			return
		}
		calls, bytes := g.queue.take(g.store.opts.MaxEntryBytes)
		if len(calls) == 0 {
			continue
		}
		if g.propose(t, calls, bytes) == nil {
			return
		}
	}
}

// awaitRoom waits until another entry may be in flight. While it waits, what
// arrives is merged: small entries in flight are worse than one larger entry.
func (g *Group) awaitRoom(t *tenure) bool {
	for {
		entries, bytes := g.waiters.inFlight(t.term)
		if entries < g.store.opts.EntriesInFlight ||
			entries < largeInFlight && bytes >= entries*largeEntry {
			return true
		}
		select {
		case <-t.over:
			return false
		case <-g.closing:
			return false
		case <-g.landed:
		}
	}
}

// propose puts one entry into Raft's log. It returns nil, with the calls
// refused as not applied, when the tenure ends before that.
func (g *Group) propose(t *tenure, calls []*writeCall, bytes int) *proposal {
	stamp, ok := g.stamp(t)
	if !ok {
		for _, c := range calls {
			c.refuse(phaseBusy, g.notServing())
		}
		g.queue.release(calls)
		return nil
	}
	entry := state.Entry{
		ShardTime: stamp,
		Term:      t.term,
		Proposal: state.ProposalID{
			Replica: uint64(g.replica), Nonce: g.store.opts.Nonce, Counter: g.store.proposals.Add(1),
		},
	}
	n := 0
	for _, c := range calls {
		n += len(c.Ops)
	}
	entry.Ops = make([]state.Op, 0, n)
	for _, c := range calls {
		entry.Ops = append(entry.Ops, c.Ops...)
	}
	data := encode(&entry, bytes)

	p := &proposal{id: entry.Proposal, term: t.term, calls: calls, bytes: len(data), applied: make(chan struct{})}
	// Answerable first, then findable: a call that another term's entry drops from
	// the table while it still counts as busy would never be answered.
	for _, c := range calls {
		c.move(phaseBusy, phaseProposed)
	}
	g.waiters.add(p)
	g.store.counters.entriesProposed.Add(1)
	g.store.counters.writesProposed.Add(uint64(n))

	// The future is not waited for: it may never resolve. The waiter table and
	// the apply loop tell the outcome. No timeout: this blocks only while Raft's
	// main loop is in a log sync, and ends when Raft shuts down.
	g.raft.Apply(data, 0)
	select {
	case <-t.over: // too late for endTenure to have seen this proposal
		g.waiters.deposed(t.term, time.Now().Add(deposedGrace))
	default:
	}
	return p
}

// entryOverhead covers an entry's header.
const entryOverhead = 128

// encode returns an entry in memory of about its own size: caches, logs and rings
// keep it and count its length, and the bound by which it is encoded may be many
// times that, for a transaction of small parts.
func encode(e *state.Entry, bound int) []byte {
	data := e.AppendTo(make([]byte, 0, bound+entryOverhead))
	if cap(data) > 2*len(data)+4<<10 {
		return bytes.Clone(data)
	}
	return data
}

// stamp takes shard time from the tenure's clock, after a clock round when the
// clock asks for one.
func (g *Group) stamp(t *tenure) (uint64, bool) {
	clk := g.store.opts.Clock
	for {
		if now, ok := t.clock.stamp(clk.WallMicros(), clk.Mono()); ok {
			return now, true
		}
		found, ok := g.clockRound(t)
		if !ok {
			return 0, false
		}
		// What was applied, here or at a voter, is the floor, and the time since: the
		// agreed clock may lag behind it when a voter with a right clock is silent and
		// another's is wrong, and a deadline set in such a time would come early when the
		// right one is heard (ADR 0004).
		mono := clk.Mono()
		floor := max(g.elapsed.Load().at(mono), found.elapsed)
		t.clock.step(floor, found.clocks, found.voters, clk.WallMicros(), mono)
		shown := t.clock
		t.shown.Store(&shown)
	}
}

// proposalLeft makes room for what waits. It runs in the apply loop.
func (g *Group) proposalLeft(p *proposal) {
	g.queue.release(p.calls)
	signal(g.landed)
}

// shardNow is shard time as far as this replica can tell: a leader's runs on
// between entries, everybody else's is that of the last entry applied.
func (g *Group) shardNow() uint64 {
	applied := g.view.Load().time
	t := g.tenure.Load()
	if t == nil || !t.ready.Load() {
		return applied
	}
	now, _ := t.shardNow(g.store.opts.Clock)
	return max(applied, now)
}
