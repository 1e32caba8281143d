package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

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
			if !bad.store.Barred(2, g.replica) || bad.store.Barred(2, g.replica+1) || bad.store.Barred(3, 300) {
				t.Fatal("another replica than the quarantined one is barred")
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
				// Its data stays when it is retired, and that is said, each time; a replica
				// that never was here is retired without a word of that.
				if name == "applied position gone" { // its record says what is its own
					if err := n.store.Retire(t.Context(), 2, 201); err != nil || n.traces(2, low) != nil || len(n.store.Quarantined()) != 0 {
						t.Errorf("retired: %v, %v, %+v", err, n.traces(2, low), n.store.Quarantined())
					}
					return
				}
				for range 2 {
					var e *kverr.Error
					err := n.store.Retire(t.Context(), 2, 201)
					if !errors.As(err, &e) || e.Kind != kverr.Internal || e.Shard != 2 || !strings.Contains(err.Error(), "its data stays in data") {
						t.Errorf("retired with an unreadable record: %v", err)
					}
					held = n.store.Quarantined()
					if len(held) != 1 || held[0].Shard != 2 || !strings.HasPrefix(held[0].Reason, "retired, but") {
						t.Errorf("quarantined then: %+v", held)
					}
				}
				if err := n.store.Retire(t.Context(), 9, 901); err != nil {
					t.Error(err)
				}
				if !n.store.Barred(2, 201) || !n.store.Barred(9, 901) {
					t.Error("a retired replica could run")
				}
			})
		})
	}
}

// A table that is damaged on disk costs the replicas that it holds, and no others:
// no wrong value is served, the replica is quarantined when somebody meets the
// damage, and its shard goes on. Boot reads the first block only, which is sound.
func TestADamagedTableQuarantinesTheReplicaInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
		c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
		n := c.nodes[nodeID(3)]
		written := make(map[string]string)
		for i := 0; len(written) < 300; i++ {
			if key := fmt.Sprint("key", i); low.Contains(shardmap.SlotOf([]byte(key))) {
				// Random, or compression would leave one block of it.
				value := make([]byte, 1024)
				rng := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
				_, _ = rng.Read(value)
				written[key] = string(value)
				mustPut(t, c.leader(2), key, string(value))
			}
		}
		c.agree(2)
		if err := n.store.state.Flush(); err != nil {
			t.Fatal(err)
		}
		n.crash()
		large := largeTables(t, n.fs) // a compaction may have left an obsolete one
		if len(large) == 0 {
			t.Fatal("no large table was written; the test shows nothing")
		}
		for name, content := range large {
			rewrite(t, n.fs, name, flipped(content, len(content)/2))
		}
		n.start()
		if held := n.store.Quarantined(); len(held) != 0 {
			t.Fatalf("boot met the damage, the test is about a running replica: %+v", held)
		}
		c.leader(2)
		c.leader(3)
		if _, _, err := n.group(2).Hash(); err == nil {
			t.Fatal("the damaged replica could be read")
		}
		c.await("the replica is quarantined", time.Minute, func() bool {
			held := n.store.Quarantined()
			return len(held) == 1 && held[0].Shard == 2
		})
		if _, state := n.store.DatabaseEvents(); state.Corruptions == 0 {
			t.Error("the damage that was met is not counted")
		}
		if _, runs := n.store.Group(3); !runs {
			t.Error("the sound shard does not run")
		}
		for key, value := range written {
			mustGet(t, c.leader(2), key, value)
		}
		mustPut(t, c.leader(2), keyIn(low), "w")
	})
}

// largeTables are the state database's tables of many blocks.
func largeTables(t *testing.T, fs vfs.FS) map[string][]byte {
	t.Helper()
	all, err := fs.List("data/state")
	if err != nil {
		t.Fatal(err)
	}
	large := make(map[string][]byte)
	for _, name := range all {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := fs.Open("data/state/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if len(b) > 64<<10 {
			large["data/state/"+name] = b
		}
	}
	return large
}

func flipped(content []byte, at int) []byte {
	content = bytes.Clone(content)
	content[at] ^= 0xff
	return content
}

func rewrite(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
