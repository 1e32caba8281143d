package raftstore

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// The earliest deadline of each slot is all that counts, and no slot is forgotten.
func TestDeadlinesAreTakenInTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d deadlines
		want := make(map[shardmap.Slot]uint64)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			slot := shardmap.Slot(rapid.IntRange(0, 9).Draw(t, "slot"))
			at := rapid.Uint64Range(1, 50).Draw(t, "deadline")
			if rapid.IntRange(0, 3).Draw(t, "take") > 0 {
				d.note(slot, at)
				if old, ok := want[slot]; !ok || at < old {
					want[slot] = at
				}
				continue
			}
			last := uint64(0)
			for _, s := range d.take(at, rapid.IntRange(1, 5).Draw(t, "limit")) {
				if s.deadline > at || s.deadline < last || want[s.slot] != s.deadline {
					t.Fatalf("took %+v at %d after %d, want %v", s, at, last, want)
				}
				last = s.deadline
				delete(want, s.slot)
			}
			if len(d.byTime) > 2*len(d.at)+16 {
				t.Fatalf("%d items for %d slots", len(d.byTime), len(d.at))
			}
		}
		for _, s := range d.take(50, 100) {
			if want[s.slot] != s.deadline {
				t.Fatalf("%+v, want %v", s, want)
			}
			delete(want, s.slot)
		}
		if len(want) != 0 {
			t.Fatalf("forgotten: %v", want)
		}
	})
}

func do(g *Group, op state.Op) (state.Result, error) {
	type answer struct {
		results []state.Result
		err     error
	}
	got := make(chan answer, 1)
	g.Propose(&Write{Ops: []state.Op{op}, Deadline: time.Now().Add(10 * time.Second),
		Done: func(results []state.Result, _ uint64, err error) { got <- answer{results, err} }})
	a := <-got
	if a.err != nil {
		return state.Result{}, a.err
	}
	return a.results[0], nil
}

func brief(key string, ttl time.Duration) state.Op {
	return state.Op{Kind: state.OpPut, Key: []byte(key), Value: []byte("v"), Expiry: state.ExpireAfter, TTL: uint64(ttl.Microseconds())}
}

// indexed is how many entries a replica's index of deadlines has.
func indexed(t *testing.T, g *Group) (n int) {
	t.Helper()
	from, to := state.Span(g.Record().Arc)
	err := kvReader{g.store.state}.Scan(from, to, func(key, _ []byte) error {
		if _, _, _, ok := state.ParseDeadlineKey(key); ok {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A key is there until its time has come and gone a second later, also when its
// leader is new or the whole cluster was down meanwhile.
func TestDueKeysAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		defer c.stop()
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		for _, key := range []string{"a", "b", "c", "d"} {
			if _, err := do(g, brief(key, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := do(g, brief("late", time.Hour)); err != nil {
			t.Fatal(err)
		}
		mustPut(t, g, "d", "for ever") // its index entry stays until it is due
		time.Sleep(4*time.Second + 700*time.Millisecond)
		mustGet(t, g, "a", "v")
		time.Sleep(time.Second + 10*time.Millisecond)
		for _, key := range []string{"a", "b", "c"} {
			if v, err := get(g, key); err != nil || v.Found {
				t.Fatalf("%s: %+v, %v", key, v, err)
			}
		}
		mustGet(t, g, "d", "for ever")
		mustGet(t, g, "late", "v")
		if n := indexed(t, g); n != 1 {
			t.Errorf("%d entries in the index", n)
		}
		if n := g.store.expirer.expired.Load(); n != 3 {
			t.Errorf("%d keys expired", n)
		}
		c.agree(2)
	})
}

// Many keys that are due at once are gone within the second, too.
func TestManyDueKeysAreSweptInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		defer c.stop()
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		const n = 12 * expireBatch
		ops := make([]state.Op, n)
		for i := range ops {
			ops[i] = brief(fmt.Sprint("k", i), 5*time.Second)
		}
		done := make(chan error, 1)
		g.Propose(&Write{Ops: ops, Deadline: time.Now().Add(time.Minute), Done: func(_ []state.Result, _ uint64, err error) { done <- err }})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := indexed(t, g); got != n {
			t.Fatalf("%d entries in the index", got)
		}
		time.Sleep(6*time.Second + 5*time.Millisecond)
		if got := indexed(t, g); got != 0 {
			t.Errorf("%d of %d keys are there a second after their deadline", got, n)
		}
	})
}

// Who leads after a restart of everybody, or after a failover, knows what is due
// from the index; nobody told it.
func TestDueKeysAreSweptByALaterLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		defer c.stop()
		c.create(record(2, wholeRing, 1, 2, 3))
		for i := range 20 {
			if _, err := do(c.leader(2), brief(fmt.Sprint("k", i), 30*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range c.nodes {
			if err := n.store.state.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range c.nodes {
			n.crash()
		}
		for _, n := range c.nodes {
			n.start()
		}
		g := c.leader(2)
		time.Sleep(10 * time.Second)
		mustGet(t, g, "k7", "v")
		time.Sleep(30*time.Second + 30*time.Millisecond)
		if n := indexed(t, g); n != 0 {
			t.Errorf("%d entries in the index", n)
		}
		mustPut(t, g, "last", "v") // what is swept is applied everywhere before this
		c.agree(2)
	})
}

// A leader's linearizable read does not wait for its turn to notice that a key is
// due; a read of what is applied shows the key until its expiry is.
func TestALinearizableReadShowsNoDueKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		defer c.stop()
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		g.sweeping.Store(true) // nobody else sweeps
		for _, key := range []string{"a", "b"} {
			if _, err := do(g, brief(key, time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second + 7*time.Millisecond)
		if n := indexed(t, g); n != 2 {
			t.Fatalf("%d entries in the index: somebody sweeps, and this test shows nothing", n)
		}
		if v, err := get(g, "a"); err != nil || v.Found {
			t.Fatalf("%+v, %v", v, err)
		}
		if n := indexed(t, g); n != 1 {
			t.Errorf("%d entries in the index", n)
		}
		applied := &Read{ReadSpec: ReadSpec{Level: Any}, Keys: [][]byte{[]byte("b")}, Deadline: time.Now().Add(time.Second)}
		found := make(chan bool, 1)
		applied.Done = func(values []Value, _ uint64, err error) { found <- err == nil && values[0].Found }
		g.Get(applied)
		if !<-found {
			t.Error("a key is gone before its expiry is applied")
		}
	})
}

// A deadline is noted when the index has it. One that is noted earlier goes with the
// slot to whoever sweeps it that moment, who does not find it, and nobody would ever
// look for it again.
func TestADeadlineIsNotedAfterItIsIndexed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		defer c.stop()
		n := c.nodes[nodeID(1)]
		var armed atomic.Bool
		locked := make(chan *Group, 1)
		n.stop()
		n.opts = func(o *Options) {
			o.BeforeApply = func(shard shardmap.ShardID) {
				if shard == 2 && armed.CompareAndSwap(true, false) {
					g, _ := n.store.Group(2)
					g.deadlines.mu.Lock()
					locked <- g
				}
			}
		}
		n.listen()
		n.start()
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "before", "v")
		armed.Store(true)
		put := brief("a", time.Hour)
		done := make(chan error, 1)
		g.Propose(&Write{Ops: []state.Op{put}, Deadline: time.Now().Add(time.Minute),
			Done: func(_ []state.Result, _ uint64, err error) { done <- err }})
		<-locked
		// Whoever would note it waits now, and time stands still for that long.
		key := state.DataKey(nil, state.SlotFor(2, put.Key), put.Key)
		indexed := false
		for tries := 0; !indexed && tries < 1<<20; tries++ {
			var err error
			if _, indexed, err = (kvReader{g.store.state}).Get(key); err != nil {
				t.Error(err)
			}
			runtime.Gosched()
		}
		g.deadlines.mu.Unlock()
		if !indexed {
			t.Error("the deadline is noted before the index has it")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
