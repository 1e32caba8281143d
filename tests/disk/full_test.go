package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	mib      = 1 << 20
	diskSize = 384 * mib
	lowSpace = 32 * mib
	// leaveLow is between low (32 MiB) and critical (16 MiB).
	leaveLow = 26 * mib
	// resume is how soon writes must be taken again when there is space.
	resume = 30 * time.Second
	// stayFull is longer than what others than the disk's guard would bear: a leader
	// without commits is suspected after 5 s.
	stayFull = 8 * time.Second
	cycles   = 5
)

// smallDisk is a file system in memory of diskSize.
type smallDisk struct{ dir string }

func mountSmallDisk(t *testing.T, dir string) *smallDisk {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Fatalf("mount a tmpfs at %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return &smallDisk{dir}
}

func (d *smallDisk) filler() string { return filepath.Join(d.dir, "filler") }

// fill leaves so much free space. What the node gives up meanwhile is not taken: a
// process whose write fails ends or cleans up.
func (d *smallDisk) fill(t *testing.T, leave int64) {
	t.Helper()
	f, err := os.Create(d.filler())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	target := d.free(t) - leave
	for size, step := int64(0), target; step >= 4096; step = min(step, target-size) {
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, step); {
		case err == nil:
			size += step
		case errors.Is(err, syscall.ENOSPC): // the node has written something
			step /= 2
		case !errors.Is(err, syscall.EINTR):
			t.Fatal(err)
		}
	}
}

func (d *smallDisk) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		t.Fatal(err)
	}
}

func (d *smallDisk) free(t *testing.T) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// The disk of one of three nodes runs full and is freed again, five times.
func TestFullDiskOfOneNode(t *testing.T) { fullDisks(t, 1) }

// The disks of all nodes do, at the same time.
func TestFullDisksOfAllNodes(t *testing.T) { fullDisks(t, 3) }

// fullDisks gives the first n nodes small disks and fills them again and again
// under load: every second time to the last byte, otherwise until space is low.
func fullDisks(t *testing.T, n int) {
	needed(t)
	var disks []*smallDisk
	c := newCluster(t, func(node int, dir string) {
		if node < n {
			disks = append(disks, mountSmallDisk(t, dir))
		}
	}, "--low-space", fmt.Sprint(lowSpace), "--ballast-size", fmt.Sprint(8*mib))
	l := startLoad(t, c, c.spread(), mix{gets: 3, deletes: 2}, 1000)
	began := time.Now()
	c.eventually("load on all shards", 20*time.Second, func() bool {
		return l.since("put", began) && l.since("get", began) && l.since("delete", began)
	})
	for cycle := range cycles {
		leave := int64(0)
		if cycle%2 == 0 {
			leave = leaveLow
		}
		oneCycle(t, c, l, disks, cycle, leave)
	}
	l.stop()
	l.judge()
	c.eventually("a healthy cluster", 30*time.Second, func() bool { return c.kvctl("cluster", "status", "--check").code == 0 })
	c.agree()
	for _, p := range c.nodes {
		if p.dead() {
			t.Errorf("%s died with exit code %d", p.name, p.code)
		}
	}
}

func oneCycle(t *testing.T, c *cluster, l *load, disks []*smallDisk, cycle int, leave int64) {
	t.Helper()
	shards := c.spread()
	before := l.refusals()["put"]
	for _, d := range disks {
		d.fill(t, leave)
	}
	filled := time.Now()
	c.eventually("puts are refused", 15*time.Second, func() bool { return l.refusals()["put"] > before+50 })
	refused := time.Now()
	c.refuses(shards, leave)
	if level := c.nodes[0].metric("ringfort_disk_space_level"); level == "" || level == "0" {
		t.Errorf("the metric of the level is %q", level)
	}
	c.eventually("reads of all shards go on", 15*time.Second, func() bool { return l.since("get", refused) })
	c.eventually("deletes in all shards go on", 15*time.Second, func() bool { return l.since("delete", refused) })
	if len(disks) < len(c.nodes) {
		c.eventually("puts in shards that others lead", 15*time.Second, func() bool { return l.some("put", refused) })
	}
	if leave == 0 {
		c.eventually("time passes", 2*stayFull, func() bool { return time.Since(filled) > stayFull })
		c.eventually("reads and deletes of all shards still go on", 15*time.Second, func() bool {
			return l.since("get", filled.Add(stayFull)) && l.since("delete", filled.Add(stayFull))
		})
	}
	for _, d := range disks {
		d.empty(t)
	}
	freed := time.Now()
	c.eventually("puts in all shards again", resume, func() bool { return l.since("put", freed) })
	t.Logf("cycle %d, %d MiB left on %d disks: puts were refused after %.1f s; %.1f s after the space came back all shards took them; refused %v",
		cycle, leave/mib, len(disks), refused.Sub(filled).Seconds(), time.Since(freed).Seconds(), l.refusals())
}

// refuses wants kvctl to say what it promises of a shard whose leader's disk is full.
func (c *cluster) refuses(shards []shard, leave int64) {
	c.t.Helper()
	for _, s := range shards {
		if s.System || s.Leader == nil || s.Leader.Name != c.nodes[0].name {
			continue
		}
		key := tagOf(s) + "by hand"
		if r := c.must(12, "put", key, "no room"); !strings.Contains(r.stderr, "free disk space on node") {
			c.t.Errorf("it does not say what to do: %v", r)
		}
		c.must(3, "get", key)
		if leave > 0 {
			c.must(0, "del", key)
		}
		return
	}
	c.t.Errorf("%s leads nothing: %+v", c.nodes[0].name, shards)
}
