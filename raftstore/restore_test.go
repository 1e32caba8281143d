package raftstore

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// tinyLogs makes nodes cut their logs after little, so that snapshots are needed.
func tinyLogs(c *testCluster) {
	for _, n := range c.nodes {
		n.stop()
		n.listen()
	}
	for _, n := range c.nodes {
		n.opts = func(o *Options) {
			o.LogBytesPerShard, o.MaxLogBytes, o.FlushBytes = 32<<10, 128<<10, 32<<10
			o.FlushInterval = time.Second
		}
		n.start()
	}
}

// fill writes n values of a KiB and returns what they were.
func fill(t *testing.T, g *Group, prefix string, n int) map[string]string {
	t.Helper()
	written := make(map[string]string, n)
	for i := range n {
		key, value := fmt.Sprint(prefix, i), fmt.Sprint(prefix, i, strings.Repeat(".", 1024))
		mustPut(t, g, key, value)
		written[key] = value
	}
	return written
}

// cutLogs waits until the leader's log no longer reaches a follower.
func cutLogs(c *testCluster, g *Group, beyond uint64) {
	c.t.Helper()
	c.await("the leader's log is cut", time.Minute, func() bool {
		first, _ := g.log.FirstIndex()
		return first > beyond
	})
}

func (n *testNode) group(shard shardmap.ShardID) *Group {
	g, ok := n.store.Group(shard)
	if !ok {
		n.cluster.t.Fatalf("node %s does not run shard %d", n.id.Short(), shard)
	}
	return g
}

func TestAFollowerBehindTheLogGetsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "gone", "soon")
		behind := c.nodes[nodeID(3)]
		behind.crash()
		written := fill(t, g, "k", 400)
		cutLogs(c, g, 100)
		behind.start()
		more := fill(t, g, "later", 100) // while it catches up
		c.agree(2)
		stats := g.store.opts.Network.Stats()
		if stats.SnapshotsSent == 0 {
			t.Error("it caught up without a snapshot: the test shows nothing")
		}
		// What it was given it can serve, after a crash of its own, too.
		behind.crash()
		behind.start()
		mustPut(t, c.leader(2), "one", "more") // it is in touch again when it has this
		c.agree(2)
		if err := c.leader(2).TransferLeadership(t.Context(), behind.id); err != nil {
			t.Fatal(err)
		}
		c.await("the restored replica leads", 20*time.Second, func() bool { return behind.group(2).Status().Ready })
		for _, all := range []map[string]string{written, more} {
			for k, v := range all {
				mustGet(t, behind.group(2), k, v)
			}
		}
	})
}

// A crash of the receiver at any step of an install, with any share of its
// unsynced bytes on disk, ends in a replica that agrees with the others.
func TestL2_ACrashAtAnyStepOfAnIngestLeavesASoundReplica(t *testing.T) {
	steps := []failpoint.Name{
		failpoint.SnapshotStaging, failpoint.SnapshotFileKept, failpoint.SnapshotStaged,
		failpoint.IngestMarked, failpoint.IngestFlushed, failpoint.IngestDone, failpoint.IngestLogged, failpoint.IngestCleaned,
	}
	for _, at := range steps {
		for _, percent := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("%s/%d", at, percent), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newTestCluster(t, 3)
					tinyLogs(c)
					c.create(record(2, wholeRing, 1, 2, 3))
					g := c.leader(2)
					fill(t, g, "early", 50)
					c.agree(2)
					behind := c.nodes[nodeID(3)]
					c.isolate(behind.id, true)
					fill(t, g, "k", 300)
					cutLogs(c, g, 100)
					cut := behind.cutPowerAt(at, percent, rand.Uint64())
					c.isolate(behind.id, false)
					c.await("the crash", time.Minute, cut.struck)
					cut.restart()
					fill(t, g, "late", 20)
					c.agree(2)
					if held := behind.store.Quarantined(); len(held) > 0 {
						t.Errorf("a sound replica was quarantined: %+v", held)
					}
					if s := behind.store.staging.Stats(); s.Bytes != 0 {
						t.Errorf("%d bytes of stagings are left", s.Bytes)
					}
				})
			})
		}
	}
}

// The sender may die at any byte as well: another leader sends another snapshot.
func TestASnapshotsSourceMayCrash(t *testing.T) {
	for _, at := range []failpoint.Name{failpoint.SnapshotOpened, failpoint.SnapshotFileSent} {
		t.Run(string(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newTestCluster(t, 3)
				tinyLogs(c)
				c.create(record(2, wholeRing, 1, 2, 3))
				g := c.leader(2)
				behind := c.nodes[nodeID(3)]
				c.isolate(behind.id, true)
				fill(t, g, "k", 300)
				cutLogs(c, g, 100)
				c.await("both logs are cut", time.Minute, func() bool {
					first, _ := c.nodes[nodeID(2)].group(2).log.FirstIndex()
					return first > 100
				})
				source := c.nodes[g.store.opts.Self]
				cut := source.cutPowerAt(at, 0, 1)
				c.isolate(behind.id, false)
				c.await("the crash", time.Minute, cut.struck)
				cut.restart()
				next := c.leader(2)
				c.await("its logs are within their bound", time.Minute, func() bool { return !next.store.logsFull.Load() })
				fill(t, next, "late", 20)
				c.agree(2)
			})
		})
	}
}

// L4: a snapshot that does not bring the replica forward must not reach raft, at
// the offer or later.
func TestL4_AnOldSnapshotIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		fill(t, g, "k", 5)
		applied := g.Status().Applied
		if err := g.admits(g.replica, applied); err == nil {
			t.Error("a snapshot at the applied index was let in")
		}
		if err := g.admits(g.replica, applied-1); err == nil {
			t.Error("an older snapshot was let in")
		}
		if err := g.admits(g.replica+1, applied+10); err == nil {
			t.Error("another replica's snapshot was let in")
		}
		if err := g.admits(g.replica, applied+1); err != nil {
			t.Errorf("a newer snapshot was refused: %v", err)
		}
	})
}

// A few large entries may be more than the bound. Who is refused then is let in again
// when nobody writes.
func TestLargeEntriesDoNotCloseTheLogForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		refused := 0
		for i := range 2 * keptEntries {
			err := <-propose(c.leader(2), fmt.Sprint("k", i), strings.Repeat("x", 20<<10))
			switch {
			case kverr.KindOf(err) == kverr.Overloaded:
				refused++
				time.Sleep(2 * flushLook)
			case err != nil:
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for _, n := range c.nodes {
			if got := n.store.flusher.logBytes(); got > n.store.opts.MaxLogBytes {
				t.Errorf("the logs of %s have %d bytes", n.id.Short(), got)
			}
		}
		mustPut(t, c.leader(2), "after", "it")
		c.agree(2)
		if refused > keptEntries {
			t.Errorf("%d of %d puts were refused", refused, 2*keptEntries)
		}
	})
}

func TestLogsStayWithinTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1, 2, 3), record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 2, 3, 1))
		most := int64(0)
		for i := range 2000 {
			key := fmt.Sprint("k", i)
			shard := shardmap.ShardID(2)
			if shardmap.SlotOf([]byte(key)) >= 8000 {
				shard = 3
			}
			mustPut(t, c.leader(shard), key, strings.Repeat("x", 1024))
			if i%50 == 0 {
				time.Sleep(flushLook + flushLook/10) // the scheduler has its turns
			}
			for _, n := range c.nodes {
				most = max(most, n.store.flusher.logBytes())
			}
		}
		// Two MiB were written to each node, 50 KiB between two looks.
		if limit := int64(192 << 10); most > limit {
			t.Errorf("the logs of a node reached %d bytes; want at most %d", most, limit)
		}
		c.agree(2)
		c.agree(3)
	})
}

// After an ingest that failed the leader sends another snapshot, and that one is
// let in.
func TestAFailedIngestIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		behind := c.nodes[nodeID(3)]
		c.isolate(behind.id, true)
		fill(t, g, "k", 300)
		cutLogs(c, g, 100)
		var spoiled atomic.Bool
		behind.fail.Hook(func(at failpoint.Name) {
			if at != failpoint.IngestFlushed || !spoiled.CompareAndSwap(false, true) {
				return
			}
			staged, err := behind.fs.List("data/staging")
			if err != nil {
				t.Error(err)
			}
			for _, dir := range staged {
				if err := behind.fs.RemoveAll("data/staging/" + dir); err != nil {
					t.Error(err)
				}
			}
		})
		c.isolate(behind.id, false)
		c.await("the spoiled ingest", time.Minute, spoiled.Load)
		fill(t, c.leader(2), "late", 20)
		c.agree(2)
	})
}

// A group that is restarted while it ingests cannot tell its transport how that
// ended. What had been staged for an ingest that failed is given back all the same,
// or it would keep every later snapshot of the shard out.
func TestAnIngestThatFailsInARestartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		behind := c.nodes[nodeID(3)]
		c.isolate(behind.id, true)
		fill(t, g, "k", 300)
		cutLogs(c, g, 100)
		var spoiled atomic.Bool
		restarted := make(chan error, 1)
		behind.fail.Hook(func(at failpoint.Name) {
			if at != failpoint.IngestFlushed || !spoiled.CompareAndSwap(false, true) {
				return
			}
			staged, err := behind.fs.List("data/staging")
			if err != nil {
				t.Error(err)
			}
			for _, dir := range staged {
				if err := behind.fs.RemoveAll("data/staging/" + dir); err != nil {
					t.Error(err)
				}
			}
			go func() { restarted <- behind.store.restart(behind.group(2), "test") }()
			time.Sleep(time.Second) // by then the transport is closed; raft waits for the ingest
		})
		c.isolate(behind.id, false)
		c.await("the spoiled ingest", time.Minute, spoiled.Load)
		if err := <-restarted; err != nil {
			t.Fatal(err)
		}
		fill(t, c.leader(2), "late", 20)
		c.agree(2)
		if s := behind.store.staging.Stats(); s.Bytes != 0 || s.Complete != 0 {
			t.Errorf("left of stagings: %+v", s)
		}
	})
}
