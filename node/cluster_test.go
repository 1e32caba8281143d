package node_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logger writes to RINGFORT_TEST_LOG when a test has to be looked into.
func logger() *slog.Logger {
	path := os.Getenv("RINGFORT_TEST_LOG")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	return slog.New(slog.NewTextHandler(io.Writer(f), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// kv is a client of one node.
type kv struct {
	t *testing.T
	kvv1.KVClient
	adminv1.AdminClient
}

func dial(t *testing.T, c *nodetest.Cluster, index int) kv {
	conn := c.Conn(index)
	t.Cleanup(func() { _ = conn.Close() })
	return kv{t, kvv1.NewKVClient(conn), adminv1.NewAdminClient(conn)}
}

// put repeats until it is acknowledged.
func (c kv) put(key, value string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := c.Put(ctx, &kvv1.PutRequest{Key: []byte(key), Value: []byte(value)})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("put %s: %v", key, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c kv) wantValue(key, want string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		resp, err := c.Get(ctx, &kvv1.GetRequest{Key: []byte(key)})
		if err == nil {
			if got := string(resp.GetValue()); got != want {
				c.t.Fatalf("get %s: %q, want %q", key, got, want)
			}
			return
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("get %s: %v", key, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c kv) status() *adminv1.ClusterStatusResponse {
	c.t.Helper()
	resp, err := c.ClusterStatus(context.Background(), &adminv1.ClusterStatusRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// await waits in virtual time.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: not within a minute", what)
}

// awaitServed waits until every key can be served.
func awaitServed(t *testing.T, c *nodetest.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitLeaders(ctx); err != nil {
		t.Fatal(err)
	}
}

// leaderOf is the server that leads a shard and serves.
func leaderOf(c *nodetest.Cluster, shard shardmap.ShardID) *nodetest.Server {
	for _, s := range c.Servers {
		if !s.Up() {
			continue
		}
		if g, ok := s.Node().Store().Group(shard); ok && g.Status().Ready {
			return s
		}
	}
	return nil
}

func TestClusterFormsAndServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 4})
		for i := range c.Servers {
			client := dial(t, c, i)
			for k := range 8 {
				client.put(fmt.Sprintf("key%d", k), fmt.Sprint(i))
			}
			for k := range 8 {
				client.wantValue(fmt.Sprintf("key%d", k), fmt.Sprint(i))
			}
		}
		client := dial(t, c, 1)
		_, err := c.Init(t.Context(), 1)
		if got := wire.ErrorFromStatus(err, wire.MaybeSent); kverr.KindOf(got) != kverr.Conflict {
			t.Fatalf("second init: %v", got)
		}
		st := client.status()
		if len(st.GetNodes()) != 3 || len(st.GetShards()) != 5 || st.GetReplicationFactor() != 3 {
			t.Fatalf("%d nodes, %d shards", len(st.GetNodes()), len(st.GetShards()))
		}
		var leaders uint32
		for _, n := range st.GetNodes() {
			leaders += n.GetLeaders()
			if !n.GetReachable() || !n.GetAlive() || n.GetReplicas() != 5 || n.GetNote() != "" {
				t.Errorf("node %+v", n)
			}
		}
		for _, s := range st.GetShards() {
			if s.GetLeaderNode() == "" || !s.GetReady() || len(s.GetReplicas()) != 3 || s.GetNoQuorumUs() != 0 {
				t.Errorf("shard %+v", s)
			}
		}
		if leaders != 5 {
			t.Errorf("%d leaders", leaders)
		}
		counters, err := client.Counters(t.Context(), &adminv1.CountersRequest{})
		if err != nil || counters.GetLogSyncs() == 0 || counters.GetCpuUs() == 0 {
			t.Errorf("%+v, %v", counters, err)
		}
	})
}
