package raftstore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// P10: a leader whose disk answers reads with errors ends, and others serve.
func TestAReadErrorEndsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		c.agree(2)
		n := c.nodes[g.store.opts.Self]
		if err := n.store.state.Flush(); err != nil {
			t.Fatal(err)
		}
		n.stop()
		var bad atomic.Bool
		n.opts = func(o *Options) {
			o.FS = errorfs.Wrap(n.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if bad.Load() && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
					return syscall.EIO
				}
				return nil
			}))
			o.CacheBytes = 1
		}
		n.listen()
		n.start()
		n.mayDie = true
		c.leader(2)
		for c.leader(2) != n.group(2) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			err := c.leader(2).TransferLeadership(ctx, n.id)
			cancel()
			if err != nil {
				time.Sleep(time.Second)
			}
		}
		bad.Store(true)
		if _, err := get(n.group(2), "a"); err == nil {
			t.Fatal("the read succeeded; nothing is proved")
		}
		if err := n.awaitDeath(); !errors.Is(err, syscall.EIO) {
			t.Errorf("it died of: %v", err)
		}
		n.crash()
		mustGet(t, c.leader(2), "a", "1")
	})
}

// A full disk holds the flush before an ingest up. Raft's loop waits for the ingest,
// so it is given up after a while, and begun anew when there is space.
func TestAnIngestIsGivenUpOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		n := c.nodes[nodeID(3)]
		tinyLogs(c)
		n.stop()
		disk, err := quotafs.New(n.fs, "data", 100<<20)
		if err != nil {
			t.Fatal(err)
		}
		tiny := n.opts
		n.opts = func(o *Options) {
			tiny(o)
			o.FS, o.BallastBytes = disk, -1
		}
		n.listen()
		n.start()
		c.create(record(2, wholeRing, 1, 2, 3))
		c.agree(2)
		c.isolate(n.id, true)
		fill(t, c.leader(2), "k", 300)
		cutLogs(c, c.leader(2), 100)
		var filled atomic.Bool
		n.fail.Hook(func(at failpoint.Name) {
			if at == failpoint.IngestMarked && filled.CompareAndSwap(false, true) {
				disk.FillUp(1 << 20) // for the log
				time.Sleep(2 * time.Second)
				n.dirty()
			}
		})
		c.isolate(n.id, false)
		c.await("the disk is filled in the middle of an ingest", time.Minute, filled.Load)
		c.await("the ingest is given up", 2*ingestFlush, func() bool { return n.store.log.Info(2).Ingest == nil })
		if applied := n.group(2).view.Load().applied; applied > 100 {
			t.Fatalf("it was installed, %d is applied, %d bytes are free; nothing is proved", applied, disk.Free())
		}
		disk.Fill(0)
		c.agree(2)
	})
}

// dirty leaves something to flush in the state database.
func (n *testNode) dirty() {
	applied, _, err := kvReader{n.store.state}.Get(state.AppliedKey(0))
	if err := errors.Join(err, n.store.state.Set(state.AppliedKey(0), applied, pebble.NoSync)); err != nil {
		n.cluster.t.Error(err)
	}
}

// What an unfinished birth left of another replica is not taken for this one's.
func TestABirthDoesNotTakeOverAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		s := c.nodes[nodeID(1)].store
		rec := record(2, wholeRing, 1)
		batch := s.state.NewBatch()
		if err := state.Birth(batchWriter{batch}, rec, birthIndex, birthTerm, raft.EncodeConfiguration(configurationOf(rec))); err != nil {
			t.Fatal(err)
		}
		if err := batch.Commit(pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		other := record(2, wholeRing, 1)
		other.Replicas[0].ID += 1000
		if err := s.Create(context.Background(), []shardmap.Record{other}); kverr.KindOf(err) != kverr.Conflict {
			t.Errorf("a birth over another replica's: %v", err)
		}
		if err := s.Create(context.Background(), []shardmap.Record{rec}); err != nil {
			t.Errorf("the same birth again: %v", err)
		}
	})
}
