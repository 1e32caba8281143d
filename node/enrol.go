package node

import (
	"context"
	"math/rand/v2"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// enrolSoon and enrolLate bound the pause between two rounds; it doubles from
	// one to the other while a round leaves something to do.
	enrolSoon = 100 * time.Millisecond
	enrolLate = 5 * time.Second
)

// enrol makes this node known: it finds the nodes named by --join, joins their
// cluster if it belongs to none, starts a plan that others have started, and
// keeps its entry in the registry true. It rests when there is nothing to do.
func (n *Node) enrol(ctx context.Context) {
	pause := enrolSoon
	for {
		changed, mapChanged := n.changed.next(), n.maps.changed.next()
		done := n.enrolOnce(ctx)
		var again <-chan time.Time
		if !done {
			again = time.After(pause/2 + rand.N(pause))
			pause = min(2*pause, enrolLate)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-changed:
			pause = enrolSoon
		case <-mapChanged:
			pause = enrolSoon
		}
	}
}

// enrolOnce does what can be done now and reports whether nothing is left.
func (n *Node) enrolOnce(ctx context.Context) (done bool) {
	seedsDone := n.seeds.contact(ctx)
	if err := n.seeds.verdict(n.clusterID(), n.knowsClusterMates()); err != nil {
		n.fail(err)
		return true
	}
	switch {
	case n.clusterID() != "":
		return n.register(ctx) && seedsDone
	case n.dir.Plan() != nil:
		n.startIfOthersHave(ctx)
		return n.clusterID() != "" && seedsDone
	default:
		n.joinThroughSeed(ctx)
		// A seed may belong to a cluster later than now.
		return n.clusterID() == "" && n.seeds.none()
	}
}

// knowsClusterMates reports whether another live node is of this node's cluster.
func (n *Node) knowsClusterMates() bool {
	cluster := n.clusterID()
	for _, m := range n.gossip.Members() {
		if m.ID != n.self.ID && m.Cluster == cluster && cluster != "" {
			return true
		}
	}
	return false
}

// register writes this node's entry if the map has another, and reports whether
// the map has it right. A node restarted at another address gets its new one
// into the map so.
func (n *Node) register(ctx context.Context) bool {
	m := n.maps.Map()
	if m == nil {
		return true // the map's arrival comes back here
	}
	if entry, ok := m.Node(n.self.ID); ok && entry == n.self {
		return true
	}
	resp, err := n.admit(ctx, n.joinRequest(), 0)
	if err != nil {
		n.log.Debug("registering this node", "error", err)
		return false
	}
	n.takeMap(resp)
	return false // until a map says so
}

// startIfOthersHave finishes a formation whose coordinator died before it reached
// this node: one started node is proof that all accepted (F1).
func (n *Node) startIfOthersHave(ctx context.Context) {
	cluster := n.dir.Plan().GetClusterId()
	for _, info := range n.dir.Plan().GetNodes() {
		id := shardmap.NodeID(info.GetId())
		if id == n.self.ID {
			continue
		}
		held, err := n.rpc.held(ctx, id)
		if err != nil || held.Cluster != cluster {
			continue
		}
		if err := n.member.Start(ctx, cluster); err != nil {
			n.log.Warn("starting in the cluster whose plan this node accepted", "cluster", cluster, "error", err)
		}
		return
	}
}

// joinThroughSeed makes this node a member of the cluster of a seed.
func (n *Node) joinThroughSeed(ctx context.Context) {
	for _, seed := range n.seeds.inCluster() {
		resp, err := n.seeds.join(ctx, seed, n.joinRequest())
		if err != nil {
			n.log.Warn("joining", "seed", seed, "error", err)
			continue
		}
		if err := n.member.Adopt(ctx, resp.GetClusterId()); err != nil {
			n.log.Error("joining", "seed", seed, "error", err)
			continue
		}
		n.log.Info("joined", "cluster", resp.GetClusterId(), "seed", seed)
		n.takeMap(resp)
		return
	}
}

func (n *Node) joinRequest() *peerv1.JoinRequest {
	return &peerv1.JoinRequest{Format: peerFormat, ClusterId: n.clusterID(), Node: wire.NodeToProto(n.self)}
}

func (n *Node) takeMap(resp *peerv1.JoinResponse) {
	m, err := wire.MapFromProto(resp.GetMap())
	if err != nil {
		n.log.Warn("the map that came with a join", "error", err)
		return
	}
	n.maps.offer(m)
}
