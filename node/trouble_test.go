package node_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/internal/quotafs"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
)

const smallDisk = 400 << 20

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
