package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// lastSpoken keeps when each group of a node last sent something by itself.
type lastSpoken struct {
	mu   sync.Mutex
	from shardmap.NodeID
	at   map[uint64]time.Time
}

func (c *testCluster) listenTo(from shardmap.NodeID) *lastSpoken {
	l := &lastSpoken{from: from, at: make(map[uint64]time.Time)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = l.note
	return l
}

func (l *lastSpoken) note(from, _ shardmap.NodeID, m *peerv1.Message) {
	if from != l.from || m.GetAppend() == nil && m.GetVote() == nil && m.GetPreVote() == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[m.GetGroup()] = time.Now()
}

func (l *lastSpoken) last(g *Group) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[uint64(g.shard)]
}

// twoShards are led by node 1: one will have a write in flight, one is idle.
func twoShards(t *testing.T) (c *testCluster, busy, idle *Group) {
	c = newTestCluster(t, 3)
	c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1, 2, 3), record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 1, 2, 3))
	busy, idle = c.leader(2), c.leader(3)
	if busy.store != idle.store {
		t.Fatal("the test needs one node to lead both shards")
	}
	mustPut(t, busy, keyOf(busy), "acknowledged")
	mustPut(t, idle, keyOf(idle), "acknowledged")
	time.Sleep(time.Second)
	return c, busy, idle
}

// keyOf is a key of the group's arc.
func keyOf(g *Group) string { return keyIn(g.Record().Arc) }

// propose puts without waiting; the channel gets the error, nil for applied.
func propose(g *Group, key, value string) <-chan error {
	ch := make(chan error, 1)
	g.Propose(&Write{
		Ops:      []state.Op{{Kind: state.OpPut, Key: []byte(key), Value: []byte(value)}},
		Deadline: time.Now().Add(time.Minute),
		Done:     func(_ []state.Result, _ uint64, err error) { ch <- err },
	})
	return ch
}

// awaitDeath waits for Fatal and returns what it was told.
func (n *testNode) awaitDeath() error {
	select {
	case err := <-n.died:
		return err
	case <-time.After(time.Minute):
		n.cluster.t.Errorf("node %s lives", n.id.Short())
		return nil
	}
}

// within asserts a duration of virtual time.
func within(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	t.Logf("%s: %v", what, took)
	if took < least || took > most {
		t.Errorf("%s took %v; want %v to %v", what, took, least, most)
	}
}

// D1: a leader whose log sync hangs gives up all its shards in time, and its
// process ends; nothing acknowledged is lost.
func TestD1_ALeaderWhoseLogHangsGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, idle := twoShards(t)
		self := busy.store.opts.Self
		n := c.nodes[self]
		n.mayDie = true
		spoken := c.listenTo(self)

		start := time.Now()
		n.sync.begin()
		doubtful := propose(busy, keyOf(busy), "in flight")
		if err := <-doubtful; kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the write in flight: %v; want outcome unknown", err)
		}
		within(t, "the answer to the write in flight", time.Since(start), 2*time.Second, 2650*time.Millisecond)
		if _, err := put(busy, keyOf(busy), "late"); !errors.Is(err, kverr.NotLeader) {
			t.Errorf("a write to the silent leader: %v; want not leader", err)
		}
		if _, err := get(busy, keyOf(busy)); !errors.Is(err, kverr.NotLeader) {
			t.Errorf("a read from the silent leader: %v; want not leader", err)
		}
		if h, ok := busy.Leader(); ok {
			t.Errorf("the silent leader names %s as the leader", h.Node.Short())
		}
		time.Sleep(2 * reconcileEvery)
		if busy.tenure.Load() != nil {
			t.Error("raft has not noticed, and a new tenure began")
		}

		for _, g := range []*Group{idle, busy} {
			next := c.leader(g.shard, self)
			within(t, fmt.Sprintf("shard %d led elsewhere", g.shard), time.Since(start), 2*time.Second, 6*time.Second)
			within(t, fmt.Sprintf("shard %d heard last", g.shard), spoken.last(g).Sub(start), 1900*time.Millisecond, 2200*time.Millisecond)
			if v, err := get(next, keyOf(next)); err != nil || string(v.Data) != "acknowledged" && string(v.Data) != "in flight" {
				t.Errorf("shard %d: %q, %v; the acknowledged write is lost", g.shard, v.Data, err)
			}
			mustPut(t, next, keyOf(next), "by the successor")
		}

		err := n.awaitDeath()
		within(t, "the end", time.Since(start), 15*time.Second, 16*time.Second)
		var hung *HungDiskError
		if !errors.As(err, &hung) || hung.Shard != 0 {
			t.Errorf("Fatal was told %v; want a log sync that hangs", err)
		}
		n.crash()
		n.mayDie = false
		n.start()
		mustPut(t, c.leader(2), keyOf(busy), "after")
	})
}

// D1: idle shards have nothing that could hang but the probe, and are handed over
// without waiting for an election timeout.
func TestD1_AnIdleNodeNoticesByItsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, idle := twoShards(t)
		self := busy.store.opts.Self
		start := time.Now()
		c.nodes[self].sync.begin()
		for _, g := range []*Group{busy, idle} { // both are idle here
			next := c.leader(g.shard, self)
			within(t, fmt.Sprintf("shard %d led elsewhere", g.shard), time.Since(start), 2*time.Second, 3500*time.Millisecond)
			mustGet(t, next, keyOf(next), "acknowledged")
		}
	})
}

// D1: a hang that ends before DiskExit costs the leadership at most.
func TestD1_AShortHangOfTheLogEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, _ := twoShards(t)
		self := busy.store.opts.Self
		n := c.nodes[self]
		n.sync.begin()
		<-propose(busy, keyOf(busy), "in flight")
		next := c.leader(2, self)
		version := mustPut(t, next, keyOf(next), "by the successor")
		time.Sleep(2 * time.Second)
		n.sync.end()
		time.Sleep(3 * time.Second)
		if busy.silent.Load() {
			t.Error("the replica is still silent")
		}
		if err := c.leader(2).TransferLeadership(context.Background(), self); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		g := c.leader(2)
		if g != busy {
			t.Fatalf("node %s leads, not the one whose disk had hung", g.store.opts.Self.Short())
		}
		mustGet(t, g, keyOf(g), "by the successor")
		if v := mustPut(t, g, keyOf(g), "again"); v <= version {
			t.Errorf("version %d after %d", v, version)
		}
	})
}

// D1: a shard of one replica has nobody to give way to; it serves again.
func TestD1_ALonelyLeaderResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		n := c.nodes[nodeID(1)]
		n.sync.begin()
		if err := <-propose(g, "a", "2"); kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the write in flight: %v", err)
		}
		time.Sleep(3 * time.Second)
		n.sync.end()
		start := time.Now()
		c.leader(2)
		within(t, "ready again", time.Since(start), 0, 3*time.Second)
		mustGet(t, g, "a", "2") // it was in the log
		mustPut(t, g, "a", "3")
	})
}

// D1: the same with a state machine that hangs: the log is fine, and no sync is
// pending.
func TestD1_ALeaderWhoseApplyHangsGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, idle := twoShards(t)
		self := busy.store.opts.Self
		n := c.nodes[self]
		n.mayDie = true
		spoken := c.listenTo(self)
		start := time.Now()
		n.apply.begin()
		doubtful := propose(busy, keyOf(busy), "in flight")
		if err := <-doubtful; kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the write in flight: %v; want outcome unknown", err)
		}
		next := c.leader(2, self)
		within(t, "led elsewhere", time.Since(start), 2*time.Second, 6*time.Second)
		within(t, "heard last", spoken.last(busy).Sub(start), 1900*time.Millisecond, 2300*time.Millisecond)
		mustGet(t, next, keyOf(next), "in flight") // it was committed
		if !idle.Status().Ready {
			t.Error("the shard that had nothing to apply was disturbed")
		}
		err := n.awaitDeath()
		within(t, "the end", time.Since(start), 15*time.Second, 16*time.Second)
		var hung *HungDiskError
		if !errors.As(err, &hung) || hung.Shard != 2 {
			t.Errorf("Fatal was told %v; want shard 2", err)
		}
		n.crash()
		n.mayDie = false
		n.start()
		mustPut(t, c.leader(2), keyOf(busy), "after")
	})
}

func TestD1_AShortHangOfApplyEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, _ := twoShards(t)
		self := busy.store.opts.Self
		n := c.nodes[self]
		n.apply.begin()
		<-propose(busy, keyOf(busy), "in flight")
		mustPut(t, c.leader(2, self), keyOf(busy), "1")
		time.Sleep(2 * time.Second)
		n.apply.end()
		time.Sleep(3 * time.Second)
		if err := c.leader(2).TransferLeadership(context.Background(), self); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if g := c.leader(2); g != busy {
			t.Fatal("the replica whose disk had hung cannot lead any more")
		}
		mustGet(t, busy, keyOf(busy), "1")
		mustPut(t, busy, keyOf(busy), "2")
	})
}

// D1: a follower that hangs disturbs nobody, is no candidate, and ends too.
func TestD1_AHungFollowerDisturbsNobody(t *testing.T) {
	for _, what := range []string{"log", "apply"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, busy, _ := twoShards(t)
				var n *testNode
				for id := range c.nodes {
					if id != busy.store.opts.Self {
						n = c.nodes[id]
					}
				}
				n.mayDie = true
				spoken := c.listenTo(n.id)
				term := busy.Status().Term
				if what == "log" {
					n.sync.begin()
				} else {
					n.apply.begin()
				}
				start := time.Now()
				for i := range 100 {
					sent := time.Now()
					mustPut(t, busy, keyOf(busy), fmt.Sprint("v", i))
					if took := time.Since(sent); took > 200*time.Millisecond {
						t.Errorf("a write beside the hung follower took %v", took)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if st := busy.Status(); !st.Ready || st.Term != term {
					t.Errorf("leader's state is %+v; want it undisturbed in term %d", st, term)
				}
				_ = n.awaitDeath()
				within(t, "the end", time.Since(start), 15*time.Second, 16*time.Second)
				if at := spoken.last(busy); !at.IsZero() {
					t.Errorf("the hung follower campaigned at %v", at.Sub(start))
				}
			})
		})
	}
}

// D1, upstream #614: a node with a bad disk must not be elected again and again.
func TestD1_AHungReplicaIsNoCandidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, _ := twoShards(t)
		self := busy.store.opts.Self
		n := c.nodes[self]
		n.apply.begin()
		<-propose(busy, keyOf(busy), "in flight")
		next := c.leader(2, self)
		spoken := c.listenTo(self)
		if err := next.TransferLeadership(context.Background(), self); err == nil {
			t.Error("the leadership went to the replica whose disk hangs")
		}
		// The two that are left after this cannot do without its vote, which its log
		// can keep; lead it must not.
		c.isolate(next.store.opts.Self, true)
		third := c.leader(2, next.store.opts.Self)
		if third == busy {
			t.Error("the replica whose disk hangs was elected")
		}
		mustPut(t, third, keyOf(third), "after")
		if at := spoken.last(busy); !at.IsZero() {
			t.Error("the hung replica asked for votes")
		}
	})
}

// D1: a process that was stopped in the middle of a sync does not hold the time
// against its disk.
func TestD1_APauseOfTheProcessIsNoHang(t *testing.T) {
	var h hangTimer
	if age := h.pending(20*time.Millisecond, stride(gateEvery)); age != 20*time.Millisecond {
		t.Errorf("a young sync is %v old", age)
	}
	pause := 30 * time.Second
	if age := h.pending(pause+20*time.Millisecond, stride(pause)); age > time.Second {
		t.Errorf("after a pause the sync is %v old", age)
	}
	if age := h.pending(10*time.Millisecond, stride(gateEvery)); age != 10*time.Millisecond {
		t.Errorf("the next sync is %v old", age)
	}
	if age := h.pending(0, stride(gateEvery)); age != 0 {
		t.Errorf("no sync is %v old", age)
	}
	for i := range 20 {
		age := time.Duration(i)*gateEvery + 30*time.Millisecond
		if got := h.pending(age, stride(gateEvery)); got < age-gateEvery || got > age {
			t.Errorf("a sync %v old was taken for %v", age, got)
		}
	}
}

// D1: silence that ended at once would never be long enough for others to elect a
// leader, were the disk to hang again and again.
func TestD1_SilenceLastsUntilTheDiskIsCalm(t *testing.T) {
	l := newGateLatch(2 * time.Second)
	on := func(age time.Duration) bool { return l.set(age, gateEvery) }
	if on(1900 * time.Millisecond) {
		t.Error("silent before its time")
	}
	if !on(2 * time.Second) {
		t.Error("not silent in time")
	}
	for range 9 {
		if !on(0) {
			t.Error("spoke before it was calm")
		}
	}
	on(time.Second) // hangs again
	for range 9 {
		if !on(0) {
			t.Error("spoke before it was calm")
		}
	}
	if on(0) {
		t.Error("silent for ever")
	}
}

// D1: a state machine that moves on, ever further behind, serves nobody either.
func TestD1_ALeaderWhoseApplyFallsBehindGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		n := c.nodes[nodeID(1)]
		n.stop()
		var slow atomic.Bool
		n.opts = func(o *Options) {
			o.EntriesInFlight = 16
			o.BeforeApply = func(shardmap.ShardID) {
				if slow.Load() {
					time.Sleep(1500 * time.Millisecond) // never long enough to be stuck
				}
			}
		}
		n.start()
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		slow.Store(true)
		start := time.Now()
		for i := range 8 {
			propose(g, fmt.Sprint("k", i), "v")
			time.Sleep(20 * time.Millisecond)
		}
		c.leader(2, nodeID(1))
		within(t, "led elsewhere", time.Since(start), 2*time.Second, 6*time.Second)
		slow.Store(false)
		time.Sleep(15 * time.Second)
		mustGet(t, c.leader(2), "k7", "v")
	})
}

// What the state machine never sees must not look unapplied: a leader that cannot
// confirm its term has a committed no-op and nothing after it.
func TestD1_ALeaderThatIsNotReadyIsNotBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		c.leader(2)
		c.mu.Lock()
		c.mute = true
		c.mu.Unlock()
		for _, n := range c.nodes {
			g, _ := n.store.Group(2)
			if n.id == nodeID(2) {
				g.trans.Campaign()
			}
		}
		time.Sleep(20 * time.Second)
		g, _ := c.nodes[nodeID(2)].store.Group(2)
		if st := g.Status(); st.State != "leader" || st.Ready || st.Applied >= st.Commit {
			t.Fatalf("status %+v proves nothing", st)
		}
		for _, n := range c.nodes {
			if n.store.disk.hangs.Load() > 0 {
				t.Errorf("node %s takes the no-op for an entry that is not applied", n.id.Short())
			}
		}
		c.mu.Lock()
		c.mute = false
		c.mu.Unlock()
		mustPut(t, c.leader(2), "a", "1")
	})
}

// What the state machine never sees must not look unapplied: no-ops begin terms.
func TestD1_NoOpsAreNoLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		for range 3 {
			g := c.leader(2)
			to := nodeID(1)
			if g.store.opts.Self == to {
				to = nodeID(2)
			}
			if err := g.TransferLeadership(context.Background(), to); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second) // Fatal would fail the test
			if c.leader(2).store.disk.hangs.Load() > 0 {
				t.Fatal("an idle shard looks hung")
			}
		}
	})
}
