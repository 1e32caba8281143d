package node_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/node/adminhttp"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/shardmap"
)

// withAdmin gives every node an admin listener.
func withAdmin(_ int, c *config.Config) { c.AdminListen = c.Name + ".test:7481" }

// httpGet asks a node's admin listener.
func httpGet(t *testing.T, c *nodetest.Cluster, index int, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return c.Dial(ctx, address) },
	}}
	resp, err := client.Get("http://" + c.Servers[index].Name + ".test:7481" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// A node says that it serves when it does, and tells its shards apart: two dead
// peers leave it alive and ready, and its shards not (P8).
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Shards: 2, Configure: withAdmin})
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		if status, body := httpGet(t, c, 0, "/readyz"); status != 503 || body != "not ready: uninitialized\n" {
			t.Fatalf("before init: %d %q", status, body)
		}
		if status, _ := httpGet(t, c, 0, "/healthz"); status != 200 {
			t.Fatalf("before init: %d", status)
		}
		await(t, "the cluster is formed", func() bool { _, err := c.Init(t.Context(), 0); return err == nil })
		awaitServed(t, c)
		await(t, "all replicas know their leaders", func() bool {
			status, _ := httpGet(t, c, 0, "/shards")
			return status == 200
		})
		status, body := httpGet(t, c, 0, "/readyz?verbose")
		var r adminhttp.Readiness
		if err := json.Unmarshal([]byte(body), &r); err != nil || status != 200 || !r.Ready || r.Phase != "serving" || len(r.Shards) != 3 {
			t.Fatalf("%d %s, %v", status, body, err)
		}
		for _, s := range r.Shards {
			if !s.Ready || s.Leader == "" || s.Applied == 0 || s.NoQuorum != 0 {
				t.Errorf("shard %+v", s)
			}
		}

		c.Servers[1].Crash(0, nil)
		c.Servers[2].Crash(0, nil)
		await(t, "the shards have no quorum", func() bool {
			status, body = httpGet(t, c, 0, "/shards")
			return status == 503
		})
		if status, _ := httpGet(t, c, 0, "/readyz"); status != 200 {
			t.Fatalf("shards without quorum: /readyz says %d", status)
		}
	})
}

// What a node and a cluster say of themselves is what is there.
func TestStatusInDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 2, Configure: withAdmin})
		client := dial(t, c, 0)
		for _, key := range []string{"a", "b", "c", "d"} {
			client.put(key, "x")
		}
		await(t, "all have applied all", func() bool {
			for _, s := range client.status().GetShards() {
				for _, r := range s.GetReplicas() {
					if r.GetApplied() != s.GetApplied() {
						return false
					}
				}
			}
			return true
		})
		st := client.status()
		for i, n := range st.GetNodes() {
			if n.GetAdminAddress() != c.Servers[i].Name+".test:7481" || n.GetPhase() != "serving" || n.GetUptimeUs() == 0 ||
				n.GetDisk().GetLogBytes() == 0 || n.GetDisk().GetStateBytes() == 0 {
				t.Errorf("node %v", n)
			}
		}
		for _, s := range st.GetShards() {
			for _, r := range s.GetReplicas() {
				if r.GetFirstIndex() != 10 || r.GetLastIndex() < r.GetCommit() || r.GetCommit() < r.GetApplied() || r.GetQueuedWrites() != 0 {
					t.Errorf("replica %v", r)
				}
			}
		}
		own, err := client.NodeStatus(t.Context(), &adminv1.NodeStatusRequest{})
		if err != nil || own.GetAdminAddress() != "n1.test:7481" || len(own.GetReplicas()) != 3 {
			t.Fatalf("%v, %v", own, err)
		}
		if own.GetReplicas()[0].GetShard() != uint64(shardmap.SystemShard) {
			t.Errorf("replicas are not in order: %v", own.GetReplicas())
		}
	})
}
