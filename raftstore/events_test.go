package raftstore

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/state"
)

// moodyFS is a disk that hangs in some operations.
type moodyFS struct {
	vfs.FS
	tables hang // creation of tables of the state
	syncs  hang // syncs of the log's files

}

type moodyFile struct {
	vfs.File
	fs *moodyFS
}

func (fs *moodyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.Contains(name, "/state/") && strings.HasSuffix(name, ".sst") {
		fs.tables.wait()
	}
	f, err := fs.FS.Create(name, c)
	if err != nil || !strings.Contains(name, "/log/") {
		return f, err
	}
	return moodyFile{f, fs}, nil
}

func (f moodyFile) Sync() error {
	f.fs.syncs.wait()
	return f.File.Sync()
}

func (f moodyFile) SyncData() error {
	f.fs.syncs.wait()
	return f.File.SyncData()
}

func (f moodyFile) SyncTo(n int64) (bool, error) {
	f.fs.syncs.wait()
	return f.File.SyncTo(n)
}

// onDisk restarts node 1 on a disk of the test's making.
func (c *testCluster) onDisk(wrap func(*testNode) vfs.FS) *testNode {
	n := c.nodes[nodeID(1)]
	n.stop()
	n.listen()
	fs := wrap(n)
	n.opts = func(o *Options) { o.FS = fs }
	n.start()
	return n
}

// moody is a shard on one node with a moody disk.
func moody(t *testing.T) (*moodyFS, *Group) {
	c := newTestCluster(t, 1)
	fs := new(moodyFS)
	c.onDisk(func(n *testNode) vfs.FS {
		fs.FS = n.fs
		return fs
	})
	t.Cleanup(func() { fs.tables.end(); fs.syncs.end() }) // a stop waits for the disk
	c.create(record(2, wholeRing, 1))
	return fs, c.leader(2)
}

// A slow operation of the disk is counted for the database that it is of, while it
// hangs, and once.
func TestSlowOperationsOfTheDiskAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, g := moody(t)
		want := func(log, state uint64) {
			t.Helper()
			if l, s := g.store.DatabaseEvents(); l.DiskSlow != log || s.DiskSlow != state {
				t.Errorf("slow operations: %d of the log, %d of the state; want %d and %d", l.DiskSlow, s.DiskSlow, log, state)
			}
		}
		want(0, 0)
		fs.tables.begin()
		done := make(chan error)
		go func() { done <- g.store.flush() }()
		time.Sleep(900 * time.Millisecond)
		want(0, 0)
		time.Sleep(900 * time.Millisecond)
		want(0, 1)
		fs.tables.end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want(0, 1)
		fs.syncs.begin()
		answer := propose(g, "a", "1")
		time.Sleep(1500 * time.Millisecond)
		fs.syncs.end()
		if err := <-answer; err != nil {
			t.Error(err)
		}
		want(1, 1)
	})
}

// Writes that Pebble makes wait are counted, with the time they wait.
func TestWriteStallsOfTheStateAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, g := moody(t)
		fs.tables.begin()
		var answers []<-chan error
		for i := range 6 { // of 1 MiB each, as much as a memtable
			answers = append(answers, propose(g, fmt.Sprint("k", i), strings.Repeat("x", 1<<20)))
		}
		time.Sleep(time.Second)
		_, events := g.store.DatabaseEvents()
		if events.Stalls != 1 || !events.Stalling || events.Stalled < 500*time.Millisecond || events.Stalled > time.Second {
			t.Errorf("during a stall: %+v", events)
		}
		fs.tables.end()
		for _, a := range answers {
			if err := <-a; err != nil {
				t.Error(err)
			}
		}
		if _, events = g.store.DatabaseEvents(); events.Stalling || events.Stalled > 1100*time.Millisecond {
			t.Errorf("after it: %+v", events)
		}
	})
}

// A full disk counts with each refusal, and so does what it keeps the state from.
func TestAFullDiskIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		var disk *quotafs.FS
		n := c.onDisk(func(n *testNode) vfs.FS {
			var err error
			if disk, err = quotafs.New(n.fs, "data", 400<<20); err != nil {
				t.Fatal(err)
			}
			return disk
		})
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		time.Sleep(15 * time.Second) // the ballast is made
		before := n.store.Disk()
		if before.Space.Level != diskspace.OK || before.Space.Ballast != 4<<20 || before.Declined != 0 {
			t.Fatalf("%+v", before)
		}
		disk.FillUp(15 << 20)
		time.Sleep(2 * time.Second)
		if _, err := put(g, "a", "2"); err == nil {
			t.Error("a put was taken although space is low")
		}
		if d := n.store.Disk(); d.Space.Level != diskspace.Low || d.Space.Free > 16<<20 || d.Space.Free < 8<<20 {
			t.Errorf("low: %+v", d)
		}
		deleted := make(chan error, 1)
		g.Propose(&Write{
			Ops: []state.Op{{Kind: state.OpDelete, Key: []byte("a")}}, Deadline: time.Now().Add(time.Second),
			Done: func(_ []state.Result, _ uint64, err error) { deleted <- err },
		})
		if err := <-deleted; err != nil {
			t.Errorf("a delete was refused although space is only low: %v", err)
		}
		disk.FillUp(3 << 20)
		time.Sleep(2 * time.Second)
		if d := n.store.Disk(); d.Space.Level != diskspace.Critical {
			t.Errorf("critical: %+v", d)
		}
		if n.store.takesEntries(1 << 20) {
			t.Error("a follower on a full disk takes entries")
		}
		flushed, err := n.store.state.AsyncFlush()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		d := n.store.Disk()
		_, events := n.store.DatabaseEvents()
		if d.Declined != 1 || d.Space.TablesRefused == 0 || events.BackgroundErrors == 0 || events.Corruptions != 0 {
			t.Errorf("full: %+v, %+v", d, events)
		}
		disk.Fill(0)
		<-flushed
		time.Sleep(2 * time.Second)
		if d := n.store.Disk(); d.Space.Level != diskspace.OK {
			t.Errorf("with space again: %+v", d)
		}
	})
}

// Silence for a disk that hangs is shown while it lasts, and counted.
func TestD1_SilenceIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, busy, idle := twoShards(t)
		n := c.nodes[busy.store.opts.Self]
		want := func(silences uint64, replicas int, all bool) {
			t.Helper()
			if d := n.store.Disk(); d.Silences != silences || d.SilentReplicas != replicas || d.Silent != all {
				t.Errorf("%+v; want %d silences, %d silent replicas, all silent %t", d, silences, replicas, all)
			}
		}
		want(0, 0, false)
		n.sync.begin()
		time.Sleep(4 * time.Second)
		want(1, 2, true)
		n.sync.end()
		time.Sleep(4 * time.Second)
		want(1, 0, false)

		g := c.leader(idle.shard)
		n = c.nodes[g.store.opts.Self]
		before := n.store.Disk().Silences
		n.apply.begin()
		answer := propose(g, keyOf(g), "x")
		time.Sleep(4 * time.Second)
		want(before+1, 1, false)
		n.apply.end()
		<-answer // unknown or applied
		time.Sleep(4 * time.Second)
		want(before+1, 0, false)
	})
}

// Each install is counted at both ends, with its bytes.
func TestSnapshotsAreCountedAtBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		behind := c.nodes[nodeID(3)]
		behind.crash()
		fill(t, g, "k", 300)
		cutLogs(c, g, 100)
		behind.start()
		c.agree(2)
		sent, received := g.store.Snapshots(), behind.store.Snapshots()
		if sent.SnapshotsSent == 0 || sent.SnapshotBytesSent == 0 || sent.SnapshotsReceived != 0 ||
			received.SnapshotsReceived != sent.SnapshotsSent || received.SnapshotBytesReceived != sent.SnapshotBytesSent {
			t.Errorf("sent %+v, received %+v", sent, received)
		}
	})
}
