package raftstore

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// answer is what a Read came to.
type answer struct {
	values  []Value
	version uint64
	served  ServedBy
	err     error
}

// ask reads one key at a level and returns where the answer will come.
func ask(g *Group, spec ReadSpec, key string, limit time.Duration) <-chan answer {
	ch := make(chan answer, 1)
	r := &Read{ReadSpec: spec, Keys: [][]byte{[]byte(key)}, Deadline: time.Now().Add(limit)}
	r.Done = func(v []Value, version uint64, err error) { ch <- answer{v, version, r.Served, err} }
	g.Get(r)
	return ch
}

func mustAsk(t *testing.T, g *Group, spec ReadSpec, key, want string, by ServedBy) answer {
	t.Helper()
	a := <-ask(g, spec, key, 5*time.Second)
	if a.err != nil || string(a.values[0].Data) != want || a.served != by {
		t.Fatalf("read %+v: %q, served %d, %v; want %q, served %d", spec, valuesOf(a), a.served, a.err, want, by)
	}
	return a
}

func valuesOf(a answer) string {
	if len(a.values) == 0 {
		return "nothing"
	}
	return string(a.values[0].Data)
}

// follower is a replica of the shard that does not lead.
func (c *testCluster) follower(shard shardmap.ShardID) *Group {
	c.t.Helper()
	leader := c.leader(shard)
	for _, n := range c.nodes {
		if g, ok := n.store.Group(shard); ok && g != leader {
			return g
		}
	}
	c.t.Fatal("no follower")
	return nil
}

// holdable makes a node whose apply loop can be held.
func (c *testCluster) holdable(n *testNode) (hold func() (release func())) {
	var gate atomic.Pointer[chan struct{}]
	n.stop()
	n.opts = func(o *Options) {
		o.BeforeApply = func(shardmap.ShardID) {
			if ch := gate.Load(); ch != nil {
				<-*ch
			}
		}
	}
	n.listen()
	n.start()
	return func() func() {
		ch := make(chan struct{})
		gate.Store(&ch)
		return func() {
			gate.Store(nil)
			close(ch)
		}
	}
}

func TestLevelsOfALeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		v := mustPut(t, g, "a", "1")
		mustAsk(t, g, ReadSpec{}, "a", "1", ByLeader)
		mustAsk(t, g, ReadSpec{AnyReplica: true}, "a", "1", ByLeader)
		mustAsk(t, g, ReadSpec{Level: Any}, "a", "1", ByReplica)
		if a := mustAsk(t, g, ReadSpec{Level: Session, MinVersion: v}, "a", "1", ByReplica); a.version != v {
			t.Errorf("the session read is at %d; the shard is at %d", a.version, v)
		}
		// A version that was never given out is asked for, and told by the answer's.
		if a := mustAsk(t, g, ReadSpec{Level: Session, MinVersion: v + 1<<30}, "a", "1", ByLeader); a.version != v {
			t.Errorf("a session read of a version never given out is at %d", a.version)
		}
		time.Sleep(time.Second)
		mustAsk(t, g, ReadSpec{Level: BoundedStale, MaxAge: 100 * time.Millisecond}, "a", "1", ByLeader)
		mustAsk(t, g, ReadSpec{Level: BoundedStale, MaxAge: 100 * time.Millisecond}, "a", "1", ByReplica)
		time.Sleep(101 * time.Millisecond)
		mustAsk(t, g, ReadSpec{Level: BoundedStale, MaxAge: 100 * time.Millisecond}, "a", "1", ByLeader)

		for _, bad := range []ReadSpec{{Level: Any + 1}, {Level: BoundedStale, MaxAge: -1}} {
			if a := <-ask(g, bad, "a", time.Second); kverr.KindOf(a.err) != kverr.Invalid {
				t.Errorf("read %+v: %v", bad, a.err)
			}
		}
	})
}

func TestAnyShowsWhatIsAppliedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		c.agree(2)
		f := c.follower(2)
		c.isolate(f.store.opts.Self, true)
		mustPut(t, c.leader(2), "a", "2")
		mustAsk(t, f, ReadSpec{Level: Any}, "a", "1", ByReplica)
		time.Sleep(5 * time.Second) // it has lost its leader by now
		mustAsk(t, f, ReadSpec{Level: Any}, "a", "1", ByReplica)
	})
}

// A session read waits for the apply loop, and is answered by it: no poll, no clock.
func TestASessionReadWaitsForItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		hold := c.holdable(c.nodes[nodeID(2)])
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		if g.store.opts.Self == nodeID(2) {
			t.Fatal("the test needs node 2 to follow")
		}
		mustPut(t, g, "a", "1")
		c.agree(2)
		f, _ := c.nodes[nodeID(2)].store.Group(2)
		for i := range 10 {
			release := hold()
			v := mustPut(t, g, "a", fmt.Sprint("x", i))
			c.await("the follower hears of the commit", time.Second, func() bool { return f.raft.CommitIndex() == g.raft.CommitIndex() })
			read := ask(f, ReadSpec{Level: Session, MinVersion: v}, "a", time.Second)
			synctest.Wait()
			select {
			case a := <-read:
				t.Fatalf("a session read at %d was answered %q at %d, %v while its version was not applied", v, valuesOf(a), a.version, a.err)
			default:
			}
			time.Sleep(10 * time.Millisecond)
			start := time.Now()
			release()
			a := <-read
			if a.err != nil || a.version < v || string(a.values[0].Data) != fmt.Sprint("x", i) || a.served != ByReplica {
				t.Fatalf("session read at %d: %q at %d, served %d, %v", v, valuesOf(a), a.version, a.served, a.err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("it was answered %v after its version was applied", took)
			}
		}
		if n := f.reads.size(); n != 0 {
			t.Errorf("%d keys of reads are left over", n)
		}
	})
}

// What waits when the group closes, or when its time is over, is answered once.
func TestWaitingSessionReadsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		hold := c.holdable(c.nodes[nodeID(2)])
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		c.agree(2)
		f, _ := c.nodes[nodeID(2)].store.Group(2)
		release := hold()
		defer release()
		v := mustPut(t, g, "a", "2")
		a := <-ask(f, ReadSpec{Level: Session, MinVersion: v}, "a", 5*time.Millisecond)
		if kverr.KindOf(a.err) != kverr.Deadline && kverr.KindOf(a.err) != kverr.NotLeader {
			t.Errorf("a session read past its time: %v", a.err)
		}
		read := ask(f, ReadSpec{Level: Session, MinVersion: v}, "a", time.Minute)
		f.reads.close(kverr.New(kverr.Closed, "closed"))
		if a := <-read; kverr.KindOf(a.err) != kverr.Closed {
			t.Errorf("a session read of a closed group: %v", a.err)
		}
		time.Sleep(time.Second) // its timer finds nothing to do
		if a := <-ask(f, ReadSpec{Level: Any}, "a", time.Second); kverr.KindOf(a.err) != kverr.Closed {
			t.Errorf("a read of a closed group: %v", a.err)
		}
	})
}

// R4: an index may be used for an age only from before its round began; and a
// leader that is not ready does not know what was acknowledged.
func TestR4_AgesAreThoseOfTheRoundsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		time.Sleep(time.Second)
		c.slowDown(40 * time.Millisecond)
		asked := g.store.opts.Clock.Boot()
		mustAsk(t, g, ReadSpec{}, "a", "1", ByLeader)
		if took := g.store.opts.Clock.Boot() - asked; took < 80*time.Millisecond {
			t.Fatalf("the round took %v; the test needs a slow one", took)
		}
		if known := g.known.Load(); known == nil || known.at != asked {
			t.Fatalf("the index is known as of %+v; its round began at %v", known, asked)
		}
		c.slowDown(0)
		// 50 ms would do if the answer's arrival counted.
		mustAsk(t, g, ReadSpec{Level: BoundedStale, MaxAge: 50 * time.Millisecond}, "a", "1", ByLeader)

		known := *g.known.Load()
		g.learn(known.at-1, known.index+7)
		if *g.known.Load() != known {
			t.Error("an older index replaced a newer one")
		}
	})
}
