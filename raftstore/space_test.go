package raftstore

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/raftstore/diskspace"
	"github.com/ringfort/ringfort/raftstore/state"
)

const testDisk = 400 << 20

// withSmallDisks is a cluster of three nodes whose disks can run full: low below
// 16 MiB, a ballast of 4 MiB.
func withSmallDisks(t *testing.T) (c *testCluster, disks []*quotafs.FS) {
	t.Helper()
	c = newTestCluster(t, 3)
	for i := 1; i <= 3; i++ {
		n := c.nodes[nodeID(i)]
		n.stop()
		disk, err := quotafs.New(n.fs, "data", testDisk)
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk)
		n.opts = func(o *Options) {
			o.FS, o.LowSpaceBytes, o.BallastBytes, o.Name = disk, 16<<20, 4<<20, fmt.Sprint("node-", i)
		}
		n.listen()
	}
	for _, n := range c.nodes {
		n.start()
	}
	c.await("each has its ballast", 5*time.Second, func() bool {
		for _, n := range c.nodes {
			if n.store.space.Status().Ballast == 0 {
				return false
			}
		}
		return true
	})
	return c, disks
}

// fillAll leaves so much on every disk and waits until all nodes know.
func fillAll(c *testCluster, disks []*quotafs.FS, left int64, level diskspace.Level) {
	c.t.Helper()
	for _, d := range disks {
		d.FillUp(left)
	}
	c.await(level.String(), 5*time.Second, func() bool {
		for _, n := range c.nodes {
			if n.store.space.Level() != level {
				return false
			}
		}
		return true
	})
}

// With all disks full, reads go on, also under leaders that are elected then: their
// first entries, and what was proposed before, is taken from the reserve.
func TestReadsGoOnWhereAllDisksAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, disks := withSmallDisks(t)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		fillAll(c, disks, 1<<20, diskspace.Critical)
		for range 3 {
			if err := <-proposeOne(g, "a"); kverr.KindOf(err) != kverr.NoSpace {
				t.Fatalf("a put with %d bytes free: %v", disks[0].Free(), err)
			}
			mustGet(t, g, "a", "1")
			self := g.store.opts.Self
			c.isolate(self, true)
			c.await("another leads", 10*time.Second, func() bool {
				next := c.ready(2)
				return next != nil && next.store.opts.Self != self
			})
			g = c.ready(2)
			mustGet(t, g, "a", "1")
			c.isolate(self, false)
			time.Sleep(5 * time.Second)
			g = c.leader(2)
		}
		if d := g.store.Disk(); d.Space.Level != diskspace.Critical {
			t.Errorf("the disk is told as %+v", d)
		}
		fillAll(c, disks, 60<<20, diskspace.OK)
		mustPut(t, c.leader(2), "a", "2")
		c.agree(2)
	})
}

// With all disks full, deletes go on in a trickle, and the nodes outlive those who
// want more.
func TestSomeDeletesGoOnWhereAllDisksAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, disks := withSmallDisks(t)
		c.create(record(2, wholeRing, 1, 2, 3))
		mustPut(t, c.leader(2), "a", "1")
		fillAll(c, disks, 0, diskspace.Critical)
		g := c.leader(2)
		remove := func(times int) (done int) {
			for range times {
				switch err := <-proposeKind(g, state.OpDelete, "a"); {
				case err == nil:
					done++
				case kverr.KindOf(err) != kverr.NoSpace:
					t.Fatalf("a delete: %v", err)
				}
			}
			return done
		}
		most := trickleBurst/deleteCost + 10
		if done := remove(5000); done < 300 || done > most {
			t.Errorf("%d of 5000 deletes went on; want 300 to %d", done, most)
		}
		if err := <-proposeOne(g, "b"); kverr.KindOf(err) != kverr.NoSpace {
			t.Errorf("a put: %v", err)
		}
		time.Sleep(time.Minute)
		if done := remove(1000); done < 60 || done > 60*trickleRate/deleteCost {
			t.Errorf("a minute later %d of 1000 deletes went on", done)
		}
		if v, err := get(g, "a"); err != nil || v.Found {
			t.Errorf("get a: found %t, %v", v.Found, err)
		}
		fillAll(c, disks, 60<<20, diskspace.OK)
		mustPut(t, g, "a", "2")
		c.agree(2)
	})
}

// A refused write is told what still goes on at this moment, whose disk it is, and
// where.
func TestARefusalForSpaceTellsTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, disks := withSmallDisks(t)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		refused := func(when, goesOn string) {
			t.Helper()
			err := <-proposeOne(g, "a")
			where := fmt.Sprintf("free disk space on node %s (directory data)", g.store.opts.Name)
			if want := "no space left: " + goesOn + "; " + where; kverr.KindOf(err) != kverr.NoSpace || err.Error() != want {
				t.Errorf("%s: %v; want %s", when, err, want)
			}
		}
		fillAll(c, disks, 12<<20, diskspace.Low)
		refused("low", "reads and deletes go on")
		if err := <-del(g, "b"); err != nil {
			t.Errorf("a delete at low: %v", err)
		}
		fillAll(c, disks, 0, diskspace.Critical)
		refused("critical", "reads go on, and a few deletes each second")
		if err := <-del(g, "b"); err != nil {
			t.Errorf("a delete at critical: %v", err)
		}
		// That has thrown off the ballast; others take most of what it gave.
		for _, d := range disks {
			d.FillUp(1 << 20)
		}
		time.Sleep(2 * time.Second)
		if !g.store.space.AtTheLast() {
			t.Fatalf("the ballast is there: %+v; nothing is proved", g.store.space.Status())
		}
		refused("at the last", "reads go on")
		if err := <-del(g, "b"); kverr.KindOf(err) != kverr.NoSpace {
			t.Errorf("a delete at the last: %v", err)
		}
		mustGet(t, g, "a", "1")
	})
}

// A leader with space whose followers have none refuses writes too: they could not be
// committed, and would be in doubt in the end. One that was under way is.
func TestALeaderRefusesWhatAMajorityHasNoRoomFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "0")
		var without atomic.Int32
		var full []*testNode
		for _, n := range c.nodes {
			if n.id != g.store.opts.Self {
				full = append(full, n)
			}
		}
		for i, n := range full {
			n.network.OnEntries(func(int) bool { return int32(i) >= without.Load() })
		}
		without.Store(1)
		for range 20 { // one of them is not needed
			mustPut(t, g, "a", "1")
			time.Sleep(200 * time.Millisecond)
		}
		without.Store(2)
		stuck := proposeOne(g, "b")
		time.Sleep(2 * time.Second)
		if err := <-proposeOne(g, "c"); kverr.KindOf(err) != kverr.NoSpace {
			t.Errorf("a write that nobody has room for: %v", err)
		}
		mustGet(t, g, "a", "1")
		without.Store(0)
		if err := <-stuck; err != nil {
			t.Errorf("the write that was under way: %v", err)
		}
		time.Sleep(time.Second)
		mustPut(t, g, "a", "2")
		c.agree(2)
	})
}

// A follower that has no room for all that it lacks may have room for some of it.
func TestDeclinedEntriesAreOfferedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		behind := nodeID(3)
		if behind == g.store.opts.Self {
			behind = nodeID(2)
		}
		c.isolate(behind, true)
		for i := range 8 {
			mustPut(t, g, fmt.Sprint(i), strings.Repeat("x", 50_000))
		}
		most := 0
		c.nodes[behind].network.OnEntries(func(bytes int) bool {
			most = max(most, bytes)
			return bytes < 100_000
		})
		c.isolate(behind, false)
		c.await("it catches up", 30*time.Second, func() bool {
			return c.nodes[behind].group(2).Status().Applied == g.Status().Applied
		})
		if most < 100_000 {
			t.Errorf("at most %d bytes were offered; nothing is proved", most)
		}
		c.agree(2)
	})
}

// A follower whose disk is critical takes a trickle only, so that it outlives others
// that go on writing.
func TestAFullFollowerTakesATrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, disks := withSmallDisks(t)
		s := c.nodes[nodeID(1)].store
		take := func(n int) (taken int) {
			for range n {
				if s.takesEntries(10_000) {
					taken += 10_000
				}
			}
			return taken
		}
		if got := take(1000); got != 10_000_000 {
			t.Errorf("with room it took %d bytes", got)
		}
		disks[0].FillUp(0)
		c.await("critical", 5*time.Second, func() bool { return s.space.Level() == diskspace.Critical })
		first := take(1000)
		if first == 0 || first > trickleBurst {
			t.Errorf("at once it took %d bytes; want up to %d", first, trickleBurst)
		}
		time.Sleep(time.Minute)
		if later := take(1000); later == 0 || later > 60*trickleRate {
			t.Errorf("in a minute it took %d bytes; want up to %d", later, 60*trickleRate)
		}
	})
}
