package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/bench"
)

func (a *app) benchCommand() *cobra.Command {
	var cfg bench.Config
	var connections int
	var keepKeys bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a closed loop of clients",
		Long: `Measure a closed loop: each of --clients does one operation after the other on
random keys, for --duration after --warmup. get and mixed write all keys first.

longest_gap is the longest time during which no operation on one shard's keys
succeeded, from the start of the measurement or one success to the next one or
the end; longest_gap_all is that of all keys together. With few clients or slow
operations it is an upper bound, since nobody may have asked.

-o json prints load, clients, connections, value_size, keys, read_ratio,
duration_s, operations, ops_per_second, errors (by kind), in_doubt, latency_us,
get_latency_us, put_latency_us (count, mean, p50, p95, p99, p99_9, max),
longest_gap (ms, at_s, shard), longest_gap_all, operations_per_frame (sent by
the clients), operations_per_server_frame, operations_per_entry (writes in one
Raft entry), entries_per_log_sync, log_syncs_per_second, reads_per_round,
server_cpu_us_per_operation (all nodes), client_cpu_us_per_operation (kvctl),
client_retries, client_redirects, elections_won, overloaded, incomplete_nodes
(restarted or silent: what they did is not in the figures).

Errors are counted and do not end the run. Exit code 5 means that not one
operation succeeded.`,
		Example:           "  kvctl bench --load mixed --clients 64 --duration 10s --value-size 256 --keys 100000",
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Preload = !keepKeys
			if err := cfg.Validate(); err != nil {
				return usageErrorf("", "%w", err)
			}
			if connections < 1 || connections > cfg.Clients {
				return usageErrorf("", "--connections: %d is not in 1 to --clients", connections)
			}
			return a.bench(cmd.Context(), cfg, connections)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Load, "load", bench.LoadMixed, "put, get or mixed")
	f.IntVar(&cfg.Clients, "clients", 64, "operations under way at a time")
	f.IntVar(&connections, "connections", 1, "client objects, each with a connection to every node it needs")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "time that is measured")
	f.DurationVar(&cfg.Warmup, "warmup", time.Second, "time before it")
	f.IntVar(&cfg.ValueSize, "value-size", 256, "bytes of each value")
	f.IntVar(&cfg.Keys, "keys", 10_000, "number of keys")
	f.Float64Var(&cfg.ReadRatio, "read-ratio", 0.5, "part of the operations of mixed that are reads")
	f.StringVar(&cfg.Prefix, "key-prefix", "bench/", "what the keys start with")
	f.Uint64Var(&cfg.Seed, "seed", 1, "of the choice of keys and operations")
	complete(cmd, "load", []string{bench.LoadPut, bench.LoadGet, bench.LoadMixed})
	f.BoolVar(&keepKeys, "no-preload", false, "the keys are there from an earlier run")
	return cmd
}

func (a *app) bench(ctx context.Context, cfg bench.Config, connections int) error {
	p := &probe{app: a}
	defer p.close()
	var kvs []bench.KV
	for range connections {
		c, err := a.openClient(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		p.clients = append(p.clients, c)
		kvs = append(kvs, store{c})
	}
	report, err := bench.Run(ctx, cfg, kvs, p, func(s string) { a.note("%s", s) })
	if report == nil {
		return err
	}
	if printErr := a.printBench(report); printErr != nil {
		return printErr
	}
	if err == nil && report.Operations == 0 {
		failed := &commandError{code: exitUnavailable, err: fmt.Errorf("no operation succeeded: %s", errorList(report.Errors))}
		if report.Errors["not_found"] > 0 && len(report.Errors) == 1 {
			failed.hint = "leave out --no-preload, or name the --key-prefix and --keys of an earlier run"
		}
		return failed
	}
	return err
}

func (a *app) printBench(r *bench.Report) error {
	if a.wantsJSON() {
		return a.printJSON(r)
	}
	var rows []string
	row := func(name, format string, args ...any) { rows = append(rows, name+"\t"+fmt.Sprintf(format, args...)) }
	row("load", "%s, %d clients, %d connections, %d keys of %d bytes, %.1f s",
		r.Load, r.Clients, r.Conns, r.Keys, r.ValueSize, r.Seconds)
	row("operations", "%s, %s/s", humanize.Comma(int64(r.Operations)), humanize.Comma(int64(r.PerSecond)))
	row("errors", "%s", errorList(r.Errors))
	for _, l := range []struct {
		name string
		bench.Latency
	}{{"get", r.GetLatency}, {"put", r.PutLatency}} {
		if l.Count > 0 {
			row(l.name+" latency", "p50 %s  p95 %s  p99 %s  p99.9 %s  max %s",
				micros(l.P50), micros(l.P95), micros(l.P99), micros(l.P999), micros(l.Max))
		}
	}
	row("longest gap", "%.1f ms on shard %d at %.1f s; %.1f ms on all keys",
		r.LongestGap.Milliseconds, r.LongestGap.Shard, r.LongestGap.AtSeconds, r.OverallGap.Milliseconds)
	row("merged", "%.1f operations per frame, %.1f writes per entry, %.1f entries per log sync, %.1f reads per round",
		r.OpsPerFrame, r.OpsPerEntry, r.EntriesPerSync, r.ReadsPerRound)
	row("CPU per operation", "%.1f µs on the nodes, %.1f µs here", r.ServerCPUMicros, r.ClientCPUMicros)
	row("unrest", "%d retries, %d redirects, %d elections, %d refused for overload",
		r.Retries, r.Redirects, r.ElectionsWon, r.Overloaded)
	if len(r.Incomplete) > 0 {
		row("not counted", "%s (restarted or silent)", strings.Join(r.Incomplete, ", "))
	}
	return a.table(rows[0], rows[1:])
}

func errorList(errors map[string]uint64) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		parts = append(parts, fmt.Sprintf("%d %s", errors[kind], kind))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func micros(us int64) string {
	if us < 1000 {
		return fmt.Sprintf("%d µs", us)
	}
	return fmt.Sprintf("%.2f ms", float64(us)/1000)
}
