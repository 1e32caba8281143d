package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
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
	Problems  []problem     `json:"problems"` // empty when healthy
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
	// The node's own word: zero when it did not answer.
	Phase        string  `json:"phase"`
	AdminAddress string  `json:"admin_address"`
	Uptime       float64 `json:"uptime_s"`
	LogBytes     uint64  `json:"log_bytes"`
	StateBytes   uint64  `json:"state_bytes"`
	diskSpace
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
	Commit      uint64          `json:"commit"`
	NoQuorum    float64         `json:"no_quorum_s"`
	Since       *time.Time      `json:"no_quorum_since"` // by this machine's clock; null while there is one
	Replicas    []replicaStatus `json:"replicas"`
}

type replicaStatus struct {
	ID      uint64 `json:"id"`
	Node    string `json:"node"` // name
	NodeID  string `json:"node_id"`
	Role    string `json:"role,omitempty"`
	State   string `json:"state"` // as raft says; empty when the node did not answer
	Applied uint64 `json:"applied"`

	Commit     uint64  `json:"commit"`
	Term       uint64  `json:"term"`
	FirstIndex uint64  `json:"first_index"`
	LastIndex  uint64  `json:"last_index"`
	LogBytes   *uint64 `json:"log_bytes"` // null when the node does not know
	Ready      bool    `json:"ready"`     // leads and serves, or follows a leader
	Queued     uint64  `json:"queued_writes"`
	QueuedSize uint64  `json:"queued_bytes"`
	Requests   uint64  `json:"request_records"`
	Clients    uint64  `json:"request_clients"`
	Problem    string  `json:"problem"` // in words; empty when nothing is wrong
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

A cluster is healthy when every node is reachable and has disk space, every shard
has a leader that serves, and no replica is quarantined or silent. What is wrong
stands behind the cluster's id, what to do about it below.

-o json prints cluster_id, map_epoch, replication_factor, healthy, problems, nodes,
shards and leaders; problems have what and hint, leaders have shard, name, id and
address.`,
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
				return &commandError{code: exitUnhealthy, err: fmt.Errorf("the cluster is not healthy: %s", status.trouble()),
					hint: strings.Join(status.hints(), "; ")}
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
		Nodes: []nodeStatus{}, Shards: []shardStatus{}, Leaders: []leaderRef{},
	}
	byID := map[string]nodeRef{}
	for _, n := range answer.GetNodes() {
		byID[n.GetNode().GetId()] = refOf(n.GetNode())
		status.Nodes = append(status.Nodes, nodeStatus{
			nodeRef: refOf(n.GetNode()), GossipAddress: n.GetNode().GetGossipAddress(), Zone: n.GetNode().GetZone(),
			Reachable: n.GetReachable(), Alive: n.GetAlive(), Version: n.GetVersion(), MapEpoch: n.GetMapEpoch(),
			Replicas: n.GetReplicas(), Leaders: n.GetLeaders(), Note: n.GetNote(),
			Phase: n.GetPhase(), AdminAddress: n.GetAdminAddress(), Uptime: seconds(n.GetUptimeUs()),
			LogBytes: n.GetDisk().GetLogBytes(), StateBytes: n.GetDisk().GetStateBytes(), diskSpace: spaceOf(n.GetDisk()),
		})
	}
	for _, s := range answer.GetShards() {
		shard := shardOf(s, byID)
		status.Shards = append(status.Shards, shard)
		if shard.Leader != nil {
			status.Leaders = append(status.Leaders, leaderRef{Shard: shard.ID, nodeRef: *shard.Leader})
		}
	}
	slices.SortFunc(status.Nodes, func(x, y nodeStatus) int {
		return cmp.Or(cmp.Compare(len(x.Name), len(y.Name)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.ID, y.ID))
	})
	slices.SortFunc(status.Shards, func(x, y shardStatus) int { return cmp.Compare(x.From, y.From) })
	slices.SortFunc(status.Leaders, func(x, y leaderRef) int { return cmp.Compare(x.Shard, y.Shard) })
	status.Problems = status.findProblems()
	status.Healthy = len(status.Problems) == 0
	return status
}

func shardOf(s *adminv1.ShardSummary, byID map[string]nodeRef) shardStatus {
	record := s.GetRecord()
	shard := shardStatus{
		ID: record.GetShard(), System: record.GetShard() == uint64(shardmap.SystemShard),
		From: record.GetArc().GetFrom(), To: record.GetArc().GetTo(),
		ArcEpoch: record.GetArcEpoch(), MemberEpoch: record.GetMemberEpoch(),
		Ready: s.GetReady(), Term: s.GetTerm(), Applied: s.GetApplied(),
		NoQuorum: seconds(s.GetNoQuorumUs()), Replicas: []replicaStatus{},
	}
	if s.GetNoQuorumUs() > 0 {
		since := time.Now().Add(-time.Duration(s.GetNoQuorumUs()) * time.Microsecond).UTC().Round(time.Millisecond)
		shard.Since = &since
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
				replica.hear(told)
				shard.Commit = max(shard.Commit, replica.Commit)
			}
		}
		shard.Replicas = append(shard.Replicas, replica)
	}
	return shard
}

// hear takes in what the replica's node says about it.
func (r *replicaStatus) hear(told *adminv1.ReplicaStatus) {
	r.State, r.Term, r.Applied, r.Commit = told.GetState(), told.GetTerm(), told.GetApplied(), told.GetCommit()
	r.FirstIndex, r.LastIndex, r.LogBytes = told.GetFirstIndex(), told.GetLastIndex(), told.LogBytes
	r.Ready = told.GetReady() || told.GetState() == "follower" && told.GetLeaderNode() != ""
	r.Queued, r.QueuedSize = told.GetQueuedWrites(), told.GetQueuedBytes()
	r.Requests, r.Clients, r.Problem = told.GetRequestRecords(), told.GetRequestClients(), told.GetProblem()
}

func seconds(micros uint64) float64 { return (time.Duration(micros) * time.Microsecond).Seconds() }

func roleName(role kvv1.Role) string {
	switch role {
	case kvv1.Role_ROLE_VOTER:
		return "voter"
	case kvv1.Role_ROLE_LEARNER:
		return "learner"
	}
	return role.String()
}
