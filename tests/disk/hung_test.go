package disk

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Bounds of rule D1, with room for a machine that does other things.
const (
	othersLead = 10 * time.Second // 2 s of silence and an election are promised
	processEnd = 25 * time.Second // 15 s are promised
)

// Every log sync of a node that leads shards hangs. The others lead its shards, the
// load goes on, and the process ends by itself with exit code 7; nothing that was
// acknowledged is lost, and after the disk is well the node takes part again.
func TestHungLogSync(t *testing.T) {
	needed(t)
	c, disk, victim, l := hungCluster(t)
	began := hang(t, c, disk, letHang, victim, l)
	c.eventually("the process ends by itself", processEnd, victim.dead)
	t.Logf("the process ended %.1f s after the hang began", victim.end.Sub(began).Seconds())
	if victim.code != 7 || !victim.said("a sync of the log has hung") {
		t.Errorf("exit code %d, want 7", victim.code)
	}
	goesOnWithout(t, c, l)
	disk.tell(heal)
	recovered(t, c, victim, l)
}

// The same on a disk whose driver does not come back: threads that wait for it
// cannot even be killed, so the kernel keeps the process, its port and its
// connections, until the disk answers. The rest of the cluster must not need its end.
func TestHungLogSyncThatCannotBeKilled(t *testing.T) {
	needed(t)
	c, disk, victim, l := hungCluster(t)
	hang(t, c, disk, letHangHard, victim, l)
	c.eventually("the process wants to end", processEnd, func() bool { return victim.said("kvnode ends at once") })
	goesOnWithout(t, c, l)
	// Its port still takes connections, which nobody answers.
	c.must(0, "put", "half dead", "1")
	c.must(0, "cluster", "status")
	if victim.dead() {
		t.Fatal("the process is gone, so its threads did not hang in the kernel")
	}
	disk.tell(heal)
	c.eventually("the process ends when its disk answers", othersLead, victim.dead)
	if victim.code != 7 {
		t.Errorf("exit code %d, want 7", victim.code)
	}
	recovered(t, c, victim, l)
}

// hungCluster is a cluster under load one of whose nodes has a disk that can hang,
// and leads shards.
func hungCluster(t *testing.T) (c *cluster, disk *hangFS, victim *process, l *load) {
	t.Helper()
	c = newCluster(t, func(node int, dir string) {
		if node != 0 {
			return
		}
		below := filepath.Join(filepath.Dir(dir), "below")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		disk = mountHangFS(t, below, dir)
		var st syscall.Statfs_t
		const fuseMagic = 0x65735546
		if err := syscall.Statfs(dir, &st); err != nil || st.Type != fuseMagic {
			t.Fatalf("%s lies on file system %#x: %v", dir, st.Type, err)
		}
	})
	l = startLoad(t, c, c.spread(), mix{}, 100)
	began := time.Now()
	c.eventually("load on all shards", 10*time.Second, func() bool { return l.since("put", began) && l.counts()["put"] > 500 })
	return c, disk, c.nodes[0], l
}

// hang makes the victim's disk hang and wants others to lead its shards, and load
// on all of them.
func hang(t *testing.T, c *cluster, disk *hangFS, how string, victim *process, l *load) (began time.Time) {
	t.Helper()
	_, before := ledBy(c.shards(c.without()), victim.name)
	if before == 0 {
		t.Fatalf("%s leads nothing", victim.name)
	}
	began = time.Now()
	disk.tell(how)
	c.eventually("others lead all shards", othersLead, func() bool {
		shards := c.shards(c.without(victim))
		led, byVictim := ledBy(shards, victim.name)
		return led > 0 && led == len(shards) && byVictim == 0
	})
	led := time.Since(began)
	c.eventually("puts in all shards since others lead", othersLead, func() bool { return l.since("put", began.Add(led)) })
	hung := disk.tell(howMany)
	t.Logf("others led the %d shards of %s %.1f s after its disk hung (%d fsyncs); longest time without a put in a shard %.1f s",
		before, victim.name, led.Seconds(), hung, l.longestGap().Seconds())
	if hung == 0 {
		t.Error("no fsync hangs")
	}
	return began
}

// goesOnWithout wants load on all shards for a while.
func goesOnWithout(t *testing.T, c *cluster, l *load) {
	t.Helper()
	before := l.counts()["put"]
	c.eventually("the load goes on", 20*time.Second, func() bool {
		return l.since("put", time.Now().Add(-time.Second)) && l.counts()["put"] > before+2000
	})
}

// recovered starts the victim again and wants all to be as if nothing had been.
func recovered(t *testing.T, c *cluster, victim *process, l *load) {
	t.Helper()
	victim.start()
	c.eventually("a healthy cluster", 30*time.Second, func() bool {
		return c.kvctl("cluster", "status", "--check").code == 0
	})
	l.stop()
	l.judge()
	c.agree()
	t.Logf("longest time without a put in a shard, all in all: %.1f s", l.longestGap().Seconds())
}
