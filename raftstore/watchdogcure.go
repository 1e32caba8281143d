package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
)

const (
	// cureEvery is how soon a cure may be repeated at first; the time doubles with
	// each repetition, up to cureEveryAtMost, and is as at first again when the cure
	// was not needed for four times as long.
	cureEvery       = time.Minute
	cureEveryAtMost = time.Hour
	// handOverPatience is how long a cure waits for writes in flight.
	handOverPatience = 2 * time.Second
)

// outcome says what became of a cure that was begun.
type outcome uint8

const (
	needless outcome = iota // on a closer look nothing was wrong
	treated
)

// budget spaces out one kind of cure of one replica.
type budget struct {
	last  time.Time
	every time.Duration
}

func (b *budget) allows(now time.Time) bool { return b.every == 0 || now.Sub(b.last) >= b.every }

func (b *budget) spend(now time.Time) {
	if b.every == 0 || now.Sub(b.last) > 4*b.every {
		b.every = cureEvery
	} else {
		b.every = min(2*b.every, cureEveryAtMost)
	}
	b.last = now
}

// treat begins a cure, unless another runs or it is too soon for this one, and
// reports whether it did.
func (w *watchdog) treat(p *patient, what cure, now time.Time, stood time.Duration, do func() outcome) bool {
	b := p.budgets[what]
	if b == nil {
		b = new(budget)
		p.budgets[what] = b
	}
	if !b.allows(now) {
		return false
	}
	select {
	case <-w.idle:
	default:
		return false // the next tick asks again
	}
	if what == cureTransfer {
		p.asked = now // a question; only the answer may lead to a restart, which has its own limit
	} else {
		b.spend(now)
	}
	g := p.group
	w.cures.Go(func() {
		defer func() { w.idle <- struct{}{} }()
		if do() == treated {
			w.store.opts.Logger.Warn("watchdog acted", "shard", g.shard, "replica", g.replica, "reason", string(what),
				"stood_still", stood.Round(time.Millisecond))
		}
	})
	return true
}

// restartFor restarts the group in place on the watchdog's behalf. A leader stays
// away long enough for the others to elect one of them: its log is often the
// longest, and it would be back where it was.
func (g *Group) restartFor(why string, wasLeader bool) {
	pause := time.Duration(0)
	if wasLeader {
		pause = 4 * g.store.opts.ElectionTimeout
	}
	if err := g.store.restartAfter(g, why, pause); err != nil {
		g.store.opts.Logger.Warn("watchdog could not restart a group in place", "shard", g.shard, "reason", why, "err", err)
	}
}

// cureTransfer restarts a leader in which a leadership transfer got stuck.
func (g *Group) cureTransfer() outcome {
	if set, known := g.transferFlag(); !known || !set {
		return needless
	}
	g.store.counters.stuckTransfers.Add(1)
	g.restartFor("raft refuses writes because of a leadership transfer that never ended", false)
	return treated
}

// cureStall hands over to whichever voter answers, and restarts the group if its
// tenure goes on all the same.
func (g *Group) cureStall() outcome {
	t := g.tenure.Load()
	if t == nil {
		return needless
	}
	g.store.counters.commitStalls.Add(1)
	why := "its proposals are not committed although a majority of its voters answers"
	if err := g.abdicate(t); err != nil && !g.isClosing() {
		g.restartFor(fmt.Sprintf("%s; %v", why, err), true)
	}
	return treated
}

// abdicate asks raft to hand over with writes still in flight: what they became
// is told by the log or, as after any loss of leadership, is unknown.
func (g *Group) abdicate(t *tenure) error {
	if !g.transferring.CompareAndSwap(false, true) {
		return kverr.New(kverr.Conflict, "a leadership transfer is under way")
	}
	defer g.transferring.Store(false)
	e, err := g.electorate()
	if err != nil {
		return err
	}
	var best voter
	var most transport.Progress
	for _, v := range e.others {
		p, known := g.trans.PeerProgress(transport.ServerID(v.node, v.replica))
		if known && p.Term == t.term && time.Since(p.Contact) <= g.store.opts.ElectionTimeout && p.Acked >= most.Acked {
			best, most = v, p
		}
	}
	if best.node == "" {
		return kverr.New(kverr.Unavailable, "no voter answers that could take over")
	}
	return g.askRaft(t, best)
}

// cureInterrupt ends the leader's calls to a follower, so that raft begins afresh
// with it.
func (g *Group) cureInterrupt(id raft.ServerID) outcome {
	g.store.counters.wedgedFollowers.Add(1)
	g.trans.Interrupt(id)
	return treated
}

// cureWedge gives up a leadership under which a follower does not move: what keeps
// it is then on this side, or goes on under the next leader, who would have to try
// twice as long before it does the same.
func (g *Group) cureWedge(t *tenure, id raft.ServerID) outcome {
	node, _, err := transport.ParseServerID(string(id))
	if err != nil || g.tenure.Load() != t {
		return needless
	}
	g.store.counters.wedgedFollowers.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), handOverPatience)
	defer cancel()
	err = g.handOver(ctx, t, "", node)
	// Without another voter to lead, a restart here would only cost the shard its
	// leader for as long as the follower is the other half of the majority.
	if errors.Is(err, errStuck) || errors.Is(err, errFailedTransfer) {
		g.restartFor(fmt.Sprintf("follower %s does not move although it answers; %v", node.Short(), err), true)
	} else if err != nil {
		g.store.opts.Logger.Warn("watchdog could not hand over", "shard", g.shard, "follower", node, "err", err)
	}
	return treated
}

// cureLag restarts a follower that does not move although it hears its leader.
func (g *Group) cureLag() outcome {
	g.store.counters.laggingReplicas.Add(1)
	g.restartFor("it hears its leader and does not follow its commits", false)
	return treated
}
