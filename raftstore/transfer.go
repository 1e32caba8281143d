package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// drainPoll is how often a transfer looks whether the proposals in flight are
// gone, and whether its target has caught up.
const drainPoll = 2 * time.Millisecond

// TransferLeadership hands the shard's leadership to the voter on node to, or to
// one that is prepared when to is empty. The target must answer within a few
// election timeouts. Then writes are refused, those in flight are waited for, and
// the target must have the whole log within an election timeout: raft answers a
// proposal made during a transfer through its future only, which nobody here
// waits for.
func (g *Group) TransferLeadership(ctx context.Context, to shardmap.NodeID) error {
	t := g.tenure.Load()
	if t == nil {
		return g.unavailable()
	}
	if to == g.store.opts.Self {
		return nil
	}
	err := g.handOver(ctx, t, to, "")
	if !errors.Is(err, errStuck) {
		return err
	}
	// Raft still counts a transfer as under way, and then every proposal of this
	// term is refused through a future nobody waits for (upstream #696). A restarted
	// group has no such memory.
	return errors.Join(err, g.store.restart(g, "a leadership transfer got stuck"))
}

var (
	// errNobodyFit marks a transfer for which raft was not even asked.
	errNobodyFit = errors.New("nobody is fit to take the leadership over")
	// errFailedTransfer marks a transfer that raft was asked for and gave up: the
	// shard is led here as before.
	errFailedTransfer = errors.New("the leadership was not taken over in time")
	// errStuck marks one that raft neither finished nor gave up.
	errStuck = errors.New("raft neither finished the leadership transfer nor gave it up")
)

// handOver is a transfer without the restart that a stuck one asks for. ctx bounds
// the waiting for the target and for writes in flight; the rest takes a few
// election timeouts at most. not, if given, is a node that must not get it.
func (g *Group) handOver(ctx context.Context, t *tenure, to, not shardmap.NodeID) error {
	for start := time.Now(); ; {
		if _, err := g.awaitTarget(ctx, t, to, not, false); err != nil {
			return err
		}
		err := g.handOverNow(ctx, t, to, not)
		// A target that had just gone away may come back, or another one be fit.
		if !errors.Is(err, errNobodyFit) && !errors.Is(err, errFailedTransfer) ||
			time.Since(start) > handOverTries*g.store.opts.ElectionTimeout || ctx.Err() != nil {
			return err
		}
	}
}

// handOverTries is for how many election timeouts a transfer is tried again, and
// how long a target is waited for each time.
const handOverTries = 5

// handOverNow is the part in which writes are refused.
func (g *Group) handOverNow(ctx context.Context, t *tenure, to, not shardmap.NodeID) error {
	if !g.transferring.CompareAndSwap(false, true) {
		return kverr.New(kverr.Conflict, "shard %d: a leadership transfer is under way", g.shard)
	}
	defer g.transferring.Store(false)
	if err := g.drain(ctx, t); err != nil {
		return err // nothing was asked of raft yet
	}
	target, err := g.awaitTarget(ctx, t, to, not, true)
	if err != nil {
		return err
	}
	return g.askRaft(t, target)
}

// awaitTarget waits for a voter that is fit to take over: while writes go on, one
// that answers, for a few election timeouts; later one that has the whole log too,
// for one. Raft itself asks whoever it is told to: one that does not answer, or
// lacks half the log, blocks all writes until it gives up, and two such attempts
// can leave it refusing writes for ever (upstream #696).
func (g *Group) awaitTarget(ctx context.Context, t *tenure, to, not shardmap.NodeID, whole bool) (voter, error) {
	limit := g.store.opts.ElectionTimeout
	if !whole {
		limit *= handOverTries
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		target, err := g.fitVoter(t, to, not, whole)
		if err == nil || kverr.KindOf(err) == kverr.Invalid {
			return target, err
		}
		select {
		case <-t.over:
			return voter{}, g.notServing()
		case <-g.closing:
			return voter{}, kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard)
		case <-ctx.Done():
			return voter{}, fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-late.C:
			return voter{}, kverr.New(kverr.Unavailable, "%w: %v", errNobodyFit, err)
		case <-tick.C:
		}
	}
}

// fitVoter is a voter that is fit, or why there is none.
func (g *Group) fitVoter(t *tenure, to, not shardmap.NodeID, whole bool) (voter, error) {
	e, err := g.electorate()
	if err != nil {
		return voter{}, err
	}
	if to == "" && len(e.others) == 0 {
		return voter{}, kverr.New(kverr.Invalid, "shard %d: there is no other voter to hand it to", g.shard)
	}
	why, named := error(nil), false
	for _, v := range e.others {
		if to != "" && v.node != to || v.node == not {
			continue
		}
		named = true
		if unfit := g.unfit(t, v, whole); unfit != nil {
			why = unfit
			continue
		}
		return v, nil
	}
	switch {
	case to != "" && !named:
		return voter{}, kverr.New(kverr.Invalid, "shard %d: node %s holds no voter of it", g.shard, to.Short())
	case why == nil: // all others are excluded
		return voter{}, kverr.New(kverr.Unavailable, "shard %d: there is nobody else to hand it to", g.shard)
	}
	return voter{}, why
}

// unfit says why a voter cannot take over now.
func (g *Group) unfit(t *tenure, v voter, whole bool) error {
	p, known := g.trans.PeerProgress(transport.ServerID(v.node, v.replica))
	last := g.raft.LastIndex()
	switch {
	case !known || p.Term != t.term || p.Contact.IsZero():
		return kverr.New(kverr.Unavailable, "shard %d: node %s has not answered this leader yet", g.shard, v.node.Short())
	case time.Since(p.Contact) > g.store.opts.ElectionTimeout:
		return kverr.New(kverr.Unavailable, "shard %d: node %s has not answered for %s",
			g.shard, v.node.Short(), time.Since(p.Contact).Round(time.Millisecond))
	case whole && p.Acked < last:
		return kverr.New(kverr.Unavailable, "shard %d: node %s has the log up to %d of %d",
			g.shard, v.node.Short(), p.Acked, last)
	}
	return nil
}

// electorate is the voters of the latest configuration.
func (g *Group) electorate() (electorate, error) {
	conf := g.raft.GetConfiguration()
	if err := conf.Error(); err != nil { // it is resolved already
		return electorate{}, fmt.Errorf("shard %d: read configuration: %w", g.shard, err)
	}
	return votersOf(conf.Configuration(), g.self)
}

// askRaft has raft hand the leadership to a voter and waits for the end of the
// tenure. As with proposals, raft's future may never resolve: its main loop can
// hang in a log write. So raft is asked now and then whether it is still at it; it
// gives up after one election timeout, and its flag may stay set for another.
func (g *Group) askRaft(t *tenure, v voter) error {
	g.transferTo(v)
	patience := time.NewTimer(2*g.store.opts.ElectionTimeout + transferSlack)
	defer patience.Stop()
	look := time.NewTicker(g.store.opts.ElectionTimeout / 4)
	defer look.Stop()
	for {
		select {
		case <-t.over:
			return nil
		case <-g.closing:
			return kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard)
		case <-look.C:
			if set, known := g.transferFlag(); known && !set && g.leads(t) {
				return kverr.New(kverr.Unavailable, "shard %d: hand over to node %s: %w", g.shard, v.node.Short(), errFailedTransfer)
			}
		case <-patience.C:
			return kverr.New(kverr.Unavailable, "shard %d: hand over to node %s: %w", g.shard, v.node.Short(), errStuck)
		}
	}
}

// transferTo asks raft and does not wait.
func (g *Group) transferTo(v voter) {
	id := transport.ServerID(v.node, v.replica)
	g.raft.LeadershipTransferToServer(id, raft.ServerAddress(id))
}

// leads reports whether raft still leads the tenure's term: the tenure ends a
// moment after that.
func (g *Group) leads(t *tenure) bool {
	term, leads := g.leading()
	return leads && term == t.term
}

// transferSlack is for the steps on the way beside raft's own timeouts.
const transferSlack = 100 * time.Millisecond

// flagPatience bounds the question whether raft counts a transfer as under way.
// Its main loop answers at once or is in a log write.
const flagPatience = 100 * time.Millisecond

// transferFlag reports whether raft counts a leadership transfer as under way and
// so refuses everything but that. Raft shows the flag in its answers only, so it
// is asked for something that it must refuse otherwise: to make this replica the
// voter that it is, as of a configuration that does not exist. This future does
// resolve: once raft has taken the request its main loop answers it at once.
func (g *Group) transferFlag() (set, known bool) {
	err := g.raft.AddVoter(g.self, raft.ServerAddress(g.self), math.MaxUint64, flagPatience).Error()
	switch {
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return true, true
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrRaftShutdown):
		return false, false
	}
	return false, true
}

// drain waits until no proposal of the tenure is queued or in flight.
func (g *Group) drain(ctx context.Context, t *tenure) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		if g.queue.idle() {
			return nil
		}
		select {
		case <-t.over:
			return g.notServing()
		case <-g.closing:
			return kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard)
		case <-ctx.Done():
			return fmt.Errorf("shard %d: wait for writes in flight: %w", g.shard, ctx.Err())
		case <-tick.C:
		}
	}
}
