package wire

import (
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// RecordToProto returns the message of a record.
func RecordToProto(rec shardmap.Record) *kvv1.ShardRecord {
	pb := &kvv1.ShardRecord{
		Shard:       uint64(rec.Shard),
		Arc:         &kvv1.Arc{From: uint32(rec.Arc.From), To: uint32(rec.Arc.To)},
		ArcEpoch:    rec.ArcEpoch,
		MemberEpoch: rec.MemberEpoch,
	}
	for _, r := range rec.Replicas {
		pb.Replicas = append(pb.Replicas, &kvv1.Replica{Id: uint64(r.ID), NodeId: string(r.Node), Role: kvv1.Role(r.Role)})
	}
	return pb
}

// RecordFromProto returns the record of a message. Whether records fit together
// is the map's business (MapFromProto).
func RecordFromProto(pb *kvv1.ShardRecord) (shardmap.Record, error) {
	if pb == nil {
		return shardmap.Record{}, kverr.New(kverr.Invalid, "shard record is missing")
	}
	if pb.GetShard() == 0 {
		return shardmap.Record{}, kverr.New(kverr.Invalid, "shard record has shard id 0")
	}
	arc, err := arcFromProto(pb.GetArc())
	if err != nil {
		return shardmap.Record{}, kverr.New(kverr.Invalid, "shard %d: %w", pb.GetShard(), err)
	}
	rec := shardmap.Record{
		Shard:       shardmap.ShardID(pb.GetShard()),
		Arc:         arc,
		ArcEpoch:    pb.GetArcEpoch(),
		MemberEpoch: pb.GetMemberEpoch(),
	}
	for _, r := range pb.GetReplicas() {
		replica, err := replicaFromProto(r)
		if err != nil {
			return shardmap.Record{}, kverr.New(kverr.Invalid, "shard %d: %w", pb.GetShard(), err)
		}
		rec.Replicas = append(rec.Replicas, replica)
	}
	return rec, nil
}

func arcFromProto(pb *kvv1.Arc) (shardmap.Arc, error) {
	from, to := pb.GetFrom(), pb.GetTo()
	// Compared before the conversion: a Slot has 16 bits and would wrap.
	if from >= to || to > uint32(shardmap.SlotEnd) {
		return shardmap.Arc{}, kverr.New(kverr.Invalid, "arc [%d,%d) is empty or off the ring of %d slots",
			from, to, shardmap.SlotEnd)
	}
	return shardmap.Arc{From: shardmap.Slot(from), To: shardmap.Slot(to)}, nil
}

func replicaFromProto(pb *kvv1.Replica) (shardmap.Replica, error) {
	if pb.GetId() == 0 {
		return shardmap.Replica{}, kverr.New(kverr.Invalid, "replica id 0")
	}
	node, err := nodeIDFromProto(pb.GetNodeId())
	if err != nil {
		return shardmap.Replica{}, kverr.New(kverr.Invalid, "replica %d: %w", pb.GetId(), err)
	}
	r := shardmap.Replica{ID: shardmap.ReplicaID(pb.GetId()), Node: node}
	switch pb.GetRole() {
	case kvv1.Role_ROLE_VOTER:
		r.Role = shardmap.Voter
	case kvv1.Role_ROLE_LEARNER:
		r.Role = shardmap.Learner
	default:
		return shardmap.Replica{}, kverr.New(kverr.Invalid, "replica %d: unknown role %d", r.ID, pb.GetRole())
	}
	return r, nil
}

// HintToProto returns the message of a leader hint.
func HintToProto(h shardmap.LeaderHint) *kvv1.LeaderHint {
	return &kvv1.LeaderHint{Shard: uint64(h.Shard), Term: h.Term, NodeId: string(h.Node)}
}

// HintFromProto returns the leader hint of a message.
func HintFromProto(pb *kvv1.LeaderHint) (shardmap.LeaderHint, error) {
	if pb.GetShard() == 0 {
		return shardmap.LeaderHint{}, kverr.New(kverr.Invalid, "leader hint is missing or has shard id 0")
	}
	node, err := nodeIDFromProto(pb.GetNodeId())
	if err != nil {
		return shardmap.LeaderHint{}, kverr.New(kverr.Invalid, "leader hint of shard %d: %w", pb.GetShard(), err)
	}
	return shardmap.LeaderHint{Shard: shardmap.ShardID(pb.GetShard()), Term: pb.GetTerm(), Node: node}, nil
}
