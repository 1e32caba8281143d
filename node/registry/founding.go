package registry

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// FirstDataShard is the id of the first shard that holds users' keys.
const FirstDataShard = shardmap.SystemShard + 1

// Founding is everything a newly formed cluster's system shard holds: all nodes,
// the system shard's own record, the data shards placed over the nodes, and the
// cluster entry, which comes last (REG3). It depends on the plan alone (REG2);
// the plan must be valid.
func Founding(plan *peerv1.Plan) ([]Entry, error) {
	var entries []Entry
	var weighted []shardmap.Weighted
	for _, info := range plan.GetNodes() {
		node, err := wire.NodeFromProto(info)
		if err != nil {
			return nil, err
		}
		entries = append(entries, NodeEntry(node))
		weighted = append(weighted, shardmap.Weighted{Node: node, Weight: 1})
	}
	system, err := wire.RecordFromProto(plan.GetSystem())
	if err != nil {
		return nil, err
	}
	entries = append(entries, shardEntry(system))
	placements, err := shardmap.Place(shardmap.PlaceSpec{
		Shards:            int(plan.GetShards()),
		ReplicationFactor: int(plan.GetReplicationFactor()),
		Nodes:             weighted,
	})
	if err != nil {
		return nil, fmt.Errorf("place %d shards: %w", plan.GetShards(), err)
	}
	next := shardmap.ReplicaID(plan.GetNextReplica())
	for i, p := range placements {
		rec := shardmap.Record{Shard: FirstDataShard + shardmap.ShardID(i), Arc: p.Arc, ArcEpoch: 1, MemberEpoch: 1}
		for _, node := range p.Nodes {
			rec.Replicas = append(rec.Replicas, shardmap.Replica{ID: next, Node: node, Role: shardmap.Voter})
			next++
		}
		entries = append(entries, shardEntry(rec))
	}
	formed := proto.CloneOf(plan)
	formed.NextReplica = uint64(next)
	return append(entries, clusterEntry(formed)), nil
}
