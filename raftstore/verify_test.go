package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// mark proposes a verification and waits until it is applied.
func mark(t *testing.T, g *Group, id state.VerifyID) {
	t.Helper()
	ch := make(chan error, 1)
	g.Propose(&Write{
		Ops: []state.Op{{Kind: state.OpVerify, Key: id[:]}}, Deadline: time.Now().Add(5 * time.Second),
		Done: func(r []state.Result, _ uint64, err error) {
			if err == nil && r[0].Verdict != state.Applied {
				err = errors.New(r[0].Verdict.String())
			}
			ch <- err
		},
	})
	if err := received(t, ch); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, n *testNode, shard shardmap.ShardID, id state.VerifyID) *Verification {
	t.Helper()
	w, err := n.store.ExpectVerify(shard, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// received receives in time, or fails the test.
func received[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came in 10 s")
		panic("unreachable")
	}
}

// snapshots is how many are open in a node's state database.
func snapshots(n *testNode) int { return n.store.state.Metrics().Snapshots.Count }

// Replicas are hashed at one index while writes go on, also one that applies that
// index in the middle of a long backlog.
func TestVerifyTakesOneIndexOnAllReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		late := nodeID(3)
		c.isolate(late, true)
		id := state.VerifyID{7}
		var waits []*Verification
		for _, n := range c.nodes {
			waits = append(waits, expect(t, n, 2, id))
		}
		for i := range 20 {
			mustPut(t, g, fmt.Sprint("before", i), "v")
		}
		stop := make(chan struct{})
		var load sync.WaitGroup
		for w := range 8 {
			load.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						mustPut(t, g, fmt.Sprint("k", w, i%10), fmt.Sprint(i))
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		quiet := sync.OnceFunc(func() { close(stop); load.Wait() })
		defer quiet()
		time.Sleep(50 * time.Millisecond)
		mark(t, g, id)
		time.Sleep(50 * time.Millisecond)
		c.isolate(late, false)
		var first Verified
		for _, w := range waits {
			index := received(t, w.Taken())
			got := received(t, w.Done())
			if got.Err != nil || got.Index != index || got.Keys < 20 {
				t.Fatalf("%+v at %d", got, index)
			}
			if first.Index == 0 {
				first = got
			}
			if got.Index != first.Index || got.Digest != first.Digest {
				t.Errorf("replica %d: %+v; replica %d: %+v", got.Replica, got, first.Replica, first)
			}
		}
		quiet()
		if applied := g.Status().Applied; applied <= first.Index {
			t.Errorf("nothing was written meanwhile: applied %d, hashed at %d", applied, first.Index)
		}
		for _, n := range c.nodes {
			if left := snapshots(n); left != 0 {
				t.Errorf("%d snapshots left open", left)
			}
		}
	})
}

// What one replica has and the others have not is found.
func TestVerifyFindsADifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		planted := state.DataKey(nil, 77, []byte("planted"))
		if err := c.nodes[nodeID(2)].store.state.Set(planted, []byte("x"), pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		id := state.VerifyID{1}
		digests := map[state.Digest][]shardmap.NodeID{}
		var waits []*Verification
		var nodes []shardmap.NodeID
		for nid, n := range c.nodes {
			waits, nodes = append(waits, expect(t, n, 2, id)), append(nodes, nid)
		}
		mark(t, g, id)
		for i, w := range waits {
			got := received(t, w.Done())
			if got.Err != nil {
				t.Fatal(got.Err)
			}
			digests[got.Digest] = append(digests[got.Digest], nodes[i])
		}
		if len(digests) != 2 {
			t.Fatalf("digests %v", digests)
		}
		for _, who := range digests {
			if len(who) == 1 && who[0] != nodeID(2) {
				t.Errorf("node %s is the odd one", who[0].Short())
			}
		}
	})
}

// An entry for which nobody waits costs nothing: not when it is applied, and not
// when it is replayed after a restart.
func TestVerifyHashesOnlyForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		id := state.VerifyID{1}
		mark(t, c.leader(2), id)
		n := c.nodes[nodeID(1)]
		n.crash()
		n.start()
		w := expect(t, n, 2, state.VerifyID{2})
		mustPut(t, c.leader(2), "a", "1")
		select {
		case <-w.Taken():
			t.Fatal("another entry was taken for the one waited for")
		default:
		}
		// The same id again: its entry has been, and the next one counts.
		again := expect(t, n, 2, id)
		mark(t, c.leader(2), id)
		first := received(t, again.Done())
		mark(t, c.leader(2), id)
		if first.Err != nil || first.Index == 0 {
			t.Fatalf("%+v", first)
		}
		if left := snapshots(n); left != 0 {
			t.Errorf("%d snapshots left open", left)
		}
	})
}

func TestVerifyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		c.leader(2)
		n := c.nodes[nodeID(1)]
		if _, err := n.store.ExpectVerify(9, state.VerifyID{}); kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("a shard that is not here: %v", err)
		}
		var waits []*Verification
		for i := range maxVerifications {
			waits = append(waits, expect(t, n, 2, state.VerifyID{byte(i)}))
		}
		if _, err := n.store.ExpectVerify(2, state.VerifyID{99}); kverr.KindOf(err) != kverr.Overloaded {
			t.Errorf("one too many: %v", err)
		}
		waits[0].Close()
		if _, err := n.store.ExpectVerify(2, state.VerifyID{1}); kverr.KindOf(err) != kverr.Conflict {
			t.Errorf("the same id twice: %v", err)
		}
		expect(t, n, 2, state.VerifyID{99})

		// The end of the store ends all waits, and refuses new ones.
		store := n.store
		n.stop()
		if got := received(t, waits[1].Done()); kverr.KindOf(got.Err) != kverr.Closed {
			t.Errorf("after the stop: %+v", got)
		}
		if _, err := store.ExpectVerify(2, state.VerifyID{100}); err == nil {
			t.Error("a stopped store takes verifications")
		}
	})
}

// Whoever gives up frees the snapshot, whether the hash has begun or not.
func TestVerifyEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		w := expect(t, c.nodes[nodeID(1)], 2, state.VerifyID{1})
		w.Close()
		mark(t, g, state.VerifyID{1})
		synctest.Wait()
		select {
		case <-w.Taken():
			t.Error("taken for nobody")
		default:
		}
		w = expect(t, c.nodes[nodeID(1)], 2, state.VerifyID{2})
		w.end() // as Close does, while the entry is on its way
		mark(t, g, state.VerifyID{2})
		if got := received(t, w.Done()); kverr.KindOf(got.Err) != kverr.Closed || got.Digest != (state.Digest{}) {
			t.Errorf("hashed for nobody: %+v", got)
		}
		if left := snapshots(c.nodes[nodeID(1)]); left != 0 {
			t.Errorf("%d snapshots left open", left)
		}
	})
}

// An excise removes keys from older snapshots too. A hash of what it left would
// be taken for a difference between replicas.
func TestVerifyNoticesThatItsStateWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		s := g.store
		for _, excise := range []bool{false, true} {
			w := &Verification{
				owner: s.verifier, key: verifyKey{shard: 2}, life: context.Background(), group: g, index: g.Status().Applied,
				view: s.state.NewSnapshot(),
			}
			if excise {
				from, to := state.Span(wholeRing)
				if err := s.state.Excise(context.Background(), pebble.KeyRange{Start: from, End: to}); err != nil {
					t.Fatal(err)
				}
			}
			got := w.hash()
			if excise != (kverr.KindOf(got.Err) == kverr.Unavailable) || excise != (got.Digest == state.Digest{}) {
				t.Errorf("excised %t: %+v", excise, got)
			}
		}
	})
}
