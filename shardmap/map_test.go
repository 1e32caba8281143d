package shardmap

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func nodeID(n int) NodeID { return NodeID(fmt.Sprintf("%040x", n)) }

func record(shard ShardID, from, to Slot, nodes ...int) Record {
	rec := Record{Shard: shard, Arc: Arc{from, to}, ArcEpoch: 1, MemberEpoch: 1}
	for i, n := range nodes {
		rec.Replicas = append(rec.Replicas, Replica{ID: ReplicaID(10*int(shard) + i), Node: nodeID(n), Role: Voter})
	}
	return rec
}

func sampleSpec() MapSpec {
	return MapSpec{
		Epoch: 100, ClusterID: "c", ReplicationFactor: 3,
		Records: []Record{
			record(SystemShard, SystemSlot, SlotEnd, 1, 2, 3),
			record(3, 8000, 16384, 2, 3, 4),
			record(2, 0, 8000, 1, 2, 3),
		},
		Nodes: []Node{{ID: nodeID(2), Name: "n2"}, {ID: nodeID(1), Name: "n1"}, {ID: nodeID(3)}, {ID: nodeID(4)}},
	}
}

func mustMap(t testing.TB, spec MapSpec) *Map {
	t.Helper()
	m, err := NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMapAnswers(t *testing.T) {
	spec := sampleSpec()
	m := mustMap(t, spec)
	if m.Epoch() != 100 || m.ClusterID() != "c" || m.ReplicationFactor() != 3 || !m.Complete() {
		t.Errorf("epoch %d, cluster %q, factor %d, complete %v", m.Epoch(), m.ClusterID(), m.ReplicationFactor(), m.Complete())
	}
	for slot, want := range map[Slot]ShardID{0: 2, 7999: 2, 8000: 3, 16383: 3, SystemSlot: SystemShard} {
		if rec, ok := m.Lookup(slot); !ok || rec.Shard != want {
			t.Errorf("slot %d belongs to shard %d, %v; want %d", slot, rec.Shard, ok, want)
		}
	}
	if _, ok := m.Lookup(SlotEnd); ok {
		t.Error("a slot off the ring has an owner")
	}
	var order []ShardID
	for _, rec := range m.Records() {
		order = append(order, rec.Shard)
		if got, ok := m.Shard(rec.Shard); !ok || got.Shard != rec.Shard {
			t.Errorf("shard %d is not found", rec.Shard)
		}
	}
	if want := []ShardID{2, 3, 1}; !reflect.DeepEqual(order, want) {
		t.Errorf("records in the order %v, want %v", order, want)
	}
	if _, ok := m.Shard(9); ok {
		t.Error("a shard that is not there is found")
	}
	if n, ok := m.Node(nodeID(2)); !ok || n.Name != "n2" || m.Nodes()[0].Name != "n1" {
		t.Errorf("node 2 is %v, %v; the first is %v", n, ok, m.Nodes()[0])
	}
	if _, ok := m.Node(nodeID(9)); ok {
		t.Error("a node that is not there is found")
	}
	for i := range spec.Records {
		spec.Records[i].Replicas[0].Node = nodeID(77)
	}
	if rec, _ := m.Shard(2); rec.Replicas[0].Node != nodeID(1) {
		t.Error("the map shares memory with its spec")
	}
	if spec.Nodes[0].Name != "n2" {
		t.Error("NewMap has sorted its argument")
	}
}

func TestNilMapIsEmpty(t *testing.T) {
	var m *Map
	_, slot := m.Lookup(0)
	_, shard := m.Shard(1)
	_, node := m.Node("")
	if slot || shard || node || m.Epoch() != 0 || m.ClusterID() != "" || m.ReplicationFactor() != 0 ||
		m.Records() != nil || m.Nodes() != nil || m.Complete() {
		t.Error("a nil map is not empty")
	}
	got, err := m.WithRecords(1, record(SystemShard, SystemSlot, SlotEnd, 1))
	if err != nil || got.Epoch() != 1 || got.Complete() {
		t.Errorf("the first record on a nil map: %v, %v", got, err)
	}
}

func TestSM1_SM5_InvariantsOfMaps(t *testing.T) {
	for _, tc := range []struct {
		id, name string
		spoil    func(*MapSpec)
	}{
		{"SM1", "empty arc", func(s *MapSpec) { s.Records[1].Arc.To = 8000 }},
		{"SM1", "backward arc", func(s *MapSpec) { s.Records[1].Arc.To = 7 }},
		{"SM1", "arc off the ring", func(s *MapSpec) { s.Records[0].Arc = Arc{SystemSlot, SlotEnd + 1} }},
		{"SM1", "system arc for a data shard", func(s *MapSpec) { s.Records[0].Shard = 9 }},
		{"SM1", "data arc for the system shard", func(s *MapSpec) { s.Records = s.Records[1:]; s.Records[0].Shard = SystemShard }},
		{"SM1", "data arc over the system slot", func(s *MapSpec) { s.Records = s.Records[1:]; s.Records[0].Arc.To = SlotEnd }},
		{"SM1", "system shard owns more", func(s *MapSpec) { s.Records = s.Records[:1]; s.Records[0].Arc.From = 16000 }},
		{"SM2", "one slot shared", func(s *MapSpec) { s.Records[2].Arc.To = 8001 }},
		{"SM2", "one arc inside another", func(s *MapSpec) { s.Records[1].Arc = Arc{100, 200} }},
		{"SM2", "the same arc twice", func(s *MapSpec) { s.Records[1].Arc = s.Records[2].Arc }},
		{"SM3", "shard id 0", func(s *MapSpec) { s.Records[1].Shard = 0 }},
		{"SM3", "shard id twice", func(s *MapSpec) { s.Records[1].Shard = 2 }},
		{"SM3", "replica id 0", func(s *MapSpec) { s.Records[1].Replicas[2].ID = 0 }},
		{"SM3", "replica id twice in a shard", func(s *MapSpec) { s.Records[1].Replicas[2].ID = s.Records[1].Replicas[0].ID }},
		{"SM3", "replica id in two shards", func(s *MapSpec) { s.Records[1].Replicas[2].ID = s.Records[2].Replicas[0].ID }},
		{"SM4", "two replicas on a node", func(s *MapSpec) { s.Records[1].Replicas[2].Node = nodeID(2) }},
		{"SM4", "replica without node", func(s *MapSpec) { s.Records[1].Replicas[2].Node = "" }},
		{"SM4", "replica without role", func(s *MapSpec) { s.Records[1].Replicas[2].Role = 0 }},
		{"SM4", "unknown role", func(s *MapSpec) { s.Records[1].Replicas[2].Role = 3 }},
		{"SM5", "node without id", func(s *MapSpec) { s.Nodes[0].ID = "" }},
		{"SM5", "node twice", func(s *MapSpec) { s.Nodes[0].ID = nodeID(1) }},
		{"SM5", "negative replication factor", func(s *MapSpec) { s.ReplicationFactor = -1 }},
	} {
		t.Run(tc.id+" "+tc.name, func(t *testing.T) {
			spec := sampleSpec()
			tc.spoil(&spec)
			m, err := NewMap(spec)
			var v *Violation
			if m != nil || !errors.As(err, &v) || v.ID != tc.id {
				t.Fatalf("map %v, error %v; want a violation of %s", m, err, tc.id)
			}
			if !strings.Contains(err.Error(), tc.id) {
				t.Errorf("error %q does not name %s", err, tc.id)
			}
		})
	}
}

func TestPartialMapIsSound(t *testing.T) {
	spec := sampleSpec()
	spec.Records = spec.Records[:2] // forming: [0,8000) is nobody's yet
	m := mustMap(t, spec)
	if _, ok := m.Lookup(7999); ok || m.Complete() {
		t.Errorf("slot 7999 owned %v, complete %v", ok, m.Complete())
	}
}

// Against a twin that scans.
func TestLookupAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spec MapSpec
		at := Slot(0)
		for shard := ShardID(2); at < Slots; shard++ {
			from := at + Slot(rapid.IntRange(0, 3).Draw(t, "gap"))
			to := from + Slot(rapid.IntRange(1, 4000).Draw(t, "length"))
			if to > Slots {
				break
			}
			spec.Records = append(spec.Records, record(shard, from, to, 1, 2))
			at = to
		}
		m, err := NewMap(spec)
		if err != nil {
			t.Fatal(err)
		}
		covered := 0
		for s := Slot(0); s <= SlotEnd; s++ {
			var want ShardID
			for _, rec := range spec.Records {
				if rec.Arc.Contains(s) {
					want = rec.Shard
				}
			}
			if got, ok := m.Lookup(s); got.Shard != want || ok != (want != 0) {
				t.Fatalf("slot %d: shard %d, twin says %d", s, got.Shard, want)
			}
			if want != 0 {
				covered++
			}
		}
		if m.Complete() != (covered == Slots) {
			t.Fatalf("complete %v with %d slots", m.Complete(), covered)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	arcs := Arcs(512)
	spec := MapSpec{}
	for i, arc := range arcs {
		spec.Records = append(spec.Records, record(ShardID(i+2), arc.From, arc.To, 1, 2, 3))
	}
	m := mustMap(b, spec)
	slot := Slot(0)
	for b.Loop() {
		if _, ok := m.Lookup(slot); !ok {
			b.Fatal("nobody")
		}
		slot = (slot + 4099) % Slots
	}
}

func BenchmarkNewMap(b *testing.B) {
	spec := MapSpec{}
	for i, arc := range Arcs(512) {
		spec.Records = append(spec.Records, record(ShardID(i+2), arc.From, arc.To, 1, 2, 3))
	}
	for b.Loop() {
		mustMap(b, spec)
	}
}
