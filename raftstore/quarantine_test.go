package raftstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// A quarantined replica neither serves nor votes, now and after restarts; the
// shard goes on with the others, and so do the node's other shards.
func TestAQuarantinedReplicaNeitherServesNorVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
		c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, keyIn(low), "v")
		bad := c.nodes[g.store.opts.Self] // the leader, of all
		bad.store.quarantineRunning(g, errors.New("a test says so"))
		next := c.leader(2, bad.id)
		mustPut(t, next, keyIn(low), "w")
		for range 2 {
			if held := bad.store.Quarantined(); len(held) != 1 || held[0].Shard != 2 || held[0].Reason != "a test says so" {
				t.Fatalf("quarantined: %+v", held)
			}
			if _, runs := bad.store.Group(2); runs {
				t.Fatal("it runs")
			}
			if _, runs := bad.store.Group(3); !runs {
				t.Fatal("the other shard does not run")
			}
			if err := bad.store.Create(context.Background(), []shardmap.Record{record(2, low, 1, 2, 3)}); kverr.KindOf(err) != kverr.Conflict {
				t.Fatalf("it was born again: %v", err)
			}
			bad.crash()
			bad.start()
		}
		// With one of the two sound replicas gone there is no quorum: the quarantined
		// one would make it, if it voted.
		other := c.nodes[next.store.opts.Self]
		var third *testNode
		for id, n := range c.nodes {
			if id != bad.id && id != other.id {
				third = n
			}
		}
		c.isolate(third.id, true)
		time.Sleep(10 * time.Second)
		if _, err := put(next, keyIn(low), "x"); err == nil {
			t.Error("a write was acknowledged with the quarantined replica's help")
		}
		c.isolate(third.id, false)
		mustPut(t, c.leader(2, bad.id), keyIn(low), "y")
		// Retiring it takes what was kept.
		if err := bad.store.Retire(context.Background(), 2, g.replica); err != nil {
			t.Fatal(err)
		}
		if left := bad.traces(2, low); left != nil || len(bad.store.Quarantined()) != 0 {
			t.Errorf("left after its retirement: %v, %+v", left, bad.store.Quarantined())
		}
	})
}

// What boot cannot trust is quarantined, replica by replica.
func TestL2_BootQuarantinesADamagedRecord(t *testing.T) {
	low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
	for name, damage := range map[string]func(w *pebble.Batch) error{
		"record cut short": func(w *pebble.Batch) error {
			return w.Set(state.RecordKey(0), []byte{1}, nil)
		},
		"applied position gone": func(w *pebble.Batch) error {
			return w.Delete(state.AppliedKey(0), nil)
		},
		"record gone": func(w *pebble.Batch) error {
			return w.Delete(state.RecordKey(0), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 3)
				c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
				mustPut(t, c.leader(2), keyIn(low), "v")
				c.leader(3)
				n := c.nodes[nodeID(2)]
				batch := n.store.state.NewBatch()
				if err := errors.Join(damage(batch), batch.Commit(pebble.NoSync), n.store.state.Flush()); err != nil {
					t.Fatal(err)
				}
				n.crash()
				n.start()
				held := n.store.Quarantined()
				if len(held) != 1 || held[0].Shard != 2 || held[0].Replica != 201 {
					t.Fatalf("quarantined: %+v", held)
				}
				t.Log(held[0].Reason)
				if _, runs := n.store.Group(3); !runs {
					t.Error("the sound shard does not run")
				}
				mustPut(t, c.leader(2), keyIn(low), "w")
			})
		})
	}
}
