package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// drainPoll is how often a transfer looks whether the proposals in flight are
// gone.
const drainPoll = 2 * time.Millisecond

// TransferLeadership hands the shard's leadership to the voter on node to, or to
// the voter raft thinks best when to is empty. Writes are refused meanwhile and
// those in flight are waited for first: raft answers a proposal made during a
// transfer through its future only, which nobody here waits for.
func (g *Group) TransferLeadership(ctx context.Context, to shardmap.NodeID) error {
	t := g.tenure.Load()
	if t == nil {
		return g.unavailable()
	}
	if to == g.store.opts.Self {
		return nil
	}
	err := g.handOver(ctx, t, to)
	if !errors.Is(err, errStuck) {
		return err
	}
	// Raft's own flag may still be set, and then every proposal of this term is
	// refused through a future nobody waits for (upstream #696). A restarted group
	// has no such memory.
	return errors.Join(err, g.store.restart(g))
}

// errStuck marks a transfer that raft was asked for and that did not end the tenure.
var errStuck = errors.New("the leadership was not taken over in time")

// handOver is a transfer without the restart that a stuck one asks for. ctx bounds
// the wait for writes in flight; raft's part takes two election timeouts at most.
func (g *Group) handOver(ctx context.Context, t *tenure, to shardmap.NodeID) error {
	if !g.transferring.CompareAndSwap(false, true) {
		return kverr.New(kverr.Conflict, "shard %d: a leadership transfer is under way", g.shard)
	}
	defer g.transferring.Store(false)
	if err := g.drain(ctx, t); err != nil {
		return err // nothing was asked of raft yet
	}
	conf := g.raft.GetConfiguration()
	if err := conf.Error(); err != nil {
		return fmt.Errorf("shard %d: read configuration: %w", g.shard, err)
	}
	voters, err := votersOf(conf.Configuration(), g.self)
	if err != nil {
		return err
	}
	if err := g.askRaft(voters, to); err != nil {
		return err
	}
	// As with proposals, raft's future may never resolve: its main loop can hang in
	// a log write. What counts is whether the tenure ends; raft gives a transfer up
	// after one election timeout, and its flag may stay set for another.
	patience := time.NewTimer(2*g.store.opts.ElectionTimeout + transferSlack)
	defer patience.Stop()
	select {
	case <-t.over:
		return nil
	case <-g.closing:
		return kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard)
	case <-patience.C:
		return kverr.New(kverr.Unavailable, "shard %d: %w", g.shard, errStuck)
	}
}

// transferSlack is for the steps on the way beside raft's own timeouts.
const transferSlack = 100 * time.Millisecond

func (g *Group) askRaft(e electorate, to shardmap.NodeID) error {
	if len(e.others) == 0 {
		return kverr.New(kverr.Invalid, "shard %d: there is no other voter to hand it to", g.shard)
	}
	if to == "" {
		g.raft.LeadershipTransfer()
		return nil
	}
	for _, v := range e.others {
		if v.node == to {
			id := transport.ServerID(v.node, v.replica)
			g.raft.LeadershipTransferToServer(id, raft.ServerAddress(id))
			return nil
		}
	}
	return kverr.New(kverr.Invalid, "shard %d: node %s holds no voter of it", g.shard, to.Short())
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
