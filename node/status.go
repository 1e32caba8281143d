package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// Phases of a node, as NodeStatus shows them.
const (
	phaseUninitialized = "uninitialized"
	phaseForming       = "forming"
	phaseServing       = "serving"
	phaseStopping      = "stopping"
)

const (
	// stateQuarantined is shown of a replica that does not run because it cannot be
	// trusted.
	stateQuarantined = "quarantined"
	// statusAtOnce bounds the nodes asked at the same time.
	statusAtOnce = 32
	// usagePatience is how long a status waits for fresh figures of the disk, which
	// may hang.
	usagePatience = 100 * time.Millisecond
)

func (n *Node) phase() string {
	switch {
	case n.stopping.Load():
		return phaseStopping
	case n.maps.Map() != nil:
		return phaseServing
	case n.clusterID() != "" || n.dir.Plan() != nil:
		return phaseForming
	}
	return phaseUninitialized
}

// status is this node's own view.
func (n *Node) status() *adminv1.NodeStatusResponse {
	resp := &adminv1.NodeStatusResponse{
		Node: wire.NodeToProto(n.self), ClusterId: n.clusterID(), Version: n.deps.Version,
		MapEpoch: n.maps.Map().Epoch(), Phase: n.phase(), AdminAddress: n.admin.addr(), UptimeUs: n.uptimeMicros(),
	}
	if store := n.store.Load(); store != nil {
		for _, g := range store.Groups() {
			resp.Replicas = append(resp.Replicas, n.replicaStatus(g.Status()))
		}
		for _, q := range store.Quarantined() {
			resp.Replicas = append(resp.Replicas, &adminv1.ReplicaStatus{
				Shard: uint64(q.Shard), Replica: uint64(q.Replica), NodeId: string(n.self.ID),
				State: stateQuarantined, Problem: q.Reason,
			})
		}
		db := store.Databases(usagePatience)
		resp.Disk = diskUsage(store.Disk(), n.dir.StoreDir())
		resp.Disk.LogBytes, resp.Disk.StateBytes = db.LogBytes(), db.StateBytes()
	}
	for _, m := range n.gossip.Members() {
		resp.Members = append(resp.Members, &adminv1.GossipMember{
			NodeId: string(m.ID), Name: m.Name, Address: m.Address, Alive: true,
		})
	}
	return resp
}

// diskUsage is what is known of the disk without asking it.
func diskUsage(d raftstore.Disk, dir string) *adminv1.DiskUsage {
	u := &adminv1.DiskUsage{SpaceLevel: d.Space.Level.String(), Dir: dir, Hangs: d.Silent}
	if d.Space.Known {
		u.FreeBytes, u.TotalBytes, u.LowBytes = proto.Uint64(d.Space.Free), d.Space.Total, d.Space.LowAt
	}
	return u
}

func (n *Node) replicaStatus(st raftstore.Status) *adminv1.ReplicaStatus {
	r := &adminv1.ReplicaStatus{
		Shard: uint64(st.Shard), Replica: uint64(st.Replica), NodeId: string(n.self.ID), State: st.State,
		Term: st.Term, FirstIndex: st.FirstIndex, LastIndex: st.LastIndex, Commit: st.Commit, Applied: st.Applied,
		LeaderNode: string(st.Leader), Ready: st.Ready, NoQuorumUs: uint64(st.NoQuorumFor.Microseconds()),
		QueuedWrites: uint64(st.QueuedWrites), QueuedBytes: uint64(st.QueuedBytes),
		RequestRecords: uint64(st.Requests.Records), RequestClients: uint64(st.Requests.Clients), Problem: st.Problem,
	}
	if st.LogBytes >= 0 {
		r.LogBytes = proto.Uint64(uint64(st.LogBytes))
	}
	return r
}

func (n *Node) uptimeMicros() uint64 {
	return uint64(max(0, (n.deps.Clock.Mono() - n.startedAt).Microseconds()))
}

// clusterStatus asks all nodes known, by registry or gossip, and merges what they
// say with this node's map.
func (n *Node) clusterStatus(ctx context.Context) *adminv1.ClusterStatusResponse {
	m := n.maps.Map()
	alive := make(map[shardmap.NodeID]bool)
	nodes := slices.Clone(m.Nodes())
	for _, member := range n.gossip.Members() {
		alive[member.ID] = true
		if !slices.ContainsFunc(nodes, func(k shardmap.Node) bool { return k.ID == member.ID }) {
			nodes = append(nodes, member.Node)
		}
	}
	if !slices.ContainsFunc(nodes, func(k shardmap.Node) bool { return k.ID == n.self.ID }) {
		nodes = append(nodes, n.self)
	}
	slices.SortFunc(nodes, func(a, b shardmap.Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	answers := n.askAll(ctx, nodes)

	resp := &adminv1.ClusterStatusResponse{
		ClusterId: n.clusterID(), MapEpoch: m.Epoch(), ReplicationFactor: uint32(m.ReplicationFactor()),
	}
	for i, node := range nodes {
		resp.Nodes = append(resp.Nodes, summarise(m, node, alive[node.ID], answers[i]))
	}
	for _, rec := range m.Records() {
		resp.Shards = append(resp.Shards, summariseShard(rec, answers))
	}
	return resp
}

// askAll returns the nodes' own views in order, nil for those that did not answer.
func (n *Node) askAll(ctx context.Context, nodes []shardmap.Node) []*adminv1.NodeStatusResponse {
	answers := make([]*adminv1.NodeStatusResponse, len(nodes))
	slots := make(chan struct{}, statusAtOnce)
	var wg sync.WaitGroup
	for i, node := range nodes {
		if node.ID == n.self.ID {
			answers[i] = n.status()
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answer, err := n.rpc.nodeStatus(ctx, node.ID)
			// Somebody else may have taken over its address.
			if err == nil && answer.GetNode().GetId() == string(node.ID) {
				answers[i] = answer
			}
		})
	}
	wg.Wait()
	return answers
}

func summarise(m *shardmap.Map, node shardmap.Node, alive bool, answer *adminv1.NodeStatusResponse) *adminv1.NodeSummary {
	s := &adminv1.NodeSummary{Node: wire.NodeToProto(node), Reachable: answer != nil, Alive: alive || answer != nil}
	if answer != nil {
		s.Node, s.Version, s.MapEpoch = answer.GetNode(), answer.GetVersion(), answer.GetMapEpoch()
		s.Phase, s.AdminAddress = answer.GetPhase(), answer.GetAdminAddress()
		s.UptimeUs, s.Disk = answer.GetUptimeUs(), answer.GetDisk()
		for _, r := range answer.GetReplicas() {
			if r.GetState() == stateQuarantined {
				s.Note = fmt.Sprintf("its replica of shard %d is quarantined: %s", r.GetShard(), r.GetProblem())
				continue
			}
			s.Replicas++
			if r.GetState() == "leader" {
				s.Leaders++
			}
		}
	}
	_, registered := m.Node(node.ID)
	named := slices.ContainsFunc(m.Records(), func(rec shardmap.Record) bool {
		_, on := rec.On(node.ID)
		return on
	})
	switch {
	case m == nil && answer.GetPhase() == phaseUninitialized:
		s.Note = "belongs to no cluster yet: form one with kvctl cluster init"
	case m == nil && answer != nil:
		s.Note = "the cluster is forming"
	case answer == nil:
		s.Note = "does not answer"
	case !registered:
		s.Note = "is not a member of this cluster: start it with --join to add it"
	case answer.GetPhase() == phaseStopping:
		s.Note = "is stopping"
	case !named && s.Note == "":
		s.Note = "holds nothing yet: replicas are not moved automatically in this version"
	}
	return s
}

// summariseShard believes the replica that leads in the highest term.
func summariseShard(rec shardmap.Record, answers []*adminv1.NodeStatusResponse) *adminv1.ShardSummary {
	s := &adminv1.ShardSummary{Record: wire.RecordToProto(rec)}
	for _, answer := range answers {
		for _, r := range answer.GetReplicas() {
			if r.GetShard() != uint64(rec.Shard) {
				continue
			}
			s.Replicas = append(s.Replicas, r)
			s.Applied = max(s.Applied, r.GetApplied())
			s.NoQuorumUs = max(s.NoQuorumUs, r.GetNoQuorumUs())
			if r.GetState() == "leader" && (s.LeaderNode == "" || r.GetTerm() > s.Term) {
				s.LeaderNode, s.Term, s.Ready = r.GetNodeId(), r.GetTerm(), r.GetReady()
			}
		}
	}
	if s.Ready {
		s.NoQuorumUs = 0 // a replica cut off from a healthy shard
	}
	if s.LeaderNode == "" {
		for _, r := range s.Replicas {
			s.Term = max(s.Term, r.GetTerm())
		}
	}
	return s
}
