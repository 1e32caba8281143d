package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"google.golang.org/grpc"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// What a newer build wrote is no damage: this build does not start on it, and the
// newer one finds its replica as it was.
func TestBootCondemnsNoReplicaForANewerFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		mustPut(t, c.leader(2), "a", "1")
		n := c.nodes[nodeID(2)]
		ours, found, err := kvReader{n.store.state}.Get(state.AppliedKey(0))
		if err != nil || !found {
			t.Fatalf("found %t: %v", found, err)
		}
		newer := append([]byte{ours[0] + 1}, ours[1:]...)
		n.rewriteState(state.AppliedKey(0), newer)
		n.crash()
		if err := n.opensOn(n.fs); kverr.KindOf(err) != kverr.Format {
			t.Fatalf("it started, or says: %v", err)
		}
		db, err := pebble.Open("data/state", &pebble.Options{FS: n.fs, FormatMajorVersion: pebble.FormatNewest, DisableWAL: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set(state.AppliedKey(0), ours, pebble.NoSync), db.Flush(), db.Close()); err != nil {
			t.Fatal(err)
		}
		n.start()
		if _, runs := n.store.Group(2); !runs {
			t.Errorf("the newer build's replica is lost: %+v", n.store.Quarantined())
		}
		c.agree(2)
	})
}

// A disk that cannot be read now may be read tomorrow: whichever read of a start
// fails, the replica is not condemned for it.
func TestBootCondemnsNoReplicaForADiskError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		for i := range 200 { // the request table takes several blocks
			putNumbered(t, c.leader(2), fmt.Sprint("k", i), uint64(i+1))
		}
		n := c.nodes[nodeID(2)]
		if err := n.store.state.Flush(); err != nil {
			t.Fatal(err)
		}
		n.crash()
		var reads atomic.Int64
		for bad := int64(1); ; bad++ {
			reads.Store(0)
			disk := errorfs.Wrap(n.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "data/state/") && strings.HasSuffix(op.Path, ".sst") &&
					reads.Add(1) == bad {
					return syscall.EIO
				}
				return nil
			}))
			err := n.opensOn(disk)
			if reads.Load() < bad {
				if bad < 4 {
					t.Fatalf("only %d reads; nothing is proved", reads.Load())
				}
				break
			}
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("when read %d fails: %v", bad, err)
			}
		}
		n.start()
		if _, runs := n.store.Group(2); !runs {
			t.Errorf("the replica is lost: %+v", n.store.Quarantined())
		}
		c.agree(2)
	})
}

// rewriteState puts a value into the state database, flushed.
func (n *testNode) rewriteState(key, value []byte) {
	n.cluster.t.Helper()
	if err := errors.Join(n.store.state.Set(key, value, pebble.NoSync), n.store.state.Flush()); err != nil {
		n.cluster.t.Fatal(err)
	}
}

// opensOn opens a store that is not running on a disk, and stops it again.
func (n *testNode) opensOn(disk vfs.FS) error {
	o := n.lastOptions
	o.FS = disk
	n.nonce++
	o.Nonce = n.nonce
	o.Network = transport.New(transport.Options{Self: n.id, ClusterID: func() string { return "test" }, HeartbeatTimeout: time.Second,
		Dial: func(context.Context, shardmap.NodeID) (*grpc.ClientConn, error) {
			return nil, errors.New("nobody is called")
		}})
	defer o.Network.Close()
	o.Fatal = func(error) {} // that Open fails is enough
	store, err := Open(o)
	if err != nil {
		return err
	}
	return store.Stop(context.Background())
}

// putNumbered writes with a request identity of its own.
func putNumbered(t *testing.T, g *Group, key string, number uint64) {
	t.Helper()
	done := make(chan error, 1)
	g.Propose(&Write{
		Ops: []state.Op{{Kind: state.OpPut, Key: []byte(key), Value: []byte("v"), Request: state.RequestID{
			Client: state.ClientID{1}, Number: number, LowestOpen: 1, NotAfter: g.store.opts.Clock.WallMicros() + 60_000_000,
		}}},
		Deadline: time.Now().Add(5 * time.Second),
		Done:     func(_ []state.Result, _ uint64, err error) { done <- err },
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
