package shardmap

import "fmt"

// Slot is a position on the hash ring.
type Slot uint16

// The ring. Keys hash to [0, Slots); the extra slot SystemSlot belongs to the
// system shard and no key hashes to it.
const (
	Slots      = 16384
	SystemSlot = Slot(Slots)
	SlotEnd    = SystemSlot + 1 // one past the last slot of the whole ring
)

// ShardID names a shard and its Raft group for ever.
type ShardID uint64

// SystemShard is the shard that owns SystemSlot. Data shards count from 2.
const SystemShard ShardID = 1

// ReplicaID names one replica of one shard; ids are never used again.
type ReplicaID uint64

// NodeID names a node: 40 lower-case hex digits, random, kept in its data
// directory.
type NodeID string

// Valid reports whether the id has the form of one.
func (n NodeID) Valid() bool {
	if len(n) != 40 {
		return false
	}
	for i := range len(n) {
		if c := n[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Short is the form for people.
func (n NodeID) Short() string {
	if len(n) > 8 {
		return string(n[:8])
	}
	return string(n)
}

// Arc is the run of slots [From, To). It never wraps and is never empty.
type Arc struct{ From, To Slot }

// SystemArc is the arc of the system shard.
var SystemArc = Arc{From: SystemSlot, To: SlotEnd}

// Contains reports whether s lies in the arc.
func (a Arc) Contains(s Slot) bool { return a.From <= s && s < a.To }

// Overlaps reports whether the arcs share a slot.
func (a Arc) Overlaps(b Arc) bool { return a.From < b.To && b.From < a.To }

// Valid reports whether the arc is non-empty and on the ring.
func (a Arc) Valid() bool { return a.From < a.To && a.To <= SlotEnd }

// Len is the number of slots.
func (a Arc) Len() int { return int(a.To) - int(a.From) }

func (a Arc) String() string { return fmt.Sprintf("[%d,%d)", a.From, a.To) }

// Role is a replica's part in its group.
type Role uint8

// The roles. Numbers are those of kv.v1.Role.
const (
	Voter   Role = 1
	Learner Role = 2
)

func (r Role) String() string {
	switch r {
	case Voter:
		return "voter"
	case Learner:
		return "learner"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// Replica is one member of a group.
type Replica struct {
	ID   ReplicaID
	Node NodeID
	Role Role
}

// Record is a shard's own, replicated statement of its arc and members. Values
// are not changed after they are shared: copy with Clone.
type Record struct {
	Shard       ShardID
	Arc         Arc
	ArcEpoch    uint64 // rises with every change of Arc
	MemberEpoch uint64 // rises with every change of Replicas
	Replicas    []Replica
}

// Clone returns a deep copy.
func (r Record) Clone() Record {
	r.Replicas = append([]Replica(nil), r.Replicas...)
	return r
}

// On returns the replica that the record places on a node.
func (r Record) On(node NodeID) (Replica, bool) {
	for _, m := range r.Replicas {
		if m.Node == node {
			return m, true
		}
	}
	return Replica{}, false
}

// LeaderHint says who led a shard in a term, as somebody saw it. The highest
// term wins. It is a hint: only the leader's own confirm round decides.
type LeaderHint struct {
	Shard ShardID
	Term  uint64
	Node  NodeID
}

// Node is an entry of the node registry.
type Node struct {
	ID      NodeID
	Name    string // for people, unique where possible: n1, n2, …
	Address string // host:port of its gRPC listener
	Gossip  string // host:port of its gossip listener
	Zone    string // failure domain; empty when there is only one
}
