package node

import (
	"context"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/node/formation"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/shardmap"
)

// formationPeers reaches the nodes that may found a cluster, this one among them.
type formationPeers struct{ n *Node }

var _ formation.Peers = formationPeers{}

// Live implements formation.Peers. The nodes it returns are about to be called,
// so their addresses are noted without waiting for the loop that does that else.
func (p formationPeers) Live() []shardmap.Node {
	live := []shardmap.Node{p.n.self}
	for _, m := range p.n.gossip.Members() {
		if m.ID != p.n.self.ID {
			live = append(live, m.Node)
		}
	}
	p.n.book.Set(peers.Gossip, live)
	return live
}

// Held implements formation.Peers.
func (p formationPeers) Held(ctx context.Context, node shardmap.Node) (formation.Held, error) {
	if node.ID == p.n.self.ID {
		return p.n.member.Held(), nil
	}
	return p.n.rpc.held(ctx, node.ID)
}

// Accept implements formation.Peers.
func (p formationPeers) Accept(ctx context.Context, node shardmap.Node, plan *peerv1.Plan) (*peerv1.Plan, error) {
	if node.ID == p.n.self.ID {
		return p.n.member.Accept(ctx, plan)
	}
	return p.n.rpc.acceptPlan(ctx, node.ID, plan)
}

// Start implements formation.Peers.
func (p formationPeers) Start(ctx context.Context, node shardmap.Node, cluster string) error {
	if node.ID == p.n.self.ID {
		return p.n.member.Start(ctx, cluster)
	}
	return p.n.rpc.startPlan(ctx, node.ID, cluster)
}
