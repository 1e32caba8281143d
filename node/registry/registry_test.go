package registry

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func plan(nodes, shards, rf int) *peerv1.Plan {
	p := &peerv1.Plan{
		Format: 1, ClusterId: "c1", ReplicationFactor: uint32(rf), Shards: uint32(shards), NextReplica: uint64(rf + 1),
	}
	system := shardmap.Record{Shard: shardmap.SystemShard, Arc: shardmap.SystemArc, ArcEpoch: 1, MemberEpoch: 1}
	for i := range nodes {
		id := shardmap.NodeID(fmt.Sprintf("%040x", i+1))
		n := shardmap.Node{ID: id, Name: fmt.Sprintf("n%d", i+1), Address: fmt.Sprintf("h%d:1", i+1)}
		p.Nodes = append(p.Nodes, wire.NodeToProto(n))
		if i < rf {
			system.Replicas = append(system.Replicas, shardmap.Replica{ID: shardmap.ReplicaID(i + 1), Node: n.ID, Role: shardmap.Voter})
		}
	}
	p.System = wire.RecordToProto(system)
	return p
}

// shard is a fake system shard: entries by key with the version of their write.
type shard map[string]Entry

// scan gives entry i of the sorted keys version 100+i.
func (s shard) scan(fn func(k, v []byte, version uint64) error) error {
	keys := make([]string, 0, len(s))
	for k := range s {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if err := fn([]byte(k), s[k].Value, uint64(100+i)); err != nil {
			return err
		}
	}
	return nil
}

func put(s shard, entries ...Entry) shard {
	for _, e := range entries {
		s[string(e.Key)] = e
	}
	return s
}

func TestFoundingMakesACompleteMap(t *testing.T) {
	for _, c := range []struct{ nodes, shards, rf int }{{1, 1, 1}, {3, 12, 3}, {5, 24, 3}, {7, 100, 5}} {
		p := plan(c.nodes, c.shards, c.rf)
		entries, err := Founding(p)
		if err != nil {
			t.Fatal(err)
		}
		s := put(shard{}, entries...)
		if len(s) != len(entries) {
			t.Fatal("a key is written twice")
		}
		m, err := Build(s.scan)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Complete() || len(m.Records()) != c.shards+1 || len(m.Nodes()) != c.nodes || m.ClusterID() != "c1" ||
			m.ReplicationFactor() != c.rf || m.Epoch() != uint64(100+len(s)-1) {
			t.Fatalf("%+v: complete %v, %d records, %d nodes, epoch %d", c, m.Complete(), len(m.Records()), len(m.Nodes()), m.Epoch())
		}
		var highest shardmap.ReplicaID
		for _, rec := range m.Records() {
			if len(rec.Replicas) != c.rf || rec.MemberEpoch != 1 || rec.ArcEpoch != 1 {
				t.Fatalf("record %+v", rec)
			}
			for _, r := range rec.Replicas {
				highest = max(highest, r.ID)
			}
		}
		var formed peerv1.Plan
		if err := decode(clusterKey, s[clusterKey].Value, &formed); err != nil || formed.GetNextReplica() != uint64(highest)+1 {
			t.Fatalf("next replica %d after %d, %v", formed.GetNextReplica(), highest, err)
		}
	}
}

func TestREG2FoundingDependsOnThePlanAlone(t *testing.T) {
	first, err := Founding(plan(5, 24, 3))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(plan(5, 24, 3))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var p peerv1.Plan
		if err := proto.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		again, err := Founding(&p)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(first, again, func(a, b Entry) bool {
			return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
		}) {
			t.Fatal("another leader would write something else")
		}
	}
}

func TestREG3NoMapBeforeTheClusterEntry(t *testing.T) {
	entries, err := Founding(plan(3, 4, 3))
	if err != nil {
		t.Fatal(err)
	}
	if last := entries[len(entries)-1]; string(last.Key) != clusterKey {
		t.Fatalf("%s is written last", last.Key)
	}
	for n := range entries {
		m, err := Build(put(shard{}, entries[:n]...).scan)
		if m != nil || err != nil {
			t.Fatalf("a map out of %d of %d entries: %v", n, len(entries), err)
		}
	}
}

func TestREG1EpochRisesWithEveryChange(t *testing.T) {
	entries, err := Founding(plan(3, 4, 3))
	if err != nil {
		t.Fatal(err)
	}
	s := put(shard{}, entries...)
	before, err := Build(s.scan)
	if err != nil {
		t.Fatal(err)
	}
	moved := before.Nodes()[0]
	moved.Address = "elsewhere:1"
	put(s, NodeEntry(moved))
	after, err := Build(func(fn func(k, v []byte, version uint64) error) error {
		return s.scan(func(k, v []byte, version uint64) error {
			if string(k) == string(NodeEntry(moved).Key) {
				version = 5000
			}
			return fn(k, v, version)
		})
	})
	if err != nil || after.Epoch() != 5000 {
		t.Fatalf("epoch %d, %v", after.Epoch(), err)
	}
	if n, _ := after.Node(moved.ID); n.Address != "elsewhere:1" {
		t.Fatalf("node %+v", n)
	}
}

func TestUnknownKeysAndFormats(t *testing.T) {
	entries, err := Founding(plan(3, 4, 3))
	if err != nil {
		t.Fatal(err)
	}
	s := put(shard{}, entries...)
	put(s, Entry{Key: []byte("user/alice"), Value: []byte{9}})
	if _, err := Build(s.scan); err != nil {
		t.Fatalf("a key of a later version: %v", err)
	}
	for _, value := range [][]byte{nil, {2}, {1, 0xff}} {
		put(s, Entry{Key: []byte("node/x"), Value: value})
		if _, err := Build(s.scan); !errors.Is(err, kverr.Format) {
			t.Errorf("value %v: %v", value, err)
		}
	}
	delete(s, "node/x")
	two := s["shard/2"]
	put(s, Entry{Key: []byte("shard/77"), Value: two.Value})
	if _, err := Build(s.scan); !errors.Is(err, kverr.Internal) || !strings.Contains(err.Error(), "SM") {
		t.Errorf("two records of one arc: %v", err)
	}
}

func FuzzBuild(f *testing.F) {
	entries, err := Founding(plan(3, 1, 3))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add(string(e.Key), e.Value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s := put(shard{}, entries...)
		put(s, Entry{Key: []byte(key), Value: value})
		m, err := Build(s.scan)
		if (m == nil) == (err == nil) {
			t.Fatalf("%v, %v", m, err)
		}
	})
}
