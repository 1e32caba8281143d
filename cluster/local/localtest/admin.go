package localtest

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// peerTimeout is how long another node may take to show that it lives.
const peerTimeout = 500 * time.Millisecond

// NodeStatus implements Admin.
func (n *node) NodeStatus(context.Context, *adminv1.NodeStatusRequest) (*adminv1.NodeStatusResponse, error) {
	answer := &adminv1.NodeStatusResponse{
		Node: n.info(), Version: n.version, Phase: "uninitialized", AdminAddress: n.admin,
		UptimeUs: uint64(time.Since(n.started).Microseconds()), Disk: &adminv1.DiskUsage{
			LogBytes: 3 << 20, StateBytes: 5 << 20, SpaceLevel: "ok", FreeBytes: proto.Uint64(80 << 30), TotalBytes: 100 << 30,
			LowBytes: 4 << 30, Dir: "/fake",
		},
	}
	if n.name == "n1" && slices.Contains(n.modes, "low1") {
		answer.Disk.SpaceLevel, answer.Disk.FreeBytes = "low", proto.Uint64(9<<20)
	}
	if id, err := os.ReadFile(n.formed()); err == nil {
		answer.Phase, answer.ClusterId = "serving", string(id)
	}
	if m, err := n.shardMap(); err == nil && n.name == "n1" {
		for _, record := range m.Records() {
			answer.Replicas = append(answer.Replicas, n.replica(record))
		}
	}
	if n.name == "n2" && slices.Contains(n.modes, "outsider") {
		answer.Phase, answer.ClusterId = "uninitialized", ""
	}
	if n.name == "n2" && slices.Contains(n.modes, "stranger") {
		answer.ClusterId = "cluster-y"
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

// replica is n1's of a shard.
func (n *node) replica(record shardmap.Record) *adminv1.ReplicaStatus {
	r := &adminv1.ReplicaStatus{
		Shard: uint64(record.Shard), Replica: uint64(record.Replicas[0].ID), NodeId: string(idOf("n1")), State: "leader",
		LeaderNode: string(idOf("n1")), Ready: true, Term: 1, FirstIndex: 10, LastIndex: 12, Commit: 12, Applied: 12,
		LogBytes: proto.Uint64(2048), QueuedWrites: 1, QueuedBytes: 512, RequestRecords: 7, RequestClients: 1,
	}
	if record.Shard == shardmap.SystemShard+2 && slices.Contains(n.modes, "quarantined") {
		return &adminv1.ReplicaStatus{
			Shard: r.Shard, Replica: r.Replica, NodeId: r.NodeId, State: "quarantined", Problem: "its log is shorter than it was",
		}
	}
	if n.leaderless && record.Shard == shardmap.SystemShard+1 {
		r.State, r.LeaderNode, r.Ready, r.NoQuorumUs = "candidate", "", false, 2_000_000
	}
	return r
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
		summary := &adminv1.NodeSummary{Node: wire.NodeToProto(node)}
		if told := ask(ctx, node.Address); told != nil {
			summary.Reachable, summary.Alive, summary.Version, summary.MapEpoch = true, true, told.GetVersion(), m.Epoch()
			summary.Phase, summary.AdminAddress, summary.UptimeUs = told.GetPhase(), told.GetAdminAddress(), told.GetUptimeUs()
			summary.Disk = told.GetDisk()
		}
		answer.Nodes = append(answer.Nodes, summary)
	}
	for _, record := range m.Records() {
		summary := &adminv1.ShardSummary{Record: wire.RecordToProto(record), LeaderNode: string(idOf("n1")), Ready: true, Term: 1}
		if n.leaderless && record.Shard == shardmap.SystemShard+1 {
			summary.LeaderNode, summary.Ready = "", false
		}
		summary.Replicas = append(summary.Replicas, n.replica(record))
		answer.Shards = append(answer.Shards, summary)
	}
	return answer, nil
}

// ask returns what the node at an address says, nil when it says nothing.
func ask(ctx context.Context, address string) *adminv1.NodeStatusResponse {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	answer, err := adminv1.NewAdminClient(conn).NodeStatus(ctx, &adminv1.NodeStatusRequest{})
	if err != nil {
		return nil
	}
	return answer
}

// Counters implements Admin.
func (n *node) Counters(context.Context, *adminv1.CountersRequest) (*adminv1.CountersResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &adminv1.CountersResponse{
		FramesIn: n.mu.frames, Operations: n.mu.ops, UptimeUs: uint64(time.Since(n.started).Microseconds()),
	}, nil
}
