package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// clusterStatus is what -o json prints.
type clusterStatus struct {
	ClusterID string        `json:"cluster_id"`
	MapEpoch  uint64        `json:"map_epoch"`
	Factor    uint32        `json:"replication_factor"`
	Healthy   bool          `json:"healthy"`
	Nodes     []nodeStatus  `json:"nodes"`
	Shards    []shardStatus `json:"shards"`
	Leaders   []leaderRef   `json:"leaders"`
}

// nodeRef names a node.
type nodeRef struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address"`
}

func refOf(n *kvv1.NodeInfo) nodeRef {
	return nodeRef{Name: n.GetName(), ID: n.GetId(), Address: n.GetAddress()}
}

type nodeStatus struct {
	nodeRef
	GossipAddress string `json:"gossip_address"`
	Zone          string `json:"zone,omitempty"`
	Reachable     bool   `json:"reachable"`
	Alive         bool   `json:"alive"`
	Version       string `json:"version"`
	MapEpoch      uint64 `json:"map_epoch"`
	Replicas      uint32 `json:"replicas"`
	Leaders       uint32 `json:"leaders"`
	Note          string `json:"note,omitempty"`
}

type shardStatus struct {
	ID          uint64          `json:"id"`
	System      bool            `json:"system"`
	From        uint32          `json:"from"` // slots [from, to)
	To          uint32          `json:"to"`
	ArcEpoch    uint64          `json:"arc_epoch"`
	MemberEpoch uint64          `json:"member_epoch"`
	Leader      *nodeRef        `json:"leader"` // null when none is known
	Ready       bool            `json:"ready"`
	Term        uint64          `json:"term"`
	Applied     uint64          `json:"applied"`
	NoQuorum    float64         `json:"no_quorum_s"`
	Replicas    []replicaStatus `json:"replicas"`
}

type replicaStatus struct {
	ID      uint64 `json:"id"`
	Node    string `json:"node"` // name
	NodeID  string `json:"node_id"`
	Role    string `json:"role"`
	State   string `json:"state"` // as raft says; empty when the node did not answer
	Applied uint64 `json:"applied"`
}

type leaderRef struct {
	Shard uint64 `json:"shard"`
	nodeRef
}

func (a *app) clusterStatusCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, shards and leaders",
		Long: `Show nodes, shards and leaders, as the asked node and those that it reaches see
them.

-o json prints cluster_id, map_epoch, replication_factor, healthy, nodes, shards
and leaders; leaders have shard, name, id and address. healthy means that every
node is reachable and every shard has a leader that serves.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.askStatus(cmd.Context())
			if err != nil {
				return err
			}
			if err := a.printStatus(status); err != nil {
				return err
			}
			if check && !status.Healthy {
				return &commandError{code: exitUnhealthy, err: fmt.Errorf("the cluster is not healthy: %s", status.trouble())}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with 9 unless the cluster is healthy")
	return cmd
}

func (a *app) askStatus(ctx context.Context) (*clusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, a.settings.Timeout)
	defer cancel()
	var answer *adminv1.ClusterStatusResponse
	err := a.askAdmin(ctx, wire.Unsent, func(ctx context.Context, admin adminv1.AdminClient) (err error) {
		answer, err = admin.ClusterStatus(ctx, &adminv1.ClusterStatusRequest{})
		return err
	})
	if err != nil {
		return nil, err
	}
	return statusOf(answer), nil
}

// statusOf turns the answer into what is printed. Nodes are ordered by name,
// shards by arc.
func statusOf(answer *adminv1.ClusterStatusResponse) *clusterStatus {
	status := &clusterStatus{
		ClusterID: answer.GetClusterId(), MapEpoch: answer.GetMapEpoch(), Factor: answer.GetReplicationFactor(),
		Healthy: len(answer.GetShards()) > 0, Nodes: []nodeStatus{}, Shards: []shardStatus{}, Leaders: []leaderRef{},
	}
	byID := map[string]nodeRef{}
	for _, n := range answer.GetNodes() {
		byID[n.GetNode().GetId()] = refOf(n.GetNode())
		status.Nodes = append(status.Nodes, nodeStatus{
			nodeRef: refOf(n.GetNode()), GossipAddress: n.GetNode().GetGossipAddress(), Zone: n.GetNode().GetZone(),
			Reachable: n.GetReachable(), Alive: n.GetAlive(), Version: n.GetVersion(), MapEpoch: n.GetMapEpoch(),
			Replicas: n.GetReplicas(), Leaders: n.GetLeaders(), Note: n.GetNote(),
		})
		status.Healthy = status.Healthy && n.GetReachable()
	}
	for _, s := range answer.GetShards() {
		shard := shardOf(s, byID)
		status.Shards = append(status.Shards, shard)
		if shard.Leader != nil {
			status.Leaders = append(status.Leaders, leaderRef{Shard: shard.ID, nodeRef: *shard.Leader})
		}
		status.Healthy = status.Healthy && shard.Leader != nil && shard.Ready
	}
	slices.SortFunc(status.Nodes, func(x, y nodeStatus) int {
		return cmp.Or(cmp.Compare(len(x.Name), len(y.Name)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	slices.SortFunc(status.Shards, func(x, y shardStatus) int { return cmp.Compare(x.From, y.From) })
	slices.SortFunc(status.Leaders, func(x, y leaderRef) int { return cmp.Compare(x.Shard, y.Shard) })
	return status
}

func shardOf(s *adminv1.ShardSummary, byID map[string]nodeRef) shardStatus {
	record := s.GetRecord()
	shard := shardStatus{
		ID: record.GetShard(), System: record.GetShard() == uint64(shardmap.SystemShard),
		From: record.GetArc().GetFrom(), To: record.GetArc().GetTo(),
		ArcEpoch: record.GetArcEpoch(), MemberEpoch: record.GetMemberEpoch(),
		Ready: s.GetReady(), Term: s.GetTerm(), Applied: s.GetApplied(),
		NoQuorum: (time.Duration(s.GetNoQuorumUs()) * time.Microsecond).Seconds(), Replicas: []replicaStatus{},
	}
	if id := s.GetLeaderNode(); id != "" {
		leader := byID[id]
		leader.ID = id // also of a leader that is not in the registry
		shard.Leader = &leader
	}
	for _, r := range record.GetReplicas() {
		replica := replicaStatus{ID: r.GetId(), NodeID: r.GetNodeId(), Node: byID[r.GetNodeId()].Name, Role: roleName(r.GetRole())}
		for _, told := range s.GetReplicas() {
			if told.GetReplica() == r.GetId() && told.GetNodeId() == r.GetNodeId() {
				replica.State, replica.Applied = told.GetState(), told.GetApplied()
			}
		}
		shard.Replicas = append(shard.Replicas, replica)
	}
	return shard
}

func roleName(role kvv1.Role) string {
	switch role {
	case kvv1.Role_ROLE_VOTER:
		return "voter"
	case kvv1.Role_ROLE_LEARNER:
		return "learner"
	}
	return role.String()
}
