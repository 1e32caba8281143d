package node_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/shardmap"
)

// Every replica of a real cluster reads, scans and watches: what it shows is what was
// acknowledged, whoever leads.
func TestEveryReplicaServesReadsScansAndWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Shards: 1, Logger: logger()})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		rec := c.Servers[0].Node().Map().Records()
		data := rec[slices.IndexFunc(rec, func(r shardmap.Record) bool { return r.Shard != shardmap.SystemShard })]
		slots := &kvv1.Arc{From: uint32(data.Arc.From), To: uint32(data.Arc.To)}
		var nodes []kv
		var watches []kvv1.KV_WatchClient
		for i, s := range c.Servers {
			g, _ := s.Node().Store().Group(data.Shard)
			for _, known := g.Leader(); !known; _, known = g.Leader() { // a newborn replica hears of its leader in time
				time.Sleep(20 * time.Millisecond)
			}
			n := dial(t, c, i)
			w, err := n.Watch(ctx, &kvv1.WatchRequest{Shard: uint64(data.Shard), Slots: slots, FromNow: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Recv(); err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
			nodes, watches = append(nodes, n), append(watches, w)
		}
		const keys = 30
		version := uint64(0)
		for i := range keys {
			p, err := nodes[i%3].Put(ctx, &kvv1.PutRequest{Key: fmt.Appendf(nil, "key%02d", i), Value: []byte("v")})
			if err != nil {
				t.Fatal(err)
			}
			version = p.Version
		}
		served := map[kvv1.ServedBy]int{}
		for i, n := range nodes {
			g, err := n.Get(ctx, &kvv1.GetRequest{Key: []byte("key29"), AnyReplica: true})
			if err != nil || string(g.Value) != "v" {
				t.Fatalf("node %d: %v, %v", i, g, err)
			}
			served[g.ServedBy]++
			scan, err := n.Scan(ctx, &kvv1.ScanRequest{Shard: uint64(data.Shard), Slots: slots, Order: kvv1.ScanOrder_SCAN_ORDER_KEY, AnyReplica: true})
			if err != nil {
				t.Fatal(err)
			}
			page, err := scan.Recv()
			if err != nil || page.Error != nil || len(page.Items) != keys || page.Version != version || !page.Done {
				t.Fatalf("node %d: a page of %d items at %d, %v, %v", i, len(page.GetItems()), page.GetVersion(), page.GetError(), err)
			}
			for j, item := range page.Items {
				if string(item.Key) != fmt.Sprintf("key%02d", j) {
					t.Errorf("node %d: item %d is %q", i, j, item.Key)
				}
			}
			for got := 0; got < keys; {
				f, err := watches[i].Recv()
				if err != nil {
					t.Fatalf("node %d, after %d changes: %v", i, got, err)
				}
				for _, set := range f.Sets {
					for _, change := range set.Changes {
						if string(change.Key) != fmt.Sprintf("key%02d", got) {
							t.Fatalf("node %d: %q came where %d was due", i, change.Key, got)
						}
						got++
					}
				}
			}
		}
		if served[kvv1.ServedBy_SERVED_BY_LEADER] != 1 || served[kvv1.ServedBy_SERVED_BY_FOLLOWER] != 2 {
			t.Errorf("served by %v", served)
		}
	})
}
