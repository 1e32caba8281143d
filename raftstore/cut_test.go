package raftstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// A removal takes nothing along of a neighbouring shard whose data beside the cut is
// damaged: the neighbour is found damaged and quarantined, and what it has stays. The
// node starts again, although the removal cannot be finished.
func TestARemovalBesideDamageTakesNothingAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
		c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
		n := c.nodes[nodeID(3)]
		for i := range 300 {
			key := fmt.Sprint("key", i)
			shard := shardmap.ShardID(3)
			if low.Contains(shardmap.SlotOf([]byte(key))) {
				shard = 2
			}
			mustPut(t, c.leader(shard), key, noise(i, 1024))
		}
		// The last value before the cut fills a block of its own.
		mustPut(t, c.leader(2), keyIn(shardmap.Arc{From: 7999, To: 8000}), noise(1000, 16<<10))
		c.agree(2)
		c.agree(3)
		if err := n.store.state.Flush(); err != nil {
			t.Fatal(err)
		}
		last := n.lastValueBefore(8000)
		n.crash()
		damage := 0
		for name, content := range largeTables(t, n.fs) {
			for at := range len(content) - len(last) {
				if string(content[at:at+16]) == string(last[len(last)-500:len(last)-484]) {
					rewrite(t, n.fs, name, flipped(content, at))
					damage++
				}
			}
		}
		if damage == 0 {
			t.Fatal("the last value was found in no table")
		}
		n.start()
		if _, runs := n.store.Group(3); !runs {
			t.Fatalf("a sound replica is lost for its neighbour's damage: %+v", n.store.Quarantined())
		}
		keys := n.keysOf(low)
		if err := n.store.Retire(context.Background(), 3, 302); !damaged(err) {
			t.Errorf("the removal that meets damage: %v", err)
		}
		c.await("the damaged neighbour is quarantined", time.Minute, func() bool {
			held := n.store.Quarantined()
			return len(held) == 1 && held[0].Shard == 2
		})
		n.crash()
		n.start()
		if got := n.keysOf(low); got != keys || keys < 10 {
			t.Errorf("the neighbour has %d readable keys of %d", got, keys)
		}
		if _, runs := n.store.Group(3); runs {
			t.Error("the retired replica runs")
		}
		mustPut(t, c.leader(2), keyIn(low), "w")
	})
}

// noise is a value that no compression makes smaller.
func noise(seed, size int) string {
	value := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = rng.Read(value)
	return string(value)
}

// lastValueBefore is the last value before a slot.
func (n *testNode) lastValueBefore(slot shardmap.Slot) []byte {
	n.cluster.t.Helper()
	from, _ := state.Span(shardmap.Arc{From: slot, To: slot + 1})
	it, err := n.store.state.NewIter(&pebble.IterOptions{UpperBound: from})
	if err != nil || !it.Last() {
		n.cluster.t.Fatalf("no value before slot %d: %v", slot, err)
	}
	defer it.Close()
	v, err := it.ValueAndErr()
	if err != nil {
		n.cluster.t.Fatal(err)
	}
	return append([]byte(nil), v...)
}

// keysOf counts the keys of an arc up to the first that cannot be read.
func (n *testNode) keysOf(arc shardmap.Arc) (keys int) {
	from, to := state.Span(arc)
	it, err := n.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		n.cluster.t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		keys++
	}
	return keys
}
