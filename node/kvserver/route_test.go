package kvserver

import (
	"testing"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// TestRouting: what a node says about an operation that may not be its own.
// "foo" is in the upper shard (3), "bar" in the lower one (2).
func TestRouting(t *testing.T) {
	type want struct {
		kind   kverr.Kind
		record shardmap.ShardID // 0: none
		leader int              // node number; 0: none
	}
	served := want{kind: kverr.None}
	remote := shardmap.LeaderHint{Shard: 3, Term: 9, Node: nodeID(3)}
	for _, tt := range []struct {
		name  string
		setup func(*env)
		op    *kvv1.Operation
		want  want
	}{
		{"unrouted, local", nil, get(1, "foo"), served},
		{"routed, local", nil, routed(get(1, "foo"), 3, 5), served},
		{"routed by an older arc that still holds", nil, routed(get(1, "foo"), 3, 2), served},
		{"routed to the wrong shard", nil, routed(get(1, "foo"), 2, 5), want{kverr.WrongShard, 3, 1}},
		{"routed by an older arc to the wrong shard", nil, routed(get(1, "foo"), 2, 1), want{kverr.WrongShard, 3, 1}},
		{"routed by a newer arc than was applied here", nil, routed(get(1, "foo"), 2, 6), served},
		{"unknown shard", nil, routed(get(1, "foo"), 77, 1), want{kverr.WrongShard, 3, 1}},
		{"system shard", nil, routed(get(1, "foo"), 1, 1), want{kverr.WrongShard, 3, 1}},
		{"routed, no replica here", func(e *env) { e.drop(3) }, routed(get(1, "foo"), 3, 5), want{kverr.NotLeader, 3, 0}},
		{"routed, no replica here, leader known",
			func(e *env) { e.drop(3); e.server.PushLeader(remote) }, routed(get(1, "foo"), 3, 5), want{kverr.NotLeader, 3, 3}},
		{"unrouted, no replica here, leader known",
			func(e *env) { e.drop(3); e.server.PushLeader(remote) }, get(1, "foo"), want{kverr.NotLeader, 3, 3}},
		{"wrong shard, neither here", func(e *env) { e.drop(2, 3) }, routed(get(1, "foo"), 2, 5), want{kverr.WrongShard, 3, 0}},
		{"not leader here", func(e *env) {
			e.upper.refuseAll(kverr.New(kverr.NotLeader, "n2 leads"))
			e.upper.set(func() { e.upper.leader = shardmap.LeaderHint{Shard: 3, Term: 8, Node: nodeID(2)} })
		}, get(1, "foo"), want{kverr.NotLeader, 3, 2}},
		{"no map, no replica", func(e *env) { e.drop(2, 3); e.setMap(nil) }, get(1, "foo"), want{kverr.Unavailable, 0, 0}},
		{"routed, no map, no replica", func(e *env) { e.drop(2, 3); e.setMap(nil) },
			routed(get(1, "foo"), 3, 5), want{kverr.WrongShard, 0, 0}},
		{"split here, the map has not heard", func(e *env) {
			e.upper.set(func() {
				e.upper.record.Arc, e.upper.record.ArcEpoch = shardmap.Arc{From: 8192, To: 9000}, 6
			})
		}, routed(get(1, "foo"), 3, 5), want{kverr.WrongShard, 3, 1}},
		{"split here, the child is here", func(e *env) {
			e.upper.set(func() {
				e.upper.record.Arc, e.upper.record.ArcEpoch = shardmap.Arc{From: 8192, To: 9000}, 6
			})
			child := newFakeGroup(shardmap.Record{Shard: 4, Arc: shardmap.Arc{From: 9000, To: 16384}, ArcEpoch: 1, MemberEpoch: 1})
			e.shards.groups[4] = child
		}, routed(get(1, "foo"), 3, 5), want{kverr.WrongShard, 4, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, nil, func(e *env) {
				if tt.setup != nil {
					tt.setup(e)
				}
				c := e.open()
				a := c.do(tt.op, put(2, "unrelated{bar}", ""))
				wantKind(t, a[1], tt.want.kind, "")
				if got := shardmap.ShardID(a[1].Record.GetShard()); got != tt.want.record {
					t.Errorf("record of shard %d, want %d", got, tt.want.record)
				}
				leader := ""
				if tt.want.leader > 0 {
					leader = string(nodeID(tt.want.leader))
				}
				if got := a[1].Leader.GetNodeId(); got != leader {
					t.Errorf("leader %q, want %q", got, leader)
				}
				if local := e.shards.groups[2] != nil; local {
					wantKind(t, a[2], kverr.None, "")
				}
			})
		})
	}
}

// TestSplitGivesTheNewerRecord: of a shard's two records the newer one is told.
func TestSplitGivesTheNewerRecord(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.set(func() {
			e.upper.record.Arc, e.upper.record.ArcEpoch = shardmap.Arc{From: 8192, To: 9000}, 6
		})
		a := e.open().do(routed(get(1, "foo"), 3, 5))[1]
		if a.Record.GetArcEpoch() != 6 {
			t.Errorf("record %v", a.Record)
		}
		newer := upper
		newer.Arc, newer.ArcEpoch = shardmap.Arc{From: 8192, To: 8500}, 7
		e.setMap(testMap(t, 9, lower, newer))
		a = e.open().do(routed(get(1, "foo"), 3, 5))[1]
		if a.Record.GetArcEpoch() != 7 {
			t.Errorf("record %v", a.Record)
		}
	})
}

// drop takes local replicas away.
func (e *env) drop(shards ...shardmap.ShardID) {
	e.shards.mu.Lock()
	defer e.shards.mu.Unlock()
	for _, id := range shards {
		delete(e.shards.groups, id)
	}
}

func (e *env) setMap(m *shardmap.Map) {
	e.shards.mu.Lock()
	defer e.shards.mu.Unlock()
	e.shards.m = m
}
