package shardmap

import (
	"cmp"
	"slices"
)

// Map is the shard map at one epoch: who owns which slots and where. It is
// immutable and safe for concurrent use. A nil *Map answers as an empty one.
type Map struct {
	spec   MapSpec              // records by arc, nodes by id
	owners *[int(SlotEnd)]owner // by slot
	shards map[ShardID]owner
	nodes  map[NodeID]int
}

// MapSpec is what a Map is made of.
type MapSpec struct {
	Epoch             uint64 // version of the last change; 0 only before there was any
	ClusterID         string
	ReplicationFactor int // wanted voters per shard; 0 while unknown
	Records           []Record
	Nodes             []Node
}

// owner is an index into the records, plus one: zero means nobody.
type owner uint16

// NewMap returns the map of a spec, or a *Violation that names the invariant it
// breaks (SM1 to SM5). The spec is copied and may be changed afterwards.
func NewMap(spec MapSpec) (*Map, error) {
	spec = spec.clone()
	slices.SortFunc(spec.Records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Arc.From, b.Arc.From), cmp.Compare(a.Shard, b.Shard))
	})
	slices.SortFunc(spec.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	if err := spec.check(); err != nil {
		return nil, err
	}
	m := &Map{
		spec:   spec,
		owners: new([int(SlotEnd)]owner),
		shards: make(map[ShardID]owner, len(spec.Records)),
		nodes:  make(map[NodeID]int, len(spec.Nodes)),
	}
	for i, rec := range spec.Records {
		o := owner(i + 1)
		m.shards[rec.Shard] = o
		for s := rec.Arc.From; s < rec.Arc.To; s++ {
			m.owners[s] = o
		}
	}
	for i, node := range spec.Nodes {
		m.nodes[node.ID] = i
	}
	return m, nil
}

// clone copies everything that NewMap or a change may write to.
func (s MapSpec) clone() MapSpec {
	s.Records = slices.Clone(s.Records)
	for i := range s.Records {
		s.Records[i] = s.Records[i].Clone()
	}
	s.Nodes = slices.Clone(s.Nodes)
	return s
}

// Epoch is the version of the map's last change; 0 for an empty map.
func (m *Map) Epoch() uint64 {
	if m == nil {
		return 0
	}
	return m.spec.Epoch
}

// ClusterID is the cluster's identity; empty for an empty map.
func (m *Map) ClusterID() string {
	if m == nil {
		return ""
	}
	return m.spec.ClusterID
}

// ReplicationFactor is the number of voters each shard should have.
func (m *Map) ReplicationFactor() int {
	if m == nil {
		return 0
	}
	return m.spec.ReplicationFactor
}

// Lookup returns the record of the shard that owns a slot, in constant time.
// The record's replicas are shared: read only.
func (m *Map) Lookup(s Slot) (Record, bool) {
	if m == nil || s >= SlotEnd {
		return Record{}, false
	}
	return m.record(m.owners[s])
}

// Shard returns a shard's record. Its replicas are shared: read only.
func (m *Map) Shard(id ShardID) (Record, bool) {
	if m == nil {
		return Record{}, false
	}
	return m.record(m.shards[id])
}

func (m *Map) record(o owner) (Record, bool) {
	if o == 0 {
		return Record{}, false
	}
	return m.spec.Records[o-1], true
}

// Records returns all records by arc, the system shard last. Shared: read only.
func (m *Map) Records() []Record {
	if m == nil {
		return nil
	}
	return m.spec.Records
}

// Nodes returns the node registry by id. Shared: read only.
func (m *Map) Nodes() []Node {
	if m == nil {
		return nil
	}
	return m.spec.Nodes
}

// Node returns a node of the registry.
func (m *Map) Node(id NodeID) (Node, bool) {
	if m == nil {
		return Node{}, false
	}
	i, ok := m.nodes[id]
	if !ok {
		return Node{}, false
	}
	return m.spec.Nodes[i], true
}

// Complete reports whether every slot that a key can hash to has an owner. A
// map is not complete while its cluster is forming.
func (m *Map) Complete() bool {
	if m == nil {
		return false
	}
	return !slices.Contains(m.owners[:Slots], 0)
}
