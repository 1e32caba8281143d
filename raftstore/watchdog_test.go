package raftstore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// proposeOne proposes a write whose caller waits for a minute.
func proposeOne(g *Group, key string) <-chan error { return proposeKind(g, state.OpPut, key) }

func proposeKind(g *Group, kind state.OpKind, key string) <-chan error {
	done := make(chan error, 1)
	op := state.Op{Kind: kind, Key: []byte(key)}
	if kind == state.OpPut {
		op.Value = []byte("v")
	}
	g.Propose(&Write{
		Ops:      []state.Op{op},
		Deadline: time.Now().Add(time.Minute),
		Done:     func(_ []state.Result, _ uint64, err error) { done <- err },
	})
	return done
}

// total adds up one counter over the nodes that run.
func (c *testCluster) total(of func(Counters) uint64) (sum uint64) {
	for _, n := range c.nodes {
		if n.store != nil {
			sum += of(n.store.Counters())
		}
	}
	return sum
}

func (c *testCluster) restarts() uint64 {
	return c.total(func(s Counters) uint64 { return s.GroupRestarts })
}

// writable waits until some replica takes and commits a write.
func (c *testCluster) writable(shard shardmap.ShardID, limit time.Duration) {
	c.t.Helper()
	c.await(fmt.Sprintf("shard %d takes writes", shard), limit, func() bool {
		g := c.ready(shard)
		if g == nil {
			return false
		}
		done := make(chan error, 1)
		g.Propose(&Write{
			Ops:      []state.Op{{Kind: state.OpPut, Key: []byte("probe"), Value: []byte("v")}},
			Deadline: time.Now().Add(100 * time.Millisecond),
			Done:     func(_ []state.Result, _ uint64, err error) { done <- err },
		})
		return <-done == nil
	})
}

// A leader whose raft refuses everything because of a transfer that never ended
// (upstream #696) tells nobody: the refusal is in a future.
func TestLive_696_AStuckTransferIsCured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		stickTransferFlag(t, g.raft)
		time.Sleep(time.Minute)
		if n := c.restarts(); n != 0 {
			t.Errorf("%d restarts of a shard that nobody writes to", n)
		}
		start := time.Now()
		done := proposeOne(g, "a")
		if err := <-done; kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the write that raft refused: %v", err)
		}
		c.writable(2, 5*time.Second)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("writes were taken again after %v", took)
		}
		n := c.nodes[g.store.opts.Self].store
		if k := n.Counters(); k.StuckTransfers != 1 || k.GroupRestarts != 1 || k.CommitStalls != 0 {
			t.Errorf("counted: %+v", k)
		}
	})
}

// The flag outlives the leadership in which it was set.
func TestLive_696_ALaterLeaderWithAStuckFlagIsCured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		next := c.nodes[nodeID(3)].group(2)
		stickTransferFlag(t, next.raft)
		if err := g.TransferLeadership(context.Background(), nodeID(3)); err != nil {
			t.Fatal(err)
		}
		c.writable(2, 6*time.Second)
		if k := c.nodes[nodeID(3)].store.Counters(); k.StuckTransfers != 1 || k.GroupRestarts != 1 {
			t.Errorf("counted: %+v", k)
		}
	})
}

// isLogAppend tells what raft's replicator sends from heartbeats.
func isLogAppend(m *peerv1.Message) bool { return m.GetAppend().GetPrevIndex() > 0 }

// A leader that keeps its leadership by heartbeats and gets nothing committed.
func TestLive_ALeaderWithoutCommitsGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		self := g.store.opts.Self
		mustPut(t, g, "a", "1")
		c.lose(func(from, _ shardmap.NodeID, m *peerv1.Message) bool { return from == self && isLogAppend(m) })
		start := time.Now()
		proposeOne(g, "a")
		c.await("another leads", 12*time.Second, func() bool {
			next := c.ready(2)
			return next != nil && next.store.opts.Self != self
		})
		t.Logf("after %v", time.Since(start))
		if k := c.nodes[self].store.Counters(); k.CommitStalls != 1 {
			t.Errorf("counted: %+v", k)
		}
		c.writable(2, time.Second)
		c.agree(2)
	})
}

// A follower that answers heartbeats and gets no entries, because of something on
// its own side: it restarts itself.
func TestLive_AFollowerThatStaysBehindRestartsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		behind := c.nodes[nodeID(3)].store
		c.lose(func(_, to shardmap.NodeID, m *peerv1.Message) bool {
			return to == nodeID(3) && isLogAppend(m) && behind.counters.groupRestarts.Load() == 0
		})
		mustPut(t, g, "a", "1")
		start := time.Now()
		c.agree(2)
		if took := time.Since(start); took < wedgePatience || took > 18*time.Second {
			t.Errorf("it caught up after %v", took)
		}
		if k := g.store.Counters(); k.WedgedFollowers != 1 || k.GroupRestarts != 0 {
			t.Errorf("the leader counted: %+v", k)
		}
		if k := behind.Counters(); k.LaggingReplicas != 1 || k.GroupRestarts != 1 {
			t.Errorf("the follower counted: %+v", k)
		}
		if g != c.leader(2) {
			t.Error("the shard changed its leader for it")
		}
	})
}

// The same because of something on the leader's side: it lets another lead, one
// that has the log.
func TestLive_ALeaderThatCannotReachAFollowersLogHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		self := g.store.opts.Self
		c.lose(func(from, to shardmap.NodeID, m *peerv1.Message) bool {
			return from == self && to == nodeID(3) && isLogAppend(m)
		})
		mustPut(t, g, "a", "1")
		start := time.Now()
		c.agree(2)
		t.Logf("after %v", time.Since(start))
		if next := c.leader(2); next.store.opts.Self != nodeID(2) {
			t.Errorf("node %s leads", next.store.opts.Self)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it caught up after %v", took)
		}
		if k := g.store.Counters(); k.WedgedFollowers != 2 || k.GroupRestarts != 0 {
			t.Errorf("the leader counted: %+v", k)
		}
	})
}

// A follower that can be reached by nobody's appends costs the shard a transfer
// now and then, ever less often.
func TestWatchdog_ACureThatDoesNotHelpIsRepeatedEverLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		c.lose(func(_, to shardmap.NodeID, m *peerv1.Message) bool { return to == nodeID(3) && isLogAppend(m) })
		mustPut(t, g, "a", "1")
		lag := func(k Counters) uint64 { return k.LaggingReplicas }
		wedged := func(k Counters) uint64 { return k.WedgedFollowers }
		for _, within := range []struct {
			d               time.Duration
			restarts, cures uint64 // at most
		}{{5 * time.Minute, 3, 14}, {30 * time.Minute, 6, 30}} {
			time.Sleep(within.d)
			if l, w := c.total(lag), c.total(wedged); l == 0 || l > within.restarts || w == 0 || w > within.cures {
				t.Errorf("after %v more: %d restarts of the follower, %d cures by its leaders", within.d, l, w)
			}
			mustPut(t, c.leader(2), "a", "2") // the shard works all the while
		}
		c.lose(nil)
		c.agree(2)
	})
}

// What is merely slow, idle, cut off or without a quorum is none of the watchdogs'
// business.
func TestWatchdog_LeavesTheRestAlone(t *testing.T) {
	for what, trouble := range map[string]func(c *testCluster){
		"nothing":           func(*testCluster) {},
		"follower cut off":  func(c *testCluster) { c.isolate(nodeID(3), true) },
		"follower down":     func(c *testCluster) { c.nodes[nodeID(3)].stop() },
		"no quorum":         func(c *testCluster) { c.isolate(nodeID(2), true); c.isolate(nodeID(3), true) },
		"leader cut off":    func(c *testCluster) { c.isolate(nodeID(1), true) },
		"long way":          func(c *testCluster) { c.slowDown(100 * time.Millisecond) },
		"appends take long": func(c *testCluster) { c.slowDown(150 * time.Millisecond) },
		"answers to it lost": func(c *testCluster) {
			c.lose(func(_, to shardmap.NodeID, _ *peerv1.Message) bool { return to == nodeID(1) })
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 3)
				c.create(record(2, wholeRing, 1, 2, 3))
				c.leader(2)
				trouble(c)
				for range 300 {
					time.Sleep(time.Second)
					if g := c.ready(2); g != nil {
						proposeOne(g, "a")
					}
				}
				if n := c.restarts(); n != 0 {
					t.Errorf("%d restarts", n)
				}
				judged := c.total(func(k Counters) uint64 {
					return k.StuckTransfers + k.CommitStalls + k.WedgedFollowers + k.LaggingReplicas
				})
				if judged != 0 {
					t.Errorf("%d cures", judged)
				}
			})
		})
	}
}

// tickFor has a watchdog of its own look at a store whose own one is off.
func tickFor(w *watchdog, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(w.every()) {
		w.tick(time.Now())
	}
}

func TestWatchdog_WaitsWhileTheDiskIsSlowOrTimeHasJumped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		for _, n := range c.nodes {
			n.stop()
			n.listen()
			n.opts = func(o *Options) { o.unwatched = true }
		}
		for _, n := range c.nodes {
			n.start()
		}
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		stickTransferFlag(t, g.raft)
		proposeOne(g, "a")
		time.Sleep(time.Minute)
		if c.restarts() != 0 {
			t.Fatal("somebody else cures it; the test shows nothing")
		}
		w := newWatchdog(g.store)
		pending := time.Duration(0)
		w.pending = func() time.Duration { return pending }
		tickFor(w, time.Second)
		pending = 1200 * time.Millisecond
		tickFor(w, time.Minute)
		pending = 0
		if tickFor(w, time.Second); c.restarts() != 0 {
			t.Fatal("it acted during, or at once after, a minute of a slow disk")
		}
		for range 60 { // a process that is stopped again and again
			time.Sleep(2 * time.Second)
			w.tick(time.Now())
		}
		if tickFor(w, time.Second); c.restarts() != 0 {
			t.Fatal("it judged a time in which it did not look")
		}
		if tickFor(w, 2*time.Second); c.restarts() != 1 {
			t.Error("it never acts")
		}
		w.cures.Wait()
	})
}

func TestWatchdog_LooksAtABoundedNumberATick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		n.stop()
		n.listen()
		n.opts = func(o *Options) { o.unwatched = true }
		n.start()
		const shards = watchedPerTick + 20
		records := make([]shardmap.Record, 0, shards)
		for i := range shards {
			arc := shardmap.Arc{From: shardmap.Slot(i), To: shardmap.Slot(i + 1)}
			records = append(records, record(shardmap.ShardID(2+i), arc, 1))
		}
		c.create(records...)
		w := newWatchdog(n.store)
		for _, want := range []int{watchedPerTick, shards, shards} {
			w.tick(time.Now())
			if len(w.patient) != want {
				t.Errorf("%d of %d replicas were looked at, expected %d", len(w.patient), shards, want)
			}
			time.Sleep(w.every())
		}
	})
}

func TestBudget(t *testing.T) {
	start := time.Unix(1000, 0)
	b := &budget{}
	at := start
	for i, every := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if !b.allows(at) {
			t.Errorf("repetition %d is refused at %v", i, at.Sub(start))
		}
		b.spend(at)
		every *= time.Minute
		if b.allows(at.Add(every - time.Second)) {
			t.Errorf("repetition %d is allowed before %v", i+1, every)
		}
		at = at.Add(every)
	}
	at = at.Add(5 * time.Hour)
	b.spend(at)
	if !b.allows(at.Add(time.Minute)) {
		t.Error("a cure that was not needed for hours is still rationed")
	}
}

// A follower without disk space stands still for as long as that lasts. Nobody may
// take it for wedged: a restart would help nothing and cost the shard its leader.
func TestWatchdog_AFollowerWithoutSpaceIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "0")
		var room atomic.Bool
		full := c.nodes[nodeID(3)]
		full.network.OnEntries(func(int) bool { return room.Load() })
		for i := range 180 {
			mustPut(t, g, "a", fmt.Sprint(i))
			time.Sleep(time.Second)
		}
		if full.group(2).Status().Applied >= g.Status().Applied {
			t.Fatal("the follower has kept up; the scenario proves nothing")
		}
		if n := c.restarts(); n != 0 {
			t.Errorf("%d restarts of groups for want of disk space", n)
		}
		if now := c.leader(2); now != g {
			t.Error("the leader has changed")
		}
		room.Store(true)
		start := time.Now()
		c.agree(2)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("with room again it took %v to catch up", took)
		}
	})
}

// Without disk space on a majority nothing is committed. A leader that gave up for
// that would leave nobody to read from.
func TestWatchdog_ALeaderWhoseFollowersHaveNoSpaceStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "0")
		var room atomic.Bool
		for _, n := range c.nodes {
			n.network.OnEntries(func(int) bool { return room.Load() })
		}
		stuck := proposeOne(g, "b")
		for range 90 {
			time.Sleep(time.Second)
			if g.tenure.Load() == nil || c.restarts() != 0 {
				t.Fatal("the leader gave up")
			}
			mustGet(t, g, "a", "0")
		}
		room.Store(true)
		c.writable(2, 5*time.Second)
		if err := <-stuck; err != nil && kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the write that waited for space: %v", err)
		}
		c.agree(2)
	})
}
