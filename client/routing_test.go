package client

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// keyIn finds a key whose slot lies in the arc.
func keyIn(from, to shardmap.Slot) string {
	for i := 0; ; i++ {
		key := string([]byte{'k', byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)})
		if s := shardmap.SlotOf([]byte(key)); from <= s && s < to {
			return key
		}
	}
}

// leads makes the script of a node that serves some shards and refuses others.
func leads(leader *fakeNode, term uint64) func(*fakeSession, *kvv1.Operation) *kvv1.Answer {
	return func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
		if s.node == leader {
			return success(op)
		}
		return notLeader(op, term, leader)
	}
}

func TestGoesStraightToLeadersOfTheFirstFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.setMap(5, w.record(2, 0, 8000, 3), w.record(3, 8000, shardmap.Slots, 4))
		w.nodes[0].first = func() *kvv1.ServerFrame {
			f := w.nodes[0].helloFrame()
			f.Leaders = []*kvv1.LeaderHint{
				{Shard: 2, Term: 9, NodeId: string(w.nodes[1].id)}, {Shard: 3, Term: 9, NodeId: string(w.nodes[2].id)},
			}
			return f
		}
		w.nodes[0].script(always(kvv1.ErrorKind_ERROR_KIND_INTERNAL))
		c := w.open("n1:7400")
		for _, key := range []string{keyIn(0, 8000), keyIn(8000, shardmap.Slots)} {
			if _, err := c.Put(context.Background(), key, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []uint64{3, 4} {
			ops := w.nodes[i+1].operations()
			if len(ops) != 1 || ops[0].GetShard() != uint64(i+2) || ops[0].GetArcEpoch() != want {
				t.Errorf("n%d got %v", i+2, ops)
			}
		}
		if s := c.Stats(); s.Redirects != 0 || s.Retries != 0 || s.MapEpoch != 5 {
			t.Errorf("Stats = %+v", s)
		}
	})
}

func TestNotLeaderIsOneHop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[2], 4))
		}
		c := w.open("n1:7400")
		began := time.Now()
		for range 10 {
			if _, err := c.Put(context.Background(), "a", nil); err != nil {
				t.Fatal(err)
			}
		}
		if s := c.Stats(); s.Redirects != 1 || s.Retries != 1 || time.Since(began) > 0 {
			t.Fatalf("Stats = %+v after %v", s, time.Since(began))
		}
	})
}

func TestWrongShardIsOneHop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		key := keyIn(8000, shardmap.Slots)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := refusal(op, kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
			a.Record = wire.RecordToProto(w.record(3, 8000, shardmap.Slots, 2))
			a.Leader = &kvv1.LeaderHint{Shard: 3, Term: 1, NodeId: string(w.nodes[1].id)}
			return a
		})
		c := w.open("n1:7400")
		began := time.Now()
		if _, err := c.Put(context.Background(), key, nil); err != nil {
			t.Fatal(err)
		}
		ops := w.nodes[1].operations()
		if len(ops) != 1 || ops[0].GetShard() != 3 || ops[0].GetArcEpoch() != 2 || time.Since(began) > 0 {
			t.Fatalf("n2 got %v after %v", ops, time.Since(began))
		}
	})
}

// A parent answers for a key that a split took from it with its own, shrunken
// record; the client asks around until somebody knows the child.
func TestShrunkenRecordClearsTheRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		key := keyIn(8000, shardmap.Slots)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := refusal(op, kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
			a.Record = wire.RecordToProto(w.record(2, 0, 8000, 2))
			return a
		})
		c := w.open("n1:7400")
		if _, err := c.Put(context.Background(), key, nil); err != nil {
			t.Fatal(err)
		}
		if ops := w.nodes[1].operations(); len(ops) != 1 || ops[0].GetShard() != 0 {
			t.Fatalf("n2 got %v", ops)
		}
		if r := c.topology.lookup(0); r == nil || r.record.ArcEpoch != 2 {
			t.Fatalf("slot 0 lost its route: %+v", r)
		}
	})
}

func TestHintsOfOldTermsAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[1], 7))
		}
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		w.nodes[0].push(&kvv1.ServerFrame{Leaders: []*kvv1.LeaderHint{{Shard: 2, Term: 6, NodeId: string(w.nodes[2].id)}}})
		time.Sleep(time.Second)
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		if n := len(w.nodes[2].operations()); n != 0 {
			t.Fatalf("n3 was asked %d times", n)
		}
	})
}

// A hint that its own node denies must not send calls round in circles.
func TestDeniedHintDoesNotStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.nodes[0].script(leads(w.nodes[1], 7))
		w.nodes[1].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return notLeader(op, 7, w.nodes[0]) })
		w.nodes[2].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return notLeader(op, 7, nil) })
		c := w.open("n1:7400")
		_, err := c.Put(within(t, 5*time.Second), "a", nil)
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrInDoubt) {
			t.Fatal(err)
		}
		// About 5 s / 150 ms, with the early, quicker ones and the hops between.
		if s := c.Stats(); s.Operations > 120 || s.Operations < 20 {
			t.Fatalf("Stats = %+v", s)
		}
		for _, n := range w.nodes {
			n.script(leads(w.nodes[1], 7))
		}
		if _, err := c.Put(within(t, time.Second), "a", nil); err != nil {
			t.Fatal("the denied leader was never tried again: ", err)
		}
	})
}

// After a denial the next calls do not follow the hint any more.
func TestDeniedHintIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.nodes[0].script(leads(w.nodes[1], 7))
		w.nodes[1].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return notLeader(op, 7, nil) })
		c := w.open("n1:7400")
		for range 5 {
			if _, err := c.Put(within(t, time.Second), "a", nil); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.nodes[1].operations()); n != 1 {
			t.Fatalf("it was asked %d times", n)
		}
	})
}

// Nodes that outbid each other's terms for ever are asked at a bounded rate.
func TestRisingTermsDoNotStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		var term atomic.Uint64
		for i, n := range w.nodes {
			n.script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
				if term.Load() > 2000 {
					return success(op) // enough is seen
				}
				return notLeader(op, term.Add(1), w.nodes[1-i])
			})
		}
		c := w.open("n1:7400")
		_, err := c.Put(within(t, 5*time.Second), "a", nil)
		if s := c.Stats(); err == nil || s.Operations > 50*(maxHops+1) {
			t.Fatalf("%v, %+v", err, s)
		}
	})
}

func TestPushedMapIsAdoptedWhenNewer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		two := *w
		two.nodes = w.nodes[:2]
		two.setMap(2, two.record(2, 0, shardmap.Slots, 1))
		w.m = two.m
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		w.setMap(3, w.record(2, 0, 8000, 2), w.record(3, 8000, shardmap.Slots, 2))
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(w.theMap())})
		time.Sleep(time.Second)
		key := keyIn(8000, shardmap.Slots)
		for _, n := range w.nodes {
			n.script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
				if s.node == w.nodes[2] {
					return success(op)
				}
				return &kvv1.Answer{
					Id: op.GetId(), Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_NOT_LEADER},
					Leader: &kvv1.LeaderHint{Shard: 3, Term: 1, NodeId: string(w.nodes[2].id)},
				}
			})
		}
		if _, err := c.Put(ctx, key, nil); err != nil {
			t.Fatal(err)
		}
		if ops := w.nodes[2].operations(); len(ops) != 1 || ops[0].GetShard() != 3 {
			t.Fatalf("the new node got %v", ops)
		}
		// An older map changes nothing; a newer one without n3 retires its connection.
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(two.m)})
		time.Sleep(time.Second)
		if s := c.Stats(); s.MapEpoch != 3 || s.Connections != 2 {
			t.Fatalf("Stats = %+v", s)
		}
		two.setMap(4, two.record(2, 0, 8000, 2), two.record(3, 8000, shardmap.Slots, 3))
		w.nodes[0].push(&kvv1.ServerFrame{Map: wire.MapToProto(two.m)})
		time.Sleep(time.Second)
		if s := c.Stats(); s.MapEpoch != 4 || s.Connections != 1 {
			t.Fatalf("Stats = %+v", s)
		}
	})
}

func TestBadNewsIsIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Put(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		other := wire.MapToProto(w.theMap())
		other.Epoch, other.ClusterId = 9, "another"
		broken := wire.MapToProto(w.theMap())
		broken.Epoch, broken.Shards[0].Arc.To = 9, 0
		for _, f := range []*kvv1.ServerFrame{
			{}, {Map: other}, {Map: broken},
			{Leaders: []*kvv1.LeaderHint{{}, {Shard: 2, Term: 99, NodeId: "nonsense"}, {Shard: 77, Term: 1, NodeId: string(nodeID(1))}}},
			{Answers: []*kvv1.Answer{{Id: 1 << 60}, {Error: &kvv1.Error{Kind: 99}, Record: &kvv1.ShardRecord{Shard: 1}}}},
		} {
			w.nodes[0].push(f)
		}
		time.Sleep(time.Second)
		if _, err := c.Get(ctx, "a"); err != nil || c.Stats().MapEpoch != 1 {
			t.Fatal(err, c.Stats())
		}
	})
}

func TestCandidatesAreTriedInTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 5)
		for i, n := range w.nodes {
			if i != 3 {
				n.script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return notLeader(op, 1, nil) })
			}
		}
		c := w.open("n1:7400")
		if _, err := c.Put(within(t, 2*time.Second), "a", nil); err != nil {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Operations > 5 {
			t.Fatalf("it took %d attempts to find one of five", s.Operations)
		}
		// Who served is remembered although nobody ever gave a hint.
		if _, err := c.Put(within(t, 2*time.Second), "a", nil); err != nil || len(w.nodes[3].operations()) != 2 {
			t.Fatal(err, len(w.nodes[3].operations()))
		}
	})
}
