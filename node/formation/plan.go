package formation

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// planFormat numbers what a plan means. It is on disk and on the wire.
const planFormat = 1

// Bounds and defaults of what may be asked for.
const (
	DefaultShards            = 6
	MaxShards                = 1024
	DefaultReplicationFactor = 3
	MaxReplicationFactor     = 7
	// MaxNodes is how many nodes may found a cluster together; more join later.
	MaxNodes = 256
)

// Request is what the administrator asks for; zero takes the default.
type Request struct {
	Shards            int
	ReplicationFactor int
}

func (r Request) withDefaults() Request {
	r.Shards = cmp.Or(r.Shards, DefaultShards)
	r.ReplicationFactor = cmp.Or(r.ReplicationFactor, DefaultReplicationFactor)
	return r
}

func (r Request) validate() error {
	var faults []error
	if r.Shards < 1 || r.Shards > MaxShards {
		faults = append(faults, kverr.New(kverr.Invalid, "%d shards asked for: 1 to %d are possible", r.Shards, MaxShards))
	}
	if r.ReplicationFactor < 1 || r.ReplicationFactor > MaxReplicationFactor {
		faults = append(faults, kverr.New(kverr.Invalid, "replication factor %d asked for: 1 to %d are possible",
			r.ReplicationFactor, MaxReplicationFactor))
	}
	return errors.Join(faults...)
}

// newPlan makes a plan of live nodes, which must be as many as the replication
// factor at least.
func newPlan(clusterID string, r Request, live []shardmap.Node) *peerv1.Plan {
	live = slices.Clone(live)
	slices.SortFunc(live, byID)
	system := shardmap.Record{Shard: shardmap.SystemShard, Arc: shardmap.SystemArc, ArcEpoch: 1, MemberEpoch: 1}
	for i, node := range spread(live, r.ReplicationFactor) {
		system.Replicas = append(system.Replicas,
			shardmap.Replica{ID: shardmap.ReplicaID(i + 1), Node: node.ID, Role: shardmap.Voter})
	}
	plan := &peerv1.Plan{
		Format:            planFormat,
		ClusterId:         clusterID,
		ReplicationFactor: uint32(r.ReplicationFactor),
		Shards:            uint32(r.Shards),
		System:            wire.RecordToProto(system),
		NextReplica:       uint64(len(system.Replicas) + 1),
	}
	for _, node := range live {
		plan.Nodes = append(plan.Nodes, wire.NodeToProto(node))
	}
	return plan
}

// spread takes n nodes in order of their names (people expect n1, n2, n3), from
// zones not taken yet while there are such.
func spread(live []shardmap.Node, n int) []shardmap.Node {
	rest := slices.Clone(live)
	slices.SortFunc(rest, func(a, b shardmap.Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), byID(a, b))
	})
	var taken []shardmap.Node
	zones := make(map[string]bool)
	for len(taken) < n && len(rest) > 0 {
		i := max(0, slices.IndexFunc(rest, func(c shardmap.Node) bool { return !zones[c.Zone] }))
		taken = append(taken, rest[i])
		zones[rest[i].Zone] = true
		rest = slices.Delete(rest, i, i+1)
	}
	return taken
}

func byID(a, b shardmap.Node) int { return cmp.Compare(a.ID, b.ID) }

// Validate checks everything a node relies on before it stores a plan. Errors
// are of kind Format or Invalid.
func Validate(plan *peerv1.Plan) error {
	if plan.GetFormat() != planFormat {
		return kverr.New(kverr.Format, "the plan has format %d, this build knows %d", plan.GetFormat(), planFormat)
	}
	r := Request{Shards: int(plan.GetShards()), ReplicationFactor: int(plan.GetReplicationFactor())}
	if err := r.validate(); err != nil {
		return err
	}
	nodes := make(map[string]bool)
	for _, info := range plan.GetNodes() {
		if _, err := wire.NodeFromProto(info); err != nil {
			return err
		}
		nodes[info.GetId()] = true
	}
	system, err := wire.RecordFromProto(plan.GetSystem())
	if err != nil {
		return kverr.New(kverr.Invalid, "the plan's system record: %w", err)
	}
	invalid := func(format string, args ...any) error { return kverr.New(kverr.Invalid, "the plan "+format, args...) }
	switch {
	case plan.GetClusterId() == "":
		return invalid("names no cluster")
	case len(nodes) != len(plan.GetNodes()) || len(nodes) > MaxNodes:
		return invalid("names a node twice, or more than %d", MaxNodes)
	case system.Shard != shardmap.SystemShard || system.Arc != shardmap.SystemArc:
		return invalid("has a system record of shard %d %v", system.Shard, system.Arc)
	case system.ArcEpoch != 1 || system.MemberEpoch != 1:
		return invalid("has a system record that is not newborn")
	case len(system.Replicas) != r.ReplicationFactor || len(nodes) < r.ReplicationFactor:
		return invalid("has %d nodes and %d system replicas for replication factor %d",
			len(nodes), len(system.Replicas), r.ReplicationFactor)
	}
	for _, m := range system.Replicas {
		if !nodes[string(m.Node)] || m.Role != shardmap.Voter || uint64(m.ID) >= plan.GetNextReplica() {
			return invalid("has a bad system replica %d on node %s", m.ID, m.Node.Short())
		}
	}
	return nil
}

// names lists nodes for people: "n1 (127.0.0.1:7401), n2 (…)".
func names(nodes []shardmap.Node) string {
	parts := make([]string, 0, len(nodes))
	for _, n := range nodes {
		parts = append(parts, label(n))
	}
	return strings.Join(parts, ", ")
}

func label(n shardmap.Node) string {
	name := n.Name
	if name == "" {
		name = n.ID.Short()
	}
	return name + " (" + n.Address + ")"
}

func nodesOf(plan *peerv1.Plan) []shardmap.Node {
	nodes := make([]shardmap.Node, 0, len(plan.GetNodes()))
	for _, info := range plan.GetNodes() {
		nodes = append(nodes, nodeOf(info))
	}
	slices.SortFunc(nodes, byID)
	return nodes
}

// nodeOf is for entries of a plan that was validated.
func nodeOf(info *kvv1.NodeInfo) shardmap.Node {
	n, err := wire.NodeFromProto(info)
	if err != nil {
		panic("formation: a validated plan holds a bad node: " + err.Error())
	}
	return n
}
