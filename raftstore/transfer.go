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
	if !g.transferring.CompareAndSwap(false, true) {
		return kverr.New(kverr.Conflict, "shard %d: a leadership transfer is under way", g.shard)
	}
	defer g.transferring.Store(false)
	if err := g.drain(ctx, t); err != nil {
		return err // nothing was asked of raft yet
	}
	var future raft.Future
	if to == "" {
		future = g.raft.LeadershipTransfer()
	} else {
		id, err := g.voterOn(to)
		if err != nil {
			return err
		}
		future = g.raft.LeadershipTransferToServer(id, raft.ServerAddress(id))
	}
	// Raft answers within twice the election timeout; stop waits for that first.
	g.transfers.Add(1)
	err := future.Error()
	g.transfers.Done()
	if err == nil {
		return nil
	}
	// A failed transfer may leave raft's own flag set, and then every proposal of
	// this term is refused through a future nobody waits for (upstream #696). A
	// restarted group has no such memory.
	return errors.Join(kverr.New(kverr.Unavailable, "shard %d: leadership transfer: %w", g.shard, err),
		g.store.restart(g))
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
			return nil
		case <-g.closing:
			return kverr.New(kverr.Closed, "shard %d: the node is stopping", g.shard)
		case <-ctx.Done():
			return fmt.Errorf("shard %d: wait for writes in flight: %w", g.shard, ctx.Err())
		case <-tick.C:
		}
	}
}

func (g *Group) voterOn(node shardmap.NodeID) (raft.ServerID, error) {
	future := g.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return "", fmt.Errorf("shard %d: read configuration: %w", g.shard, err)
	}
	for _, srv := range future.Configuration().Servers {
		if n, _, err := transport.ParseServerID(string(srv.ID)); err == nil && n == node && srv.Suffrage == raft.Voter {
			return srv.ID, nil
		}
	}
	return "", kverr.New(kverr.Invalid, "shard %d: node %s holds no voter of it", g.shard, node.Short())
}
