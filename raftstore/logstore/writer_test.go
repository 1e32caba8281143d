package logstore

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

func TestD1_HungDiskIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		var hang atomic.Pointer[chan struct{}]
		o.BeforeSync = func() {
			if c := hang.Load(); c != nil {
				<-*c
			}
		}
		d := mustOpen(t, o)
		g := born(t, d, 7)
		if age := d.OldestPendingSync(); age != 0 {
			t.Errorf("%s pending while idle", age)
		}
		release := make(chan struct{})
		hang.Store(&release)
		go g.StoreLogs(entries(11, 1, 5))
		time.Sleep(500 * time.Millisecond)
		go d.Group(8).SetUint64([]byte(keyCurrentTerm), 3) // a younger write does not hide the older
		time.Sleep(2500 * time.Millisecond)
		if age := d.OldestPendingSync(); age != 3*time.Second {
			t.Errorf("%s pending, want 3 s", age)
		}
		hang.Store(nil)
		close(release)
		synctest.Wait()
		if age := d.OldestPendingSync(); age != 0 {
			t.Errorf("%s pending after the release", age)
		}

		probe := make(chan struct{})
		hang.Store(&probe)
		time.Sleep(probeInterval + 5*time.Second) // nobody writes
		if age := d.OldestPendingSync(); age != 5*time.Second {
			t.Errorf("idle: %s pending, want 5 s", age)
		}
		close(probe)
		mustClose(t, d)
	})
}

// Each sync is counted with its time, the probes of an idle disk too.
func TestSyncTimesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		o.BeforeSync = func() { time.Sleep(3 * time.Millisecond) }
		d := mustOpen(t, o)
		defer mustClose(t, d)
		g := born(t, d, 7)
		must(t, g.StoreLogs(entries(11, 1, 5)))
		must(t, g.DeleteRange(10, 10)) // not synced
		s := d.Stats()
		if s.SyncTimes.Count != s.Syncs || s.Syncs != 2 || s.SyncTimes.Sum != 6*time.Millisecond {
			t.Errorf("%d syncs, times %+v", s.Syncs, s.SyncTimes)
		}
		time.Sleep(2*probeInterval + probeInterval/2)
		if idle := d.Stats(); idle.SyncTimes.Count != s.SyncTimes.Count+2 || idle.Syncs != s.Syncs {
			t.Errorf("after two probes: %+v", idle)
		}
	})
}

func TestWaitingGroupsShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		o.BeforeSync = func() { time.Sleep(time.Millisecond) }
		d := mustOpen(t, o)
		defer mustClose(t, d)
		var births []Birth
		for group := range uint64(20) {
			births = append(births, Birth{group, 1, 10, 5})
		}
		must(t, d.Birth(births))
		before := d.Stats()
		var wg sync.WaitGroup
		for group := range uint64(20) {
			wg.Go(func() {
				if err := d.Group(group).StoreLogs(entries(11, 3, 5)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		after := d.Stats()
		if n := after.Syncs - before.Syncs; n > 3 || after.Entries-before.Entries != 60 || after.Bytes <= before.Bytes {
			t.Errorf("%d syncs, %+v", n, after)
		}
	})
}

// Ops are checked against what is committed, so two of one group never meet in a
// batch: the second here must see the first.
func TestOneOpOfAGroupInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		o.BeforeSync = func() { time.Sleep(time.Second) }
		d := mustOpen(t, o)
		defer mustClose(t, d)
		g := born(t, d, 7)
		go d.Group(8).SetUint64([]byte(keyCurrentTerm), 1) // keeps the writer busy
		time.Sleep(time.Millisecond)
		var wg sync.WaitGroup
		wg.Go(func() { setTerm(t, g, 7) })
		time.Sleep(time.Millisecond)
		wg.Go(func() {
			if err := g.SetUint64([]byte(keyCurrentTerm), 6); err == nil {
				t.Error("the term fell")
			}
		})
		wg.Wait()
		if got := currentTerm(t, g); got != 7 {
			t.Errorf("term %d", got)
		}
	})
}

// Two groups that write in turns of half a sync each pay a sync per write, until
// the writer waits for both.
func TestPacingGathersGroups(t *testing.T) {
	run := func(t *testing.T, pacing time.Duration) (syncs uint64, took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			o := options(t, vfs.NewCrashableMem())
			o.SyncPacing = pacing
			o.BeforeSync = func() { time.Sleep(time.Millisecond) }
			d := mustOpen(t, o)
			defer mustClose(t, d)
			must(t, d.Birth([]Birth{{1, 1, 10, 5}, {2, 1, 10, 5}}))
			before, start := d.Stats().Syncs, time.Now()
			var wg sync.WaitGroup
			for group := range uint64(2) {
				wg.Go(func() {
					time.Sleep(time.Duration(group) * 500 * time.Microsecond)
					for i := range uint64(100) {
						if err := d.Group(group + 1).StoreLogs(entries(11+i, 1, 5)); err != nil {
							t.Error(err)
						}
						time.Sleep(100 * time.Microsecond) // raft's own work
					}
				})
			}
			wg.Wait()
			syncs, took = d.Stats().Syncs-before, time.Since(start)
		})
		return syncs, took
	}
	without, slow := run(t, 0)
	with, fast := run(t, 300*time.Microsecond)
	if without < 190 || with > 110 || fast >= slow {
		t.Errorf("200 writes: %d syncs in %s without pacing, %d in %s with it", without, slow, with, fast)
	}
}

func TestPacingDoesNotDelayTheLonely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		o.SyncPacing = time.Millisecond
		d := mustOpen(t, o)
		defer mustClose(t, d)
		must(t, d.Birth([]Birth{{1, 1, 10, 5}, {2, 1, 10, 5}}))
		for i := range uint64(10) { // one group at a time, with pauses
			start := time.Now()
			must(t, d.Group(1+i%2).StoreLogs(entries(11+i/2, 1, 5)))
			if took := time.Since(start); took != 0 {
				t.Errorf("write %d took %s", i, took)
			}
			time.Sleep(10 * time.Millisecond)
		}
		start := time.Now()
		for i := range uint64(50) { // one busy group
			must(t, d.Group(1).StoreLogs(entries(16+i, 1, 5)))
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("a busy single group took %s", took)
		}
	})
}

// Three raft replicas on three databases in one bubble: elections, writes, log
// compaction, and a crash of all three that keeps only what was synced.
func TestRaftRunsOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const group = 7
		ids := []string{"n1", "n2", "n3"}
		var conf raft.Configuration
		for _, id := range ids {
			conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
		disks := make([]*vfs.MemFS, len(ids))
		for i := range disks {
			disks[i] = vfs.NewCrashableMem()
		}
		var applied []string
		for life := range 3 {
			dbs, nodes := make([]*DB, len(ids)), make([]*raftNode, len(ids))
			for i, id := range ids {
				dbs[i] = mustOpen(t, options(t, disks[i]))
				if life == 0 {
					born(t, dbs[i], group)
				}
				nodes[i] = startRaft(t, dbs[i], group, id, nil, conf)
			}
			for _, a := range nodes {
				for _, b := range nodes {
					a.trans.Connect(b.trans.LocalAddr(), b.trans)
				}
			}
			time.Sleep(10 * time.Second)
			leader := slices.IndexFunc(nodes, func(n *raftNode) bool { return n.raft.State() == raft.Leader })
			if leader < 0 {
				t.Fatal("no leader")
			}
			for i := range 20 {
				command := fmt.Sprintf("life %d command %d", life, i)
				must(t, nodes[leader].raft.Apply([]byte(command), time.Second).Error())
				applied = append(applied, command)
			}
			time.Sleep(time.Second)
			if life == 2 { // raft compacts its logs, and goes on
				for i, n := range nodes {
					must(t, n.raft.Snapshot().Error())
					if info := dbs[i].Info(group); info.Boundary != info.LastIndex-5 {
						t.Errorf("compacted to %+v", info)
					}
				}
				must(t, nodes[leader].raft.Apply([]byte("after"), time.Second).Error())
				applied = append(applied, "after")
				time.Sleep(time.Second)
			}
			for i, n := range nodes {
				if got := n.fsm.applied(); !slices.Equal(got, applied) {
					t.Errorf("life %d: %s applied %d commands of %d", life, ids[i], len(got), len(applied))
				}
				disks[i] = crashed(disks[i])
			}
			for i, n := range nodes {
				n.trans.Close()
				must(t, n.raft.Shutdown().Error())
				mustClose(t, dbs[i])
			}
		}
	})
}
