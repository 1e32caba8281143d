package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"

	"google.golang.org/grpc/metadata"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/registry"
	"github.com/ringfort/ringfort/shardmap"
)

// peerFormat numbers what nodes say to each other outside of streams.
const peerFormat = 1

// maxHops bounds how often a Join is passed on: from a node without a replica of
// the system shard to one with, and from there to the leader, twice over.
const maxHops = 4

// peerService answers other nodes.
type peerService struct {
	peerv1.UnimplementedPeerServer
	n *Node
}

// Exchange implements peerv1.PeerServer.
func (s peerService) Exchange(stream peerv1.Peer_ExchangeServer) error {
	return s.n.network.Serve(stream)
}

// SendSnapshot implements peerv1.PeerServer.
func (s peerService) SendSnapshot(stream peerv1.Peer_SendSnapshotServer) error {
	return s.n.network.ServeSnapshot(stream)
}

// Forward implements peerv1.PeerServer.
func (s peerService) Forward(ctx context.Context, req *peerv1.ForwardRequest) (*peerv1.ForwardResponse, error) {
	if err := s.n.sameCluster(req.GetClusterId()); err != nil {
		return nil, wire.StatusFromError(err)
	}
	if req.GetOperation() == nil {
		return nil, wire.StatusFromError(kverr.New(kverr.Invalid, "no operation to forward"))
	}
	return &peerv1.ForwardResponse{Answer: s.n.kv.ServeOperation(ctx, req.GetOperation())}, nil
}

// AcceptPlan implements peerv1.PeerServer.
func (s peerService) AcceptPlan(ctx context.Context, req *peerv1.AcceptPlanRequest) (*peerv1.AcceptPlanResponse, error) {
	held, err := s.n.member.Accept(ctx, req.GetPlan())
	if err != nil {
		return nil, wire.StatusFromError(err)
	}
	return &peerv1.AcceptPlanResponse{Held: held}, nil
}

// StoredPlan implements peerv1.PeerServer.
func (s peerService) StoredPlan(context.Context, *peerv1.StoredPlanRequest) (*peerv1.StoredPlanResponse, error) {
	held := s.n.member.Held()
	return &peerv1.StoredPlanResponse{
		Plan: held.Plan, Started: held.Cluster != "", NodeId: string(s.n.self.ID), ClusterId: held.Cluster,
	}, nil
}

// StartPlan implements peerv1.PeerServer.
func (s peerService) StartPlan(ctx context.Context, req *peerv1.StartPlanRequest) (*peerv1.StartPlanResponse, error) {
	if err := s.n.member.Start(ctx, req.GetClusterId()); err != nil {
		return nil, wire.StatusFromError(err)
	}
	return &peerv1.StartPlanResponse{}, nil
}

// FetchMap implements peerv1.PeerServer.
func (s peerService) FetchMap(_ context.Context, req *peerv1.FetchMapRequest) (*peerv1.FetchMapResponse, error) {
	if err := s.n.sameCluster(req.GetClusterId()); err != nil {
		return nil, wire.StatusFromError(err)
	}
	m := s.n.maps.Map()
	if m.Epoch() <= req.GetHaveEpoch() {
		return &peerv1.FetchMapResponse{}, nil
	}
	return &peerv1.FetchMapResponse{Map: wire.MapToProto(m)}, nil
}

// Join implements peerv1.PeerServer.
func (s peerService) Join(ctx context.Context, req *peerv1.JoinRequest) (*peerv1.JoinResponse, error) {
	resp, err := s.n.admit(ctx, req, hopsOf(ctx))
	if err != nil {
		return nil, wire.StatusFromError(err)
	}
	return resp, nil
}

func hopsOf(ctx context.Context) int {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(hopsKey)
	if len(values) == 0 {
		return 0
	}
	if hops, err := strconv.Atoi(values[0]); err == nil && hops >= 0 {
		return hops
	}
	return maxHops // garbled: do not pass it on
}

// sameCluster refuses what is meant for another cluster.
func (n *Node) sameCluster(id string) error {
	switch own := n.clusterID(); {
	case own == "":
		return kverr.New(kverr.NotInitialized, "node %s belongs to no cluster yet", n.self.ID.Short())
	case id != own:
		return kverr.New(kverr.WrongCluster, "node %s belongs to cluster %s, not to %q", n.self.ID.Short(), own, id)
	}
	return nil
}

// admit puts a node's entry into the registry, here if this node leads the system
// shard and otherwise where it is led.
func (n *Node) admit(ctx context.Context, req *peerv1.JoinRequest, hops int) (*peerv1.JoinResponse, error) {
	if req.GetFormat() != peerFormat {
		return nil, kverr.New(kverr.Format, "join: format %d, this build knows %d", req.GetFormat(), peerFormat)
	}
	if id := req.GetClusterId(); id != "" || n.clusterID() == "" {
		if err := n.sameCluster(id); err != nil {
			return nil, err
		}
	}
	node, err := wire.NodeFromProto(req.GetNode())
	if err != nil {
		return nil, err
	}
	m := n.maps.Map()
	if m == nil {
		return nil, kverr.New(kverr.Unavailable, "cluster %s is still forming; try again", n.clusterID())
	}
	if entry, known := m.Node(node.ID); known && entry == node {
		return &peerv1.JoinResponse{ClusterId: n.clusterID(), Map: wire.MapToProto(m)}, nil
	}
	err = n.writeEntry(ctx, node)
	if errors.Is(err, kverr.NotLeader) && hops < maxHops {
		return n.passOn(ctx, req, hops+1)
	}
	if err != nil {
		return nil, err
	}
	n.log.Info("registered a node", "node", node.ID.Short(), "name", node.Name, "address", node.Address)
	return &peerv1.JoinResponse{ClusterId: n.clusterID(), Map: wire.MapToProto(n.maps.Map())}, nil
}

func (n *Node) writeEntry(ctx context.Context, node shardmap.Node) error {
	system, ok := n.systemShard()
	if !ok {
		return kverr.New(kverr.NotLeader, "this node holds no replica of the system shard")
	}
	return system.write(ctx, []registry.Entry{registry.NodeEntry(node)})
}

// passOn sends a join to the system shard's leader, or, while that is not known
// here, to its replicas.
func (n *Node) passOn(ctx context.Context, req *peerv1.JoinRequest, hops int) (*peerv1.JoinResponse, error) {
	var targets []shardmap.NodeID
	if system, ok := n.systemShard(); ok {
		if leader, ok := system.group.Leader(); ok {
			targets = append(targets, leader.Node)
		}
	} else if rec, ok := n.maps.Map().Shard(shardmap.SystemShard); ok {
		for _, i := range rand.Perm(len(rec.Replicas)) {
			targets = append(targets, rec.Replicas[i].Node)
		}
	}
	// The id makes a node that was wired to another cluster meanwhile refuse.
	passed := &peerv1.JoinRequest{Format: req.GetFormat(), ClusterId: n.clusterID(), Node: req.GetNode()}
	err := error(kverr.New(kverr.Unavailable, "the system shard has no known leader; try again"))
	for _, id := range targets {
		if id == n.self.ID {
			continue
		}
		var resp *peerv1.JoinResponse
		if resp, err = n.rpc.join(ctx, id, passed, hops); err == nil {
			return resp, nil
		}
	}
	return nil, err
}

// forwarder implements kvserver.Peers.
type forwarder struct{ n *Node }

// Forward implements kvserver.Peers.
func (f forwarder) Forward(ctx context.Context, id shardmap.NodeID, op *kvv1.Operation) (*kvv1.Answer, error) {
	return f.n.rpc.forward(ctx, id, f.n.clusterID(), op)
}
