package raftstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/shardmap"
)

// A removal on a full disk waits for space no longer than its caller does, and keeps
// nobody else from their work after that. Repeated with space it is finished.
func TestARemovalOnAFullDiskEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		low, high := shardmap.Arc{From: 0, To: 8000}, shardmap.Arc{From: 8000, To: shardmap.Slots}
		n := c.nodes[nodeID(3)]
		n.stop()
		disk, err := quotafs.New(n.fs, "data", 100<<20)
		if err != nil {
			t.Fatal(err)
		}
		n.opts = func(o *Options) { o.FS = disk }
		n.listen()
		n.start()
		c.create(record(2, low, 1, 2, 3), record(3, high, 1, 2, 3))
		mustPut(t, c.leader(2), keyIn(low), "v")
		mustPut(t, c.leader(3), keyIn(high), "v")
		c.agree(2)
		disk.FillUp(1 << 20)
		time.Sleep(2 * time.Second)
		if !n.store.space.InReserve() {
			t.Fatal("there is space; nothing is proved")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- n.store.Retire(ctx, 2, 202) }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ended with: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("it waits on after its caller has gone")
			disk.FillUp(50 << 20)
			<-ended
		}
		if err := n.store.restart(n.group(3), "a test says so"); err != nil {
			t.Errorf("another replica's restart: %v", err)
		}
		disk.FillUp(50 << 20)
		time.Sleep(2 * time.Second)
		if err := n.store.Retire(context.Background(), 2, 202); err != nil {
			t.Errorf("with space: %v", err)
		}
		if left := n.traces(2, low); left != nil {
			t.Errorf("left: %v", left)
		}
	})
}

// A creation waits for a removal or a restart no longer than its caller does.
func TestACreationEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		s := c.nodes[nodeID(1)].store
		s.births <- struct{}{} // something else is under way
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- s.Create(ctx, []shardmap.Record{record(2, wholeRing, 1)}) }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ended with: %v", err)
			}
			<-s.births
		case <-time.After(time.Minute):
			t.Error("it waits on after its caller has gone")
			<-s.births
			<-ended
		}
	})
}
