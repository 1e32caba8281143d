package shardmap

import (
	"errors"
	"fmt"
)

// Violation says which invariant (see the package comment) a map or a change
// breaks, and how.
type Violation struct {
	ID     string // SM1 … SM6
	Detail string
	Err    error // ErrStale where that is the reason, else nil
}

func (v *Violation) Error() string { return "shard map: " + v.ID + ": " + v.Detail }

// Unwrap returns the reason that callers may test for.
func (v *Violation) Unwrap() error { return v.Err }

// ErrStale is in the chain of the error of a change that offers something older
// than what the map holds. The map that refused it is right; drop the offer.
var ErrStale = errors.New("older than what the map holds")

func violation(id, format string, args ...any) error {
	return &Violation{ID: id, Detail: fmt.Sprintf(format, args...)}
}

func stale(format string, args ...any) error {
	return &Violation{ID: "SM6", Detail: fmt.Sprintf(format, args...), Err: ErrStale}
}

// check tests SM1 to SM5 on a spec whose records are sorted by arc and whose
// nodes are sorted by id.
func (s *MapSpec) check() error {
	if s.ReplicationFactor < 0 {
		return violation("SM5", "replication factor %d", s.ReplicationFactor)
	}
	if err := s.checkArcs(); err != nil {
		return err
	}
	if err := s.checkReplicas(); err != nil {
		return err
	}
	return s.checkNodes()
}

func (s *MapSpec) checkArcs() error {
	shards := make(map[ShardID]Arc, len(s.Records))
	for i, rec := range s.Records {
		if !rec.Arc.Valid() {
			return violation("SM1", "shard %d: arc %v is empty or off the ring", rec.Shard, rec.Arc)
		}
		if system := rec.Shard == SystemShard; system != (rec.Arc == SystemArc) || system != rec.Arc.Overlaps(SystemArc) {
			return violation("SM1", "shard %d owns %v, but %v belongs to shard %d and that to nothing else",
				rec.Shard, rec.Arc, SystemArc, SystemShard)
		}
		if i > 0 && s.Records[i-1].Arc.Overlaps(rec.Arc) {
			before := s.Records[i-1]
			return violation("SM2", "shard %d %v and shard %d %v share slots", before.Shard, before.Arc, rec.Shard, rec.Arc)
		}
		if rec.Shard == 0 {
			return violation("SM3", "the record of %v has shard id 0", rec.Arc)
		}
		if arc, taken := shards[rec.Shard]; taken {
			return violation("SM3", "shard %d owns both %v and %v", rec.Shard, arc, rec.Arc)
		}
		shards[rec.Shard] = rec.Arc
	}
	return nil
}

func (s *MapSpec) checkReplicas() error {
	holders := make(map[ReplicaID]ShardID, 3*len(s.Records))
	for _, rec := range s.Records {
		for i, r := range rec.Replicas {
			if r.ID == 0 {
				return violation("SM3", "shard %d: replica on node %s has id 0", rec.Shard, r.Node.Short())
			}
			if other, taken := holders[r.ID]; taken {
				return violation("SM3", "shards %d and %d both list replica %d", other, rec.Shard, r.ID)
			}
			holders[r.ID] = rec.Shard
			if r.Node == "" {
				return violation("SM4", "shard %d: replica %d is on no node", rec.Shard, r.ID)
			}
			if r.Role != Voter && r.Role != Learner {
				return violation("SM4", "shard %d: replica %d has %v", rec.Shard, r.ID, r.Role)
			}
			for _, q := range rec.Replicas[:i] {
				if q.Node == r.Node {
					return violation("SM4", "shard %d: replicas %d and %d are both on node %s",
						rec.Shard, q.ID, r.ID, r.Node.Short())
				}
			}
		}
	}
	return nil
}

func (s *MapSpec) checkNodes() error {
	for i, node := range s.Nodes {
		if node.ID == "" {
			return violation("SM5", "node %q at %q has no id", node.Name, node.Address)
		}
		if i > 0 && s.Nodes[i-1].ID == node.ID {
			return violation("SM5", "node %s is registered twice", node.ID.Short())
		}
	}
	return nil
}
