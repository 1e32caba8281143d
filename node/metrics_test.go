package node_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore/state"
)

// Bounds of what one node exports: label values must come from bounded sets.
const (
	seriesPerReplica = 25
	seriesPerNode    = 320
)

// scrape reads a node's metrics by series, such as ringfort_raft_leaders or
// ringfort_shard_leader{shard="2"}.
func scrape(t *testing.T, c *nodetest.Cluster, index int) (series map[string]float64, text string) {
	t.Helper()
	status, text := httpGet(t, c, index, "/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	series = map[string]float64{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		series[line[:at]] = value
	}
	return series, text
}

// The metrics say what happened, on every node, and are named as Prometheus wants.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 2, Configure: withAdmin})
		client := dial(t, c, 0)
		for range 5 {
			client.put("key", "value")
		}
		client.wantValue("key", "value")
		time.Sleep(2 * time.Second) // figures of the databases are sampled
		sum := func(name string) (total float64) {
			for i := range c.Servers {
				series, _ := scrape(t, c, i)
				v, ok := series[name]
				if !ok {
					t.Errorf("n%d has no %s", i+1, name)
				}
				total += v
			}
			return total
		}
		for name, want := range map[string]float64{
			`ringfort_kv_operations_total{op="put",result="ok"}`:                   5,
			`ringfort_kv_operations_total{op="get",result="ok"}`:                   1,
			`ringfort_kv_operations_total{op="delete",result="ok"}`:                0,
			`ringfort_kv_operation_duration_seconds_count{path="write"}`:           5,
			`ringfort_kv_operation_duration_seconds_bucket{path="read",le="+Inf"}`: 1,
			`ringfort_raft_leaders`:                                                3,
			`ringfort_raft_replicas`:                                               9,
			`ringfort_node_replicas_wanted`:                                        9,
			`ringfort_shard_leader{shard="1"}`:                                     1,
			`ringfort_shard_ready{shard="2"}`:                                      3,
			`ringfort_shard_commit_lag_entries{shard="2"}`:                         0,
			`ringfort_shard_apply_lag_entries{shard="2"}`:                          0,
			`ringfort_shard_no_quorum_seconds{shard="3"}`:                          0,
			`ringfort_gossip_members_alive`:                                        9,
			`ringfort_gossip_members_known`:                                        9,
			`ringfort_node_serving`:                                                3,
			`ringfort_raft_group_restarts_total`:                                   0,
			`ringfort_kv_unary_in_flight`:                                          0,
		} {
			if got := sum(name); got != want {
				t.Errorf("%s: %v over all nodes, want %v", name, got, want)
			}
		}
		for _, name := range []string{
			`ringfort_raft_elections_won_total`, `ringfort_read_rounds_total`, `ringfort_log_syncs_total`,
			`ringfort_log_sync_duration_seconds_count`, `ringfort_pebble_disk_bytes{db="log"}`, `ringfort_pebble_disk_bytes{db="state"}`,
			`ringfort_pebble_wal_bytes{db="log"}`, `ringfort_pebble_memtables{db="log"}`, `ringfort_pebble_wal_written_bytes_total{db="log"}`,
			`ringfort_shard_log_entries{shard="2"}`, `ringfort_node_uptime_seconds`, `go_goroutines`, `process_open_fds`,
		} {
			if sum(name) <= 0 {
				t.Errorf("%s is 0", name)
			}
		}
		_, text := scrape(t, c, 0)
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		if !strings.Contains(text, `ringfort_build_info{commit=`) {
			t.Error("no build is named")
		}

		// Before a node belongs to a cluster, and after a crash of the others, it answers too.
		lone := nodetest.New(t, nodetest.Options{Logger: logger(), Nodes: 1, Configure: withAdmin})
		if err := lone.Servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		if series, _ := scrape(t, lone, 0); series["ringfort_node_serving"] != 0 || series["ringfort_raft_replicas"] != 0 {
			t.Error("an uninitialised node claims to serve")
		}
	})
}

// Events of the disk and what follows from them show by their names.
func TestMetricsOfTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: 2, Configure: withAdmin})
		want := func(values map[string]float64) {
			t.Helper()
			series, _ := scrape(t, c, 0)
			for name, v := range values {
				if got, there := series[name]; got != v || !there {
					t.Errorf("%s is %v, want %v", name, got, v)
				}
			}
		}
		quiet := map[string]float64{
			"ringfort_raft_logs_full": 0, "ringfort_disk_silent": 0, "ringfort_disk_silent_replicas": 0, "ringfort_disk_silences_total": 0,
			"ringfort_disk_space_level": 0, "ringfort_disk_declined_appends_total": 0,
			"ringfort_disk_full_writes_total": 0, "ringfort_disk_tables_refused_total": 0,
			"ringfort_raft_replicas_quarantined": 0, "ringfort_snapshots_sending": 0, "ringfort_snapshots_receiving": 0,
		}
		for _, db := range []string{"log", "state"} {
			for _, name := range []string{"disk_slow_total", "write_stalls_total", "write_stall_seconds_total", "write_stalled",
				"corruptions_total", "background_errors_total"} {
				quiet["ringfort_pebble_"+name+`{db="`+db+`"}`] = 0
			}
		}
		for _, cure := range []string{"stuck_transfer", "commit_stall", "wedged_follower", "lagging_replica"} {
			quiet[`ringfort_raft_watchdog_actions_total{cure="`+cure+`"}`] = 0
		}
		for _, name := range []string{"snapshots_sent", "snapshots_received", "snapshot_sends_failed", "snapshot_receives_failed",
			"snapshot_offers_refused", "snapshot_sent_bytes", "snapshot_received_bytes"} {
			quiet["ringfort_"+name+"_total"] = 0
		}
		want(quiet)
		// This disk does not tell its space, which is not the same as having none.
		if series, _ := scrape(t, c, 0); series["ringfort_disk_free_bytes"] != 0 {
			t.Error("a free space that nobody knows")
		}
		c.Servers[0].HangLog()
		time.Sleep(5 * time.Second)
		want(map[string]float64{"ringfort_disk_silent": 1, "ringfort_disk_silent_replicas": 3, "ringfort_disk_silences_total": 1})
		c.Servers[0].Unhang()
		time.Sleep(5 * time.Second)
		want(map[string]float64{"ringfort_disk_silent": 0, "ringfort_disk_silent_replicas": 0, "ringfort_disk_silences_total": 1})

		g, _ := c.Servers[0].Node().Store().Group(2)
		from := g.Record().Arc.From
		if err := c.Servers[0].Stop(); err != nil {
			t.Fatal(err)
		}
		if err := c.Servers[0].EditState(func(db *pebble.DB) error { return db.Delete(state.RecordKey(from), pebble.NoSync) }); err != nil {
			t.Fatal(err)
		}
		if err := c.Servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		want(map[string]float64{"ringfort_raft_replicas_quarantined": 1, "ringfort_raft_replicas": 2})
	})
}

// The number of series is bounded by that of replicas, whatever clients do.
func TestMetricsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := map[int]int{}
		for _, shards := range []int{2, 12} {
			c := nodetest.Start(t, nodetest.Options{Logger: logger(), Shards: shards, Configure: withAdmin})
			client := dial(t, c, 0)
			for _, key := range []string{"a", "b", "c", "{x}d", "e\"\\\n"} {
				client.put(key, key)
			}
			series, _ := scrape(t, c, 0)
			replicas := shards + 1
			count[shards] = len(series)
			if limit := seriesPerNode + seriesPerReplica*replicas; len(series) > limit {
				t.Errorf("%d series with %d replicas, the bound is %d", len(series), replicas, limit)
			}
			for name := range series {
				if strings.Contains(name, `"{x}d"`) || strings.Contains(name, `="key`) {
					t.Errorf("a label of a client's making: %s", name)
				}
			}
		}
		perReplica := (count[12] - count[2]) / 10
		t.Logf("%d series with 3 replicas, %d with 13: %d a replica, %d beside", count[2], count[12], perReplica, count[2]-3*perReplica)
		if perReplica > seriesPerReplica || count[2]-3*perReplica > seriesPerNode {
			t.Errorf("over the bounds of %d and %d", seriesPerReplica, seriesPerNode)
		}
	})
}
