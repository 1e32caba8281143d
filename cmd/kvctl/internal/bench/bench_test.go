package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/client"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{
		Load: LoadMixed, Clients: 4, Duration: 10 * time.Second, Warmup: time.Second, ValueSize: 16, Keys: 64,
		ReadRatio: 0.5, Prefix: "bench/", Seed: 1, Preload: true,
	}
}

func TestConfigNamesAllFaults(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	err := Config{Load: "x", Warmup: -1, ValueSize: -1, ReadRatio: 2}.Validate()
	for _, want := range []string{"load", "clients", "duration", "warmup", "value size", "keys", "read ratio"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in: %v", want, err)
		}
	}
}

// fakeKV serves each operation in a fixed time, except while outage says that
// a key cannot be served.
type fakeKV struct {
	mu     sync.Mutex
	keys   map[string]bool
	took   time.Duration
	outage func(key string) error
}

func (f *fakeKV) do(ctx context.Context, key string) error {
	select {
	case <-ctx.Done():
		return &client.Error{Kind: client.ErrTimeout, InDoubt: true}
	case <-time.After(f.took):
	}
	if f.outage != nil {
		return f.outage(key)
	}
	return nil
}

func (f *fakeKV) Put(ctx context.Context, key string, _ []byte) error {
	f.mu.Lock()
	f.keys[key] = true
	f.mu.Unlock()
	return f.do(ctx, key)
}

func (f *fakeKV) Get(ctx context.Context, key string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.keys[key] {
		return nil, &client.Error{Kind: client.ErrNotFound}
	}
	f.mu.Unlock()
	err := f.do(ctx, key)
	f.mu.Lock()
	return nil, err
}

// fakeProbe counts up by fixed amounts from one snapshot to the next.
type fakeProbe struct {
	calls uint64
	nodes map[string]*adminv1.CountersResponse
	next  map[string]*adminv1.CountersResponse
}

var halves = map[shardmap.ShardID]shardmap.Arc{2: {From: 0, To: 8192}, 3: {From: 8192, To: 16384}}

func (p *fakeProbe) Shards(context.Context) (map[shardmap.ShardID]shardmap.Arc, error) {
	return halves, nil
}

func (p *fakeProbe) Counters(context.Context) map[string]*adminv1.CountersResponse {
	if p.calls++; p.calls == 1 {
		return p.nodes
	}
	return p.next
}

func (p *fakeProbe) ClientStats() client.Stats {
	return client.Stats{Frames: 100 * (p.calls + 1), Operations: 800 * (p.calls + 1), Retries: p.calls}
}

func (p *fakeProbe) ClientCPU() time.Duration { return time.Duration(p.calls) * 4 * time.Millisecond }

func TestRunMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &fakeKV{keys: map[string]bool{}, took: 10 * time.Millisecond}
		probe := &fakeProbe{
			nodes: map[string]*adminv1.CountersResponse{
				"n1": {
					CpuUs: 1000, LogSyncs: 10, LogEntriesSynced: 10, EntriesProposed: 5, WritesProposed: 5,
					UptimeUs: 1, FramesIn: 1, Operations: 1,
				},
				"n2": {CpuUs: 9, UptimeUs: 9},
			},
			next: map[string]*adminv1.CountersResponse{
				"n1": {
					CpuUs: 9000, LogSyncs: 20, LogEntriesSynced: 40, EntriesProposed: 15, WritesProposed: 105,
					UptimeUs: 2, FramesIn: 3, Operations: 9,
				},
				"n2": {CpuUs: 1, UptimeUs: 1}, "n3": {},
			},
		}
		report, err := Run(t.Context(), testConfig(), []KV{kv}, probe, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		// Four clients, an operation each every 10 ms, for 10 s; the last ones of
		// each client end with the measurement or just after it.
		if p50 := report.Latency.P50; report.Operations < 3980 || report.Operations > 4000 ||
			p50 < 10_000 || p50 > 10_010 || len(report.Errors) != 0 {
			t.Errorf("operations %d, p50 %d µs, errors %v", report.Operations, report.Latency.P50, report.Errors)
		}
		if n := report.GetLatency.Count; n < 1800 || n > 2200 || report.PutLatency.Count+n != report.Operations {
			t.Errorf("%d gets and %d puts", n, report.PutLatency.Count)
		}
		if report.LongestGap.Milliseconds < 10 || report.LongestGap.Milliseconds > 200 || report.OverallGap.Milliseconds > 21 {
			t.Errorf("gaps %+v, %+v", report.LongestGap, report.OverallGap)
		}
		if fmt.Sprint(report.Incomplete) != "[n2 n3]" {
			t.Errorf("incomplete: %v", report.Incomplete)
		}
		ops := float64(report.Operations)
		for name, c := range map[string]struct{ got, want float64 }{
			"per frame":        {report.OpsPerFrame, 8},
			"per server frame": {report.ServerOpsPerFrame, 4},
			"per entry":        {report.OpsPerEntry, 10},
			"per sync":         {report.EntriesPerSync, 3},
			"server CPU":       {report.ServerCPUMicros, 8000 / ops},
			"client CPU":       {report.ClientCPUMicros, 4000 / ops},
			"retries":          {float64(report.Retries), 1},
		} {
			if c.got != c.want {
				t.Errorf("%s: %v, want %v", name, c.got, c.want)
			}
		}
	})
}

// One shard is out for two seconds: the gap is found, with its shard and start,
// though the other shard goes on.
func TestRunFindsTheGapOfOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := &fakeKV{keys: map[string]bool{}, took: time.Millisecond}
		began := time.Now()
		keys := newKeySpace("bench/", halves)
		kv.outage = func(key string) error {
			at := time.Since(began)
			if keys.shards[keys.bucketOf(key)] == 3 && at > 4*time.Second && at < 6*time.Second {
				return &client.Error{Kind: client.ErrUnavailable}
			}
			return nil
		}
		cfg := testConfig()
		cfg.Load, cfg.Warmup = LoadPut, 0
		report, err := Run(t.Context(), cfg, []KV{kv}, &fakeProbe{}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		gap := report.LongestGap
		if gap.Shard != 3 || gap.Milliseconds < 1990 || gap.Milliseconds > 2050 || gap.AtSeconds < 3.9 || gap.AtSeconds > 4.1 {
			t.Errorf("gap %+v", gap)
		}
		if report.OverallGap.Milliseconds > 100 || report.Errors["unavailable"] == 0 || report.InDoubt != 0 {
			t.Errorf("overall %+v, errors %v", report.OverallGap, report.Errors)
		}
	})
}

func TestRunIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		for after, reported := range map[time.Duration]bool{500 * time.Millisecond: false, 3500 * time.Millisecond: true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(after, func() { cancel(why) })
			cfg := testConfig()
			cfg.Load = LoadPut
			report, err := Run(ctx, cfg, []KV{&fakeKV{keys: map[string]bool{}, took: time.Millisecond}}, &fakeProbe{}, func(string) {})
			if !errors.Is(err, why) || (report != nil) != reported {
				t.Errorf("after %v: %+v, %v", after, report, err)
			}
			if report != nil && (report.Seconds < 2.4 || report.Seconds > 2.6) {
				t.Errorf("measured %v s", report.Seconds)
			}
		}
	})
}

func TestPreloadFails(t *testing.T) {
	kv := &fakeKV{keys: map[string]bool{}, outage: func(string) error { return &client.Error{Kind: client.ErrUnavailable} }}
	report, err := Run(t.Context(), testConfig(), []KV{kv}, &fakeProbe{}, func(string) {})
	if !errors.Is(err, client.ErrUnavailable) || report != nil {
		t.Fatalf("%+v, %v", report, err)
	}
}

// The longest gap, against all times sorted by hand.
func TestGapsAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := 1000
		times := rapid.SliceOfN(rapid.IntRange(1, end), 0, 30).Draw(t, "times")
		g := newGaps([]shardmap.ShardID{7})
		g.asked(0)
		seen := map[int]bool{0: true, end: true}
		high := 0
		for _, at := range times {
			g.success(0, time.Duration(at)*time.Millisecond)
			if at > high {
				seen[at], high = true, at // one out of order tells nothing new
			}
		}
		worst, overall := g.finish(time.Duration(end) * time.Millisecond)
		last, longest := 0, 0
		for at := range end + 1 {
			if seen[at] {
				longest, last = max(longest, at-last), at
			}
		}
		if int(worst.Milliseconds) != longest || worst.Shard != 7 || overall.Milliseconds != worst.Milliseconds {
			t.Fatalf("worst %+v, overall %+v, want %d ms", worst, overall, longest)
		}
	})
}

func TestUnaskedShardHasNoGap(t *testing.T) {
	g := newGaps([]shardmap.ShardID{0, 2})
	g.asked(1)
	g.success(1, time.Second)
	if worst, _ := g.finish(2 * time.Second); worst.Shard != 2 || worst.Milliseconds != 1000 {
		t.Fatalf("%+v", worst)
	}
}

func TestKeySpace(t *testing.T) {
	k := newKeySpace("p", halves)
	found := map[shardmap.ShardID]int{}
	for i := range 1000 {
		found[k.shards[k.bucketOf(k.key(i))]]++
	}
	if len(found) != 2 || found[2] < 400 || found[3] < 400 {
		t.Errorf("keys per shard: %v", maps.Collect(maps.All(found)))
	}
	if unknown := newKeySpace("p", nil); unknown.shards[unknown.bucketOf("x")] != 0 {
		t.Error("a key without a known shard has one")
	}
}

func TestKindNames(t *testing.T) {
	for name, err := range map[string]error{
		"timeout":         &client.Error{Kind: client.ErrTimeout, InDoubt: true},
		"outcome_unknown": &client.Error{Kind: client.ErrInDoubt},
		"too_large":       &client.Error{Kind: client.ErrTooLarge},
		"unavailable":     fmt.Errorf("x: %w", &client.Error{Kind: client.ErrUnavailable}),
		"other":           errors.New("x"),
	} {
		if got := kindName(err); got != name {
			t.Errorf("%v: %s, want %s", err, got, name)
		}
	}
}
