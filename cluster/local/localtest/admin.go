package localtest

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// peerTimeout is how long another node may take to show that it lives.
const peerTimeout = 500 * time.Millisecond

// NodeStatus implements Admin.
func (n *node) NodeStatus(context.Context, *adminv1.NodeStatusRequest) (*adminv1.NodeStatusResponse, error) {
	answer := &adminv1.NodeStatusResponse{Node: n.info(), Version: n.version, Phase: "uninitialized"}
	if id, err := os.ReadFile(n.formed()); err == nil {
		answer.Phase, answer.ClusterId = "serving", string(id)
	}
	for name, address := range n.addresses() {
		conn, err := net.DialTimeout("tcp", address, peerTimeout)
		if err != nil {
			continue
		}
		conn.Close()
		answer.Members = append(answer.Members, &adminv1.GossipMember{Name: name, Address: address, Alive: true})
	}
	return answer, nil
}

// Init implements Admin.
func (n *node) Init(_ context.Context, r *adminv1.InitRequest) (*adminv1.InitResponse, error) {
	f, err := os.OpenFile(n.formed(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, wire.StatusFromError(kverr.New(kverr.Conflict, "this is cluster %s already", clusterID))
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.WriteString(clusterID); err != nil {
		return nil, err
	}
	answer := &adminv1.InitResponse{ClusterId: clusterID, Shards: max(r.GetShards(), 2), ReplicationFactor: r.GetReplicationFactor()}
	answer.Nodes = append(answer.Nodes, n.info())
	return answer, nil
}

// ClusterStatus implements Admin.
func (n *node) ClusterStatus(ctx context.Context, _ *adminv1.ClusterStatusRequest) (*adminv1.ClusterStatusResponse, error) {
	m, err := n.shardMap()
	if err != nil {
		return nil, wire.StatusFromError(err)
	}
	answer := &adminv1.ClusterStatusResponse{
		ClusterId: m.ClusterID(), MapEpoch: m.Epoch(), ReplicationFactor: uint32(m.ReplicationFactor()),
	}
	for _, node := range m.Nodes() {
		lives := node.Name == n.name || answers(ctx, node.Address)
		answer.Nodes = append(answer.Nodes, &adminv1.NodeSummary{
			Node: wire.NodeToProto(node), Reachable: lives, Alive: lives, Version: n.version, MapEpoch: m.Epoch(),
		})
	}
	for _, record := range m.Records() {
		summary := &adminv1.ShardSummary{Record: wire.RecordToProto(record), LeaderNode: string(idOf("n1")), Ready: true, Term: 1}
		if n.leaderless && record.Shard == shardmap.SystemShard+1 {
			summary.LeaderNode, summary.Ready = "", false
		}
		answer.Shards = append(answer.Shards, summary)
	}
	return answer, nil
}

func answers(ctx context.Context, address string) bool {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	_, err = adminv1.NewAdminClient(conn).NodeStatus(ctx, &adminv1.NodeStatusRequest{})
	return err == nil
}

// Counters implements Admin.
func (n *node) Counters(context.Context, *adminv1.CountersRequest) (*adminv1.CountersResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &adminv1.CountersResponse{
		FramesIn: n.mu.frames, Operations: n.mu.ops, UptimeUs: uint64(time.Since(n.started).Microseconds()),
	}, nil
}
