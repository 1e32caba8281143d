package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func id(c string) shardmap.NodeID { return shardmap.NodeID(strings.Repeat(c, 40)) }

var (
	sampleSystem = shardmap.Record{
		Shard: shardmap.SystemShard, Arc: shardmap.SystemArc, ArcEpoch: 1, MemberEpoch: 4,
		Replicas: []shardmap.Replica{{ID: 1, Node: id("a"), Role: shardmap.Voter}},
	}
	sampleRecord = shardmap.Record{
		Shard: 7, Arc: shardmap.Arc{From: 100, To: 16384}, ArcEpoch: 3, MemberEpoch: 9,
		Replicas: []shardmap.Replica{
			{ID: 21, Node: id("a"), Role: shardmap.Voter},
			{ID: 22, Node: id("b"), Role: shardmap.Learner},
		},
	}
	sampleNodes = []shardmap.Node{
		{ID: id("a"), Name: "n1", Address: "127.0.0.1:7001", Gossip: "127.0.0.1:7101", Zone: "east"},
		{ID: id("b"), Name: "n2", Address: "[::1]:7002", Gossip: "[::1]:7102"},
	}
)

func sampleMap(t testing.TB) *shardmap.Map {
	m, err := shardmap.NewMap(shardmap.MapSpec{
		Epoch: 1 << 52, ClusterID: "c-1", ReplicationFactor: 3,
		Records: []shardmap.Record{sampleSystem, sampleRecord}, Nodes: sampleNodes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestRoundTrips(t *testing.T) {
	for _, rec := range []shardmap.Record{sampleSystem, sampleRecord} {
		if got, err := RecordFromProto(RecordToProto(rec)); err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("record %+v came back as %+v, %v", rec, got, err)
		}
	}
	for _, node := range sampleNodes {
		if got, err := NodeFromProto(NodeToProto(node)); err != nil || got != node {
			t.Errorf("node %+v came back as %+v, %v", node, got, err)
		}
	}
	hint := shardmap.LeaderHint{Shard: 7, Term: 12, Node: id("b")}
	if got, err := HintFromProto(HintToProto(hint)); err != nil || got != hint {
		t.Errorf("hint %+v came back as %+v, %v", hint, got, err)
	}
	m := sampleMap(t)
	if got, err := MapFromProto(MapToProto(m)); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("map came back as %+v, %v", got, err)
	}
	if MapToProto(nil) != nil {
		t.Error("a nil map has a message")
	}
}

func TestRecordRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, shardmap.Slots-1).Draw(t, "from")
		rec := shardmap.Record{
			Shard:       shardmap.ShardID(rapid.Uint64Min(1).Draw(t, "shard")),
			Arc:         shardmap.Arc{From: shardmap.Slot(from), To: shardmap.Slot(rapid.IntRange(from+1, shardmap.Slots).Draw(t, "to"))},
			ArcEpoch:    rapid.Uint64().Draw(t, "arc epoch"),
			MemberEpoch: rapid.Uint64().Draw(t, "member epoch"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "replicas") {
			rec.Replicas = append(rec.Replicas, shardmap.Replica{
				ID:   shardmap.ReplicaID(rapid.Uint64Min(1).Draw(t, "id")),
				Node: shardmap.NodeID(rapid.StringMatching(`[0-9a-f]{40}`).Draw(t, "node")),
				Role: rapid.SampledFrom([]shardmap.Role{shardmap.Voter, shardmap.Learner}).Draw(t, "role"),
			})
		}
		if got, err := RecordFromProto(RecordToProto(rec)); err != nil || !reflect.DeepEqual(got, rec) {
			t.Fatalf("record %+v came back as %+v, %v", rec, got, err)
		}
	})
}

// Every way to spoil a message is refused with kind Invalid and a text that
// names what is wrong.
func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*kvv1.ShardMap)
		names string
	}{
		{"no record", func(m *kvv1.ShardMap) { m.Shards[0] = nil }, "record is missing"},
		{"shard id 0", func(m *kvv1.ShardMap) { m.Shards[0].Shard = 0 }, "shard id 0"},
		{"no arc", func(m *kvv1.ShardMap) { m.Shards[0].Arc = nil }, "[0,0)"},
		{"empty arc", func(m *kvv1.ShardMap) { m.Shards[0].Arc.To = 100 }, "[100,100)"},
		{"backward arc", func(m *kvv1.ShardMap) { m.Shards[0].Arc.To = 99 }, "[100,99)"},
		{"arc off the ring", func(m *kvv1.ShardMap) { m.Shards[1].Arc.To = 16386 }, "[16384,16386)"},
		{"arc that would wrap 16 bits", func(m *kvv1.ShardMap) { m.Shards[0].Arc.To = 65536 + 200 }, "off the ring"},
		{"arc start that would wrap", func(m *kvv1.ShardMap) { m.Shards[0].Arc = &kvv1.Arc{From: 65536, To: 65537} }, "off the ring"},
		{"no replica", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0] = nil }, "replica id 0"},
		{"no role", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].Role = 0 }, "unknown role 0"},
		{"new role", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].Role = 3 }, "unknown role 3"},
		{"role that would wrap", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].Role = 257 }, "unknown role 257"},
		{"negative role", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].Role = -255 }, "unknown role -255"},
		{"no node id", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].NodeId = "" }, "node id"},
		{"short node id", func(m *kvv1.ShardMap) { m.Shards[0].Replicas[0].NodeId = "n1" }, `"n1"`},
		{"upper-case node id", func(m *kvv1.ShardMap) { m.Nodes[0].Id = strings.Repeat("A", 40) }, "lower-case"},
		{"no node", func(m *kvv1.ShardMap) { m.Nodes[1] = nil }, "node id"},
		{"endless name", func(m *kvv1.ShardMap) { m.Nodes[0].Name = strings.Repeat("n", 301) }, "301 bytes"},
		{"line break in address", func(m *kvv1.ShardMap) { m.Nodes[0].Address = "a\nb" }, "control"},
		{"escape in zone", func(m *kvv1.ShardMap) { m.Nodes[0].Zone = "\x1b[2J" }, "control"},
		{"endless gossip address", func(m *kvv1.ShardMap) { m.Nodes[0].GossipAddress = strings.Repeat("n", 301) }, "gossip"},
		{"endless cluster id", func(m *kvv1.ShardMap) { m.ClusterId = strings.Repeat("n", 301) }, "cluster id"},
		{"mad replication factor", func(m *kvv1.ShardMap) { m.ReplicationFactor = 1 << 31 }, "replication factor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pb := MapToProto(sampleMap(t))
			tc.spoil(pb)
			m, err := MapFromProto(pb)
			if m != nil || kverr.KindOf(err) != kverr.Invalid {
				t.Fatalf("got map %v and error %v", m, err)
			}
			if !strings.Contains(err.Error(), tc.names) {
				t.Errorf("error %q does not mention %q", err, tc.names)
			}
		})
	}
}

func TestMapFromProtoChecksInvariants(t *testing.T) {
	pb := MapToProto(sampleMap(t))
	pb.Shards[0].Replicas[1].NodeId = pb.Shards[0].Replicas[0].NodeId
	_, err := MapFromProto(pb)
	var v *shardmap.Violation
	if kverr.KindOf(err) != kverr.Invalid || !errors.As(err, &v) || v.ID != "SM4" {
		t.Fatalf("two replicas on one node: %v", err)
	}
	if _, err := MapFromProto(nil); kverr.KindOf(err) != kverr.Invalid {
		t.Errorf("no map at all: %v", err)
	}
	if _, err := HintFromProto(nil); kverr.KindOf(err) != kverr.Invalid {
		t.Errorf("no hint at all: %v", err)
	}
	if _, err := HintFromProto(&kvv1.LeaderHint{Shard: 2, NodeId: "x"}); kverr.KindOf(err) != kverr.Invalid {
		t.Errorf("hint with a bad node: %v", err)
	}
}

// What is accepted comes back the same; nothing panics.

func FuzzMapFromProto(f *testing.F) {
	seed, err := proto.Marshal(MapToProto(sampleMap(f)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb kvv1.ShardMap
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		m, err := MapFromProto(&pb)
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if again, err := MapFromProto(MapToProto(m)); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v came back as %+v, %v", m, again, err)
		}
	})
}

func FuzzRecordFromProto(f *testing.F) {
	seed, err := proto.Marshal(RecordToProto(sampleRecord))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb kvv1.ShardRecord
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		rec, err := RecordFromProto(&pb)
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if again, err := RecordFromProto(RecordToProto(rec)); err != nil || !reflect.DeepEqual(again, rec) {
			t.Fatalf("%+v came back as %+v, %v", rec, again, err)
		}
	})
}

func FuzzNodeFromProto(f *testing.F) {
	seed, err := proto.Marshal(NodeToProto(sampleNodes[0]))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb kvv1.NodeInfo
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		node, err := NodeFromProto(&pb)
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if again, err := NodeFromProto(NodeToProto(node)); err != nil || again != node {
			t.Fatalf("%+v came back as %+v, %v", node, again, err)
		}
	})
}

func FuzzHintFromProto(f *testing.F) {
	seed, err := proto.Marshal(HintToProto(shardmap.LeaderHint{Shard: 7, Term: 12, Node: id("b")}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var pb kvv1.LeaderHint
		if proto.Unmarshal(data, &pb) != nil {
			return
		}
		hint, err := HintFromProto(&pb)
		if err != nil {
			mustBeInvalid(t, err)
			return
		}
		if again, err := HintFromProto(HintToProto(hint)); err != nil || again != hint {
			t.Fatalf("%+v came back as %+v, %v", hint, again, err)
		}
	})
}

func mustBeInvalid(t *testing.T, err error) {
	t.Helper()
	if kverr.KindOf(err) != kverr.Invalid {
		t.Fatalf("refused with kind %v: %v", kverr.KindOf(err), err)
	}
}
