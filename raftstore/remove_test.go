package raftstore

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// traces says what is left of a shard on a node.
func (n *testNode) traces(shard shardmap.ShardID, arc shardmap.Arc) []string {
	var left []string
	if _, runs := n.store.Group(shard); runs {
		left = append(left, "it runs")
	}
	if info := n.store.log.Info(uint64(shard)); info.Exists {
		left = append(left, fmt.Sprintf("log %+v", info))
	}
	from, to := state.Span(arc)
	it, err := n.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		n.cluster.t.Fatal(err)
	}
	defer it.Close()
	if it.First() {
		left = append(left, fmt.Sprintf("key %x", it.Key()))
	}
	return left
}

// A crash at any step of a removal is finished by the next start, and nothing of
// the replica is left. Its id stays retired for ever.
func TestL2_ARemovalSurvivesACrashAtAnyStep(t *testing.T) {
	steps := []failpoint.Name{
		failpoint.RemovalStopped, failpoint.RemovalTombstoned, failpoint.RemovalExcised, failpoint.RemovalNoted,
	}
	for _, at := range steps {
		for _, percent := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s/%d", at, percent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newTestCluster(t, 3)
					low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
					c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
					key := keyIn(low)
					mustPut(t, c.leader(2), key, "v")
					c.leader(3)
					n := c.nodes[nodeID(3)]
					cut := n.cutPowerAt(at, percent, uint64(percent))
					if err := n.store.Retire(context.Background(), 2, 202); err != nil {
						t.Fatal(err)
					}
					if !cut.struck() {
						t.Fatal("the failpoint was not visited")
					}
					cut.restart()
					if at == failpoint.RemovalStopped { // nothing was promised yet
						if err := n.store.Retire(context.Background(), 2, 202); err != nil {
							t.Fatal(err)
						}
					}
					if left := n.traces(2, low); left != nil {
						t.Errorf("left of the replica: %v", left)
					}
					if _, runs := n.store.Group(3); !runs {
						t.Error("the other shard does not run")
					}
					for range 2 {
						err := n.store.Create(context.Background(), []shardmap.Record{record(2, low, 1, 2, 3)})
						if kverr.KindOf(err) != kverr.Conflict {
							t.Fatalf("a retired replica was born again: %v", err)
						}
						n.crash()
						n.start()
					}
					mustPut(t, c.leader(2), key, "w") // the two others go on
				})
			})
		}
	}
}

// F3: an order for a replica that never was here counts as well.
func TestF3_AReplicaCanBeRetiredBeforeItExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		if err := n.store.Retire(context.Background(), 2, 200); err != nil {
			t.Fatal(err)
		}
		n.crash()
		n.start()
		if err := n.store.Create(context.Background(), []shardmap.Record{record(2, wholeRing, 1)}); kverr.KindOf(err) != kverr.Conflict {
			t.Fatalf("it was born: %v", err)
		}
		if left := n.traces(2, wholeRing); left != nil {
			t.Errorf("the refused birth left %v", left)
		}
		// Another replica of the shard is another matter.
		rec := record(2, wholeRing, 1)
		rec.Replicas[0].ID = 999
		if err := n.store.Create(context.Background(), []shardmap.Record{rec}); err != nil {
			t.Fatal(err)
		}
		mustPut(t, c.leader(2), "a", "1")
	})
}

// A replica may be replaced by another one of the same shard on the same node: it
// has none of its predecessor's votes, log or data.
func TestARetiredReplicasSuccessorStartsBlank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		if err := n.store.Create(context.Background(), []shardmap.Record{record(2, wholeRing, 1)}); err != nil {
			t.Fatal(err)
		}
		mustPut(t, c.leader(2), "a", "1")
		if err := n.store.Retire(context.Background(), 2, 200); err != nil {
			t.Fatal(err)
		}
		rec := record(2, wholeRing, 1)
		rec.Replicas[0].ID = 999
		if err := n.store.Create(context.Background(), []shardmap.Record{rec}); err != nil {
			t.Fatal(err)
		}
		if v, err := get(c.leader(2), "a"); err != nil || v.Found {
			t.Errorf("the successor answers %+v, %v", v, err)
		}
		n.crash()
		n.start()
		if g := c.leader(2); g.replica != 999 {
			t.Errorf("replica %d runs", g.replica)
		}
	})
}

// While a removal runs, callers of the replica are answered.
func TestARemovalAnswersWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		self := c.nodes[g.store.opts.Self]
		for id := range c.nodes {
			c.isolate(id, true)
		}
		answered := make(chan error, 1)
		go func() {
			_, err := put(g, "a", "1")
			answered <- err
		}()
		synctest.Wait()
		if err := self.store.Retire(context.Background(), 2, g.replica); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := <-answered; kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("the writer was told %v; want outcome unknown", err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("the writer waited %v longer", took)
		}
	})
}
