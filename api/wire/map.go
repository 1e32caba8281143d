package wire

import (
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// maxText bounds each piece of text in a node's entry, in bytes: a host name has
// at most 253, and a port follows.
const maxText = 300

// maxReplicationFactor only keeps nonsense out.
const maxReplicationFactor = 255

// MapToProto returns the message of a map; nil for a nil map.
func MapToProto(m *shardmap.Map) *kvv1.ShardMap {
	if m == nil {
		return nil
	}
	pb := &kvv1.ShardMap{
		Epoch:             m.Epoch(),
		ClusterId:         m.ClusterID(),
		ReplicationFactor: uint32(m.ReplicationFactor()),
	}
	for _, rec := range m.Records() {
		pb.Shards = append(pb.Shards, RecordToProto(rec))
	}
	for _, node := range m.Nodes() {
		pb.Nodes = append(pb.Nodes, NodeToProto(node))
	}
	return pb
}

// MapFromProto returns the map of a message. A map that breaks an invariant of
// package shardmap is refused with the *shardmap.Violation in the error's chain.
// A nil message is an error: whether there may be no map is the caller's to know.
func MapFromProto(pb *kvv1.ShardMap) (*shardmap.Map, error) {
	if pb == nil {
		return nil, kverr.New(kverr.Invalid, "shard map is missing")
	}
	if err := checkText("cluster id", pb.GetClusterId()); err != nil {
		return nil, err
	}
	if pb.GetReplicationFactor() > maxReplicationFactor {
		return nil, kverr.New(kverr.Invalid, "shard map: replication factor %d is above %d",
			pb.GetReplicationFactor(), maxReplicationFactor)
	}
	spec := shardmap.MapSpec{
		Epoch:             pb.GetEpoch(),
		ClusterID:         pb.GetClusterId(),
		ReplicationFactor: int(pb.GetReplicationFactor()),
	}
	for _, r := range pb.GetShards() {
		rec, err := RecordFromProto(r)
		if err != nil {
			return nil, err
		}
		spec.Records = append(spec.Records, rec)
	}
	for _, n := range pb.GetNodes() {
		node, err := NodeFromProto(n)
		if err != nil {
			return nil, err
		}
		spec.Nodes = append(spec.Nodes, node)
	}
	m, err := shardmap.NewMap(spec)
	if err != nil {
		return nil, kverr.New(kverr.Invalid, "received %w", err)
	}
	return m, nil
}

// NodeToProto returns the message of a node's registry entry.
func NodeToProto(n shardmap.Node) *kvv1.NodeInfo {
	return &kvv1.NodeInfo{Id: string(n.ID), Name: n.Name, Address: n.Address, Zone: n.Zone, GossipAddress: n.Gossip}
}

// NodeFromProto returns the registry entry of a message. Addresses are bounded
// but not resolved or parsed: dialling them says more.
func NodeFromProto(pb *kvv1.NodeInfo) (shardmap.Node, error) {
	id, err := nodeIDFromProto(pb.GetId())
	if err != nil {
		return shardmap.Node{}, kverr.New(kverr.Invalid, "node entry: %w", err)
	}
	for _, field := range []struct{ name, text string }{
		{"name", pb.GetName()}, {"address", pb.GetAddress()}, {"zone", pb.GetZone()}, {"gossip address", pb.GetGossipAddress()},
	} {
		if err := checkText(field.name, field.text); err != nil {
			return shardmap.Node{}, kverr.New(kverr.Invalid, "node %s: %w", id.Short(), err)
		}
	}
	return shardmap.Node{
		ID: id, Name: pb.GetName(), Address: pb.GetAddress(), Gossip: pb.GetGossipAddress(), Zone: pb.GetZone(),
	}, nil
}

func nodeIDFromProto(s string) (shardmap.NodeID, error) {
	if id := shardmap.NodeID(s); id.Valid() {
		return id, nil
	}
	return "", kverr.New(kverr.Invalid, "node id %.60q is not 40 lower-case hex digits", s)
}

// checkText refuses what would spoil a log line or a table, or is too long.
func checkText(what, s string) error {
	if len(s) > maxText {
		return kverr.New(kverr.Invalid, "%s has %d bytes, above %d", what, len(s), maxText)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return kverr.New(kverr.Invalid, "%s %.60q has control characters", what, s)
		}
	}
	return nil
}
