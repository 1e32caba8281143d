package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

const (
	// expireEvery is how late a due key may be noticed by the leader of its shard.
	expireEvery = 200 * time.Millisecond
	// expireBatch is how many due entries of a shard one proposal sweeps. One is
	// under way at a time, so expiry never takes the shard's queue.
	expireBatch = 512
	// expirePause is between two sweeps of a shard that has more due than one takes:
	// some ten thousand keys a second, and time for the writes of others.
	expirePause = 10 * time.Millisecond
	// expirePatience is how long a sweep waits for its turn.
	expirePatience = 2 * time.Second
)

// expirer has the leaders here propose the expiry of keys that are due. It is
// off every hot path: the apply loop notes deadlines, and what is late is late by
// its pace plus a proposal.
type expirer struct {
	store   *Store
	soon    chan struct{} // capacity 1: a group's sweepMore is set
	expired atomic.Uint64 // keys, by sweeps proposed here
}

func (e *expirer) run() {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.store.stopSweep:
			return
		case <-tick.C:
			for _, g := range e.store.Groups() {
				e.look(g)
			}
		case <-e.soon:
			if !e.pause() {
				return
			}
			for _, g := range e.store.Groups() {
				if g.sweepMore.Swap(false) {
					e.look(g)
				}
			}
		}
	}
}

func (e *expirer) pause() bool {
	timer := time.NewTimer(expirePause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-e.store.stopSweep:
		return false
	}
}

// look begins a sweep of a shard that is led from here, if any of its keys is due
// and no sweep is under way.
func (e *expirer) look(g *Group) {
	t := g.tenure.Load()
	if t == nil || !t.ready.Load() || g.sweeping.Load() {
		return
	}
	if err := g.deadlines.ready(g.readDeadlines); err != nil {
		e.trouble(g, err)
		return
	}
	now, ok := t.shardNow(g.store.opts.Clock)
	if !ok {
		return
	}
	ops, slots := e.collect(g, now)
	if len(ops) == 0 {
		return
	}
	g.sweeping.Store(true)
	g.Propose(&Write{
		Ops: ops, Deadline: time.Now().Add(expirePatience),
		Done: func(results []state.Result, _ uint64, err error) { e.done(g, slots, results, err) },
	})
}

// collect reads what is due.
func (e *expirer) collect(g *Group, now uint64) (ops []state.Op, slots []slotDeadline) {
	for len(ops) < expireBatch {
		taken := g.deadlines.take(now, 1)
		if len(taken) == 0 {
			return ops, slots
		}
		slot := taken[0].slot
		due, next, err := g.due(slot, now, expireBatch-len(ops))
		if err != nil {
			g.deadlines.note(slot, taken[0].deadline)
			e.trouble(g, err)
			return ops, slots
		}
		if next != 0 {
			g.deadlines.note(slot, next)
		}
		if len(due) > 0 {
			ops, slots = append(ops, due...), append(slots, taken[0])
		}
	}
	return ops, slots
}

// done runs in the apply loop, or wherever the sweep was refused. What may not
// have been swept is looked at again at the next turn.
func (e *expirer) done(g *Group, slots []slotDeadline, results []state.Result, err error) {
	again := err != nil
	for i := range results {
		switch {
		case results[i].Verdict != state.Applied:
			again = true
		case results[i].Version != 0:
			e.expired.Add(1)
		}
	}
	if again {
		for _, s := range slots {
			g.deadlines.note(s.slot, s.deadline)
		}
	}
	g.sweeping.Store(false)
	if !again && len(results) >= expireBatch { // there is more: late is late by this, too
		g.sweepMore.Store(true)
		signal(e.soon)
	}
}

func (e *expirer) trouble(g *Group, err error) {
	e.store.readFailed(err)
	e.store.opts.Logger.Warn("reading the index of deadlines", "shard", g.shard, "err", err)
}

// expire has the expiry of keys applied that a linearizable read here found due.
// then is called when that is done, or with the reason why it may not be, which
// says nothing about the read but that it was not answered. It must not block.
func (e *expirer) expire(g *Group, sweeps []state.Op, deadline time.Time, then func(error)) {
	g.Propose(&Write{Ops: sweeps, Deadline: deadline, Done: func(results []state.Result, _ uint64, err error) {
		for i := range results {
			if results[i].Version != 0 {
				e.expired.Add(1)
			}
		}
		if kverr.KindOf(err) == kverr.OutcomeUnknown {
			err = kverr.New(kverr.Unavailable, "shard %d: a due key's expiry was proposed, and its outcome is not known yet", g.shard)
		}
		then(err)
	}})
}
