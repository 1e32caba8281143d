package node_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
)

const (
	smallDisk = 400 << 20
	lowSpace  = 16 << 20
)

// What is wrong with the disk of a node and with its replicas is in its own answer,
// and in that of a node that asks all.
func TestStatusTellsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disks := make([]*quotafs.FS, 3)
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 2,
			Tune: func(_ int, o *raftstore.Options) { o.LowSpaceBytes, o.BallastBytes = lowSpace, 4<<20 },
			WrapDisk: func(i int, disk vfs.FS) vfs.FS {
				quota, err := quotafs.New(disk, "/data", smallDisk)
				if err != nil {
					t.Error(err)
				}
				disks[i] = quota
				return quota
			},
		})
		client := dial(t, c, 0)
		// answers are what n2 says, and what n1 says that it says.
		answers := func() (own *adminv1.NodeStatusResponse, told *adminv1.NodeSummary) {
			own, err := dial(t, c, 1).NodeStatus(t.Context(), &adminv1.NodeStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return own, client.status().GetNodes()[1]
		}
		time.Sleep(5 * time.Second) // the ballasts are made
		for _, step := range []struct {
			left  int64
			level string
		}{{200 << 20, "ok"}, {12 << 20, "low"}, {2 << 20, "critical"}, {100 << 20, "ok"}} {
			disks[1].FillUp(step.left)
			time.Sleep(2 * time.Second) // it is looked at each second
			own, told := answers()
			for _, d := range []*adminv1.DiskUsage{own.GetDisk(), told.GetDisk()} {
				if d.GetSpaceLevel() != step.level || d.FreeBytes == nil || d.GetFreeBytes() > uint64(step.left)+1<<20 || d.GetFreeBytes() < uint64(step.left)-1<<20 ||
					d.GetTotalBytes() != smallDisk || d.GetLowBytes() != lowSpace || d.GetDir() != "/data/store" || d.GetHangs() || d.GetLogBytes() == 0 {
					t.Errorf("%s with %d bytes free: %v", step.level, step.left, d)
				}
			}
			if level := client.status().GetNodes()[0].GetDisk().GetSpaceLevel(); level != "ok" {
				t.Errorf("n1's level is %q", level)
			}
		}

		problems := func() (all []string) {
			own, _ := answers()
			for _, r := range own.GetReplicas() {
				if r.GetProblem() != "" {
					all = append(all, r.GetProblem())
				}
			}
			return all
		}
		if all := problems(); all != nil {
			t.Errorf("problems where there are none: %q", all)
		}
		c.Servers[1].HangLog()
		time.Sleep(5 * time.Second)
		if own, told := answers(); !own.GetDisk().GetHangs() || !told.GetDisk().GetHangs() {
			t.Error("a disk that hangs is not told of")
		}
		if all := problems(); len(all) != 3 || !strings.HasPrefix(all[0], "silent") {
			t.Errorf("with a disk that hangs: %q", all)
		}
		c.Servers[1].Unhang()
		time.Sleep(5 * time.Second)
		if all := problems(); all != nil {
			t.Errorf("problems that are over: %q", all)
		}

		g, _ := c.Servers[1].Node().Store().Group(2)
		from := g.Record().Arc.From
		if err := c.Servers[1].Stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.Servers[1].EditState(func(db *pebble.DB) error { return db.Delete(state.RecordKey(from), pebble.NoSync) }); err != nil {
			t.Fatal(err)
		}
		if err := c.Servers[1].Start(); err != nil {
			t.Fatal(err)
		}
		if all := problems(); len(all) != 1 || !strings.Contains(all[0], "no record") {
			t.Errorf("with a quarantined replica: %q", all)
		}
		for _, s := range client.status().GetShards() {
			for _, r := range s.GetReplicas() {
				ill := s.GetRecord().GetShard() == 2 && r.GetNodeId() == string(c.Servers[1].Node().Self().ID)
				if ill != (r.GetState() == "quarantined") || ill != (r.GetProblem() != "") {
					t.Errorf("shard %d: %v", s.GetRecord().GetShard(), r)
				}
			}
		}
	})
}

// The metric of full logs is 1 while writes are refused for that.
func TestMetricsTellOfFullLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk *quotafs.FS
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Nodes: 1, Shards: 1, Configure: withAdmin,
			Tune: func(_ int, o *raftstore.Options) {
				o.MaxLogBytes, o.LogBytesPerShard, o.FlushBytes = 128<<10, 32<<10, 32<<10
				o.LowSpaceBytes, o.BallastBytes, o.MemTableBytes = -1, -1, 8<<20
			},
			WrapDisk: func(_ int, under vfs.FS) vfs.FS {
				var err error
				if disk, err = quotafs.New(under, "/data", smallDisk); err != nil {
					t.Error(err)
				}
				return disk
			},
		})
		client := dial(t, c, 0)
		full := func() float64 {
			series, _ := scrape(t, c, 0)
			v, there := series["ringfort_raft_logs_full"]
			if !there {
				t.Fatal("there is no such metric")
			}
			return v
		}
		put := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := client.Put(ctx, &kvv1.PutRequest{Key: []byte("a"), Value: make([]byte, 20<<10)})
			return wire.ErrorFromStatus(err, wire.MaybeSent)
		}
		if err := put(); err != nil || full() != 0 {
			t.Fatalf("before: %v, %v", full(), err)
		}
		// No flush of the state comes to an end, so no log can be cut.
		disk.Deny(func(name string) bool { return strings.Contains(name, "/state/") && strings.HasSuffix(name, ".sst") })
		for i := 0; full() == 0; i++ {
			if i == 100 {
				t.Fatal("the logs were never full")
			}
			if err := put(); err != nil && kverr.KindOf(err) != kverr.Overloaded {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err := put(); full() != 1 || kverr.KindOf(err) != kverr.Overloaded || !strings.Contains(err.Error(), "log") {
			t.Errorf("full logs: %v, %v", full(), err)
		}
		disk.Deny(nil)
		await(t, "the logs were cut", func() bool { return full() == 0 })
		if err := put(); err != nil {
			t.Error(err)
		}
	})
}

// What a node is told of bounds and of its disk reaches those who keep to it.
func TestFlagsReachTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got raftstore.Options
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Nodes: 1, Configure: withBounds,
			Tune: func(_ int, o *raftstore.Options) { got = *o }})
		if err := c.Servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		if got.MaxNodeQueuedBytes != 24<<20 || got.LowSpaceBytes != 3<<20 || got.BallastBytes != 2<<20 || got.MaxLogBytes != 9<<20 ||
			got.LogBytesPerShard != 1<<20 || got.FlushInterval != 7*time.Second || got.SnapshotBytesPerSecond != 5<<20 || got.Name != "n1" {
			t.Errorf("%+v", got)
		}
	})
}

// withBounds sets what TestFlagsReachTheStore looks for.
func withBounds(_ int, c *config.Config) {
	c.MaxClientMemory, c.LowSpace, c.BallastSize = 48<<20, 3<<20, 2<<20
	c.MaxLogBytes, c.LogBytesPerShard, c.FlushInterval, c.SnapshotRate = 9<<20, 1<<20, 7*time.Second, 5<<20
}
