package raftstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

var fromAny = ReadSpec{AnyReplica: true}

// Followers show every write that was acknowledged before they were asked.
func TestFollowersReadLinearizably(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		for i := range 50 {
			value := fmt.Sprint(i)
			mustPut(t, g, "a", value)
			for _, n := range c.nodes {
				want := ByFollower
				if n.group(2) == g {
					want = ByLeader
				}
				mustAsk(t, n.group(2), fromAny, "a", value, want)
			}
		}
		f := c.follower(2)
		v := mustView(t, f, fromAny)
		mustList(t, v, "a=49 ")
		if v.Served != ByFollower {
			t.Errorf("the view was served %d", v.Served)
		}
		if a := <-ask(f, ReadSpec{}, "a", time.Second); kverr.KindOf(a.err) != kverr.NotLeader {
			t.Errorf("a read that did not allow it was answered by a follower: %v", a.err)
		}
		// A session read that asks for more than is applied goes the same way.
		mustPut(t, g, "a", "50")
		if a := <-ask(f, ReadSpec{Level: Session, MinVersion: 1 << 52}, "a", time.Second); a.err != nil || a.served != ByFollower ||
			string(a.values[0].Data) != "50" {
			t.Errorf("session read: %q, served %d, %v", valuesOf(a), a.served, a.err)
		}
		if n := f.reads.size(); n != 0 {
			t.Errorf("%d keys of reads are left over", n)
		}
	})
}

// A follower that is cut off together with its old leader must not be told an index
// by it: others lead meanwhile, and write.
func TestADeposedLeaderTellsNoIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 5)
		c.create(record(2, wholeRing, 1, 2, 3, 4, 5))
		old := c.leader(2)
		mustPut(t, old, "a", "1")
		c.agree(2)
		var with *Group
		for _, n := range c.nodes {
			if g := n.group(2); g != old {
				with = g
				break
			}
		}
		minority := []shardmap.NodeID{old.store.opts.Self, with.store.opts.Self}
		c.lose(func(from, to shardmap.NodeID, _ *peerv1.Message) bool {
			return slices.Contains(minority, from) != slices.Contains(minority, to)
		})
		read := ask(with, fromAny, "a", 4*time.Second)
		var fresh *Group
		c.await("others lead", 20*time.Second, func() bool {
			for id, n := range c.nodes {
				if g := n.group(2); !slices.Contains(minority, id) && g.Status().Ready {
					fresh = g
				}
			}
			return fresh != nil
		})
		mustPut(t, fresh, "a", "2")
		if a := <-read; a.err == nil {
			t.Errorf("the read was answered %q, served %d", valuesOf(a), a.served)
		}
		a := <-ask(with, fromAny, "a", time.Second)
		if a.err == nil {
			t.Errorf("a read after the write was answered %q", valuesOf(a))
		}
		c.lose(nil)
		c.await("it reads again", 20*time.Second, func() bool {
			a := <-ask(with, fromAny, "a", time.Second)
			if a.err == nil && string(a.values[0].Data) != "2" {
				t.Fatalf("read %q", valuesOf(a))
			}
			return a.err == nil
		})
	})
}

// flights counts the questions for indexes on their way, and what they ask for.
type flights struct {
	mu     sync.Mutex
	sent   int
	groups int
}

func (c *testCluster) countFlights() *flights {
	f := &flights{}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = func(_, _ shardmap.NodeID, m *peerv1.Message) {
		if q := m.GetReadIndex(); q != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.sent++
			f.groups += len(q.GetGroups())
		}
	}
	return f
}

func (f *flights) count() (sent, groups int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent, f.groups
}

// One flight per pair of nodes, for all shards and readers; and R3: who comes while
// it is in the air goes with the next.
func TestR3_QuestionsShareFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1, 2, 3), record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 1, 2, 3))
		if c.leader(2).store != c.leader(3).store {
			t.Fatal("the test needs both shards led by one node")
		}
		leader := c.leader(2)
		keys := map[shardmap.ShardID]string{2: keyIn(leader.Record().Arc), 3: keyIn(c.leader(3).Record().Arc)}
		mustPut(t, leader, keys[2], "1")
		mustPut(t, c.leader(3), keys[3], "1")
		c.agree(2)
		c.agree(3)
		f := c.follower(2).store
		c.slowDown(2 * time.Millisecond)
		seen := c.countFlights()
		var reads []<-chan answer
		burst := func() {
			for range 20 {
				for shard, key := range keys {
					g, _ := f.Group(shard)
					reads = append(reads, ask(g, fromAny, key, time.Second))
				}
			}
		}
		burst()
		time.Sleep(time.Millisecond) // the first question is in the air
		burst()
		if n, _ := seen.count(); n != 1 {
			t.Errorf("%d flights are in the air", n)
		}
		for _, r := range reads {
			if a := <-r; a.err != nil || a.served != ByFollower {
				t.Fatalf("%q, served %d, %v", valuesOf(a), a.served, a.err)
			}
		}
		// The first read left at once, alone; the rest of its burst and the second one
		// came while it was in the air.
		if n, groups := seen.count(); n != 2 || groups != 3 {
			t.Errorf("80 reads of two shards made %d flights for %d groups; want 2 and 3", n, groups)
		}
	})
}

// P8: a shard without a quorum holds up no other shard's questions, nor does a
// question that gets lost for long.
func TestP8_ASickShardsQuestionsDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 5)
		sick := record(2, shardmap.Arc{From: 0, To: 8000}, 1, 5, 3, 4)
		sick.Replicas = sick.Replicas[:4]
		sound := record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 1, 5, 2)
		for _, n := range c.nodes {
			for _, rec := range []shardmap.Record{sick, sound} {
				if _, here := rec.On(n.id); here {
					if err := n.store.Create(context.Background(), []shardmap.Record{rec}); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if c.leader(2).store != c.leader(3).store || c.leader(2).store.opts.Self != nodeID(1) {
			t.Fatal("the test needs both shards led by node 1")
		}
		key := keyIn(sound.Arc)
		mustPut(t, c.leader(3), key, "1")
		f := c.nodes[nodeID(5)]
		mustAsk(t, f.group(3), fromAny, key, "1", ByFollower)
		// Two of four voters are gone: node 1 leads for a while yet and confirms nothing.
		c.isolate(nodeID(3), true)
		c.isolate(nodeID(4), true)
		start := time.Now()
		for time.Since(start) < 400*time.Millisecond {
			f.group(2).Get(&Read{ReadSpec: fromAny, Keys: [][]byte{[]byte(keyIn(sick.Arc))}, Deadline: time.Now().Add(time.Second),
				Done: func([]Value, uint64, error) {}})
			began := time.Now()
			mustAsk(t, f.group(3), fromAny, key, "1", ByFollower)
			if took := time.Since(began); took > flightPatience+sweepEvery+indexGrace {
				t.Fatalf("a read of a healthy shard took %v", took)
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
}

// A bounded-stale read of a follower goes by the newest index while that is young
// enough, counted from before the question left, and asks otherwise.
func TestR4_BoundedStaleFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		c.agree(2)
		f := c.follower(2)
		c.slowDown(20 * time.Millisecond)
		began := time.Now()
		mustAsk(t, f, fromAny, "a", "1", ByFollower)
		took := time.Since(began)
		mustPut(t, g, "a", "2")
		c.agree(2)
		at := time.Since(began)
		mustAsk(t, f, ReadSpec{Level: BoundedStale, MaxAge: at}, "a", "2", ByReplica)
		if took < 40*time.Millisecond {
			t.Fatalf("the question took %v", took)
		}
		mustAsk(t, f, ReadSpec{Level: BoundedStale, MaxAge: at - 1}, "a", "2", ByFollower)

		// What it may miss is no older than it says: cut off, it stops to answer.
		c.isolate(f.store.opts.Self, true)
		mustPut(t, c.leader(2, f.store.opts.Self), "a", "3")
		cut := time.Now()
		for {
			a := <-ask(f, ReadSpec{Level: BoundedStale, MaxAge: time.Second}, "a", 2*time.Second)
			if a.err != nil {
				break
			}
			if time.Since(cut) > time.Second {
				t.Fatalf("cut off for %v it answers %q", time.Since(cut), valuesOf(a))
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// A replica that is cut off cannot confirm a watch, and can again when it is back.
func TestP6_ACutOffReplicaConfirmsNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		last := mustPut(t, c.leader(2), "a", "1")
		c.agree(2)
		f := c.follower(2)
		w := mustWatch(t, f, 0, true)
		if w.UpTo() != last {
			t.Errorf("a watch from now begins after %d; %d was acknowledged", w.UpTo(), last)
		}
		if err := <-w.Confirm(time.Second, 3*time.Second); err != nil {
			t.Errorf("a follower in touch: %v", err)
		}
		time.Sleep(time.Second + 1)
		c.isolate(f.store.opts.Self, true)
		start := time.Now()
		if err := <-w.Confirm(time.Second, 3*time.Second); err == nil || time.Since(start) > 3*time.Second+2*sweepEvery {
			t.Errorf("cut off: %v after %v", err, time.Since(start))
		}
		c.isolate(f.store.opts.Self, false)
		c.await("it knows again", 20*time.Second, func() bool { return <-w.Confirm(time.Second, 3*time.Second) == nil })
	})
}

// Followers read while leaders change and messages get lost: what they answer is
// never older than what was acknowledged before.
func TestFollowerReadsThroughChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		mustPut(t, c.leader(2), "n", "0")
		var mu sync.Mutex
		acked := 0
		stop := make(chan struct{})
		var users sync.WaitGroup
		users.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(13 * time.Millisecond):
				}
				for _, n := range c.nodes {
					if g := n.group(2); g.Status().Ready {
						if r, err := put(g, "n", fmt.Sprint(i)); err == nil && r.Version > 0 {
							mu.Lock()
							acked = i
							mu.Unlock()
						}
						break
					}
				}
			}
		})
		served := make(map[ServedBy]int)
		for _, n := range c.nodes {
			users.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(7 * time.Millisecond):
					}
					mu.Lock()
					least := acked
					mu.Unlock()
					a := <-ask(n.group(2), fromAny, "n", 500*time.Millisecond)
					if a.err != nil {
						continue
					}
					got := 0
					fmt.Sscan(valuesOf(a), &got)
					mu.Lock()
					served[a.served]++
					mu.Unlock()
					if got < least {
						t.Errorf("read %d, served %d, after %d was acknowledged", got, a.served, least)
						return
					}
				}
			})
		}
		for i := range 3 {
			time.Sleep(time.Second)
			id := nodeID(i + 1)
			c.isolate(id, true)
			time.Sleep(1500 * time.Millisecond)
			c.isolate(id, false)
		}
		close(stop)
		users.Wait()
		if acked < 100 || served[ByFollower] < 100 || served[ByLeader] < 50 {
			t.Errorf("%d writes, reads by how they were served: %v: the test shows little", acked, served)
		}
	})
}

// P8: a question that gets lost holds up those after it for a moment only.
func TestP8_ALostQuestionDelaysNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		mustPut(t, c.leader(2), "a", "1")
		c.agree(2)
		f := c.follower(2)
		lost := false
		c.lose(func(_, _ shardmap.NodeID, m *peerv1.Message) bool {
			if m.GetReadIndex() == nil || lost {
				return false
			}
			lost = true
			return true
		})
		start := time.Now()
		first := ask(f, fromAny, "a", 2*time.Second)
		time.Sleep(time.Millisecond)
		mustAsk(t, f, fromAny, "a", "1", ByFollower)
		if took := time.Since(start); !lost || took > flightPatience+2*sweepEvery {
			t.Errorf("a question after one that was lost (%t) took %v", lost, took)
		}
		if a := <-first; a.err != nil || time.Since(start) > flightTimeout+2*sweepEvery {
			t.Errorf("the read whose question was lost: %v after %v", a.err, time.Since(start))
		}
	})
}
