package client

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// FuzzServerFrame gives a client whatever a server could say. It must survive,
// and afterwards still know at most one route per slot that it could really take.
func FuzzServerFrame(f *testing.F) {
	rec := shardmap.Record{
		Shard: 2, Arc: shardmap.Arc{From: 0, To: shardmap.Slots}, ArcEpoch: 1, MemberEpoch: 1,
		Replicas: []shardmap.Replica{{ID: 1, Node: nodeID(1), Role: shardmap.Voter}},
	}
	m, err := shardmap.NewMap(shardmap.MapSpec{
		Epoch: 1, ClusterID: "test", ReplicationFactor: 1,
		Records: []shardmap.Record{rec}, Nodes: []shardmap.Node{{ID: nodeID(1), Address: "n1:1"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	half := rec.Clone()
	half.Arc.From, half.ArcEpoch, half.Shard = 8000, 2, 3
	for _, frame := range []*kvv1.ServerFrame{
		{},
		{Map: wire.MapToProto(m), GoingAway: true, Leaders: []*kvv1.LeaderHint{{Shard: 2, Term: 1, NodeId: string(nodeID(1))}}},
		{Answers: []*kvv1.Answer{{Id: 1, Error: &kvv1.Error{Kind: 2}, Record: wire.RecordToProto(half),
			Leader: &kvv1.LeaderHint{Shard: 3, Term: 9, NodeId: string(nodeID(1))}}, {Id: 2, Version: 1 << 63}}},
	} {
		b, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame kvv1.ServerFrame
		if proto.Unmarshal(b, &frame) != nil {
			return
		}
		c, err := Open(context.Background(), "n1:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		n := c.topology.seeds[0]
		if err := c.topology.welcome(n, nodeID(1), "test"); err != nil {
			t.Fatal(err)
		}
		c.topology.adoptMap(wire.MapToProto(m))
		n.receive(&frame)
		for s := range shardmap.Slot(shardmap.Slots) {
			if r := c.topology.lookup(s); r != nil && !r.record.Arc.Contains(s) {
				t.Fatalf("slot %d follows a record of %v", s, r.record.Arc)
			}
		}
		var one call
		one.fill(c, verbGet, "a", nil)
		c.topology.pick(&one, c.now())
	})
}
