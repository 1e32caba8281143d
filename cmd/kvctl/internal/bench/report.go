package bench

import (
	"context"
	"maps"
	"slices"
	"time"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/client"
)

// Report is what Run measured. Ratios are 0 when there was nothing to divide.
type Report struct {
	Load      string  `json:"load"`
	Clients   int     `json:"clients"`
	Conns     int     `json:"connections"`
	ValueSize int     `json:"value_size"`
	Keys      int     `json:"keys"`
	ReadRatio float64 `json:"read_ratio"`
	Seconds   float64 `json:"duration_s"`

	Operations uint64            `json:"operations"` // that succeeded
	PerSecond  float64           `json:"ops_per_second"`
	Errors     map[string]uint64 `json:"errors"`
	InDoubt    uint64            `json:"in_doubt"` // contained in errors

	Latency    Latency `json:"latency_us"`
	GetLatency Latency `json:"get_latency_us"`
	PutLatency Latency `json:"put_latency_us"`

	LongestGap Gap `json:"longest_gap"`     // of any one shard's keys
	OverallGap Gap `json:"longest_gap_all"` // of all keys together

	OpsPerFrame       float64 `json:"operations_per_frame"`        // as sent by the clients
	ServerOpsPerFrame float64 `json:"operations_per_server_frame"` // as received by the nodes
	OpsPerEntry       float64 `json:"operations_per_entry"`        // writes in one Raft entry
	EntriesPerSync    float64 `json:"entries_per_log_sync"`        // all nodes, all roles
	ReadsPerRound     float64 `json:"reads_per_round"`             // confirmed by one round of questions
	SyncsPerSecond    float64 `json:"log_syncs_per_second"`        // all nodes
	ServerCPUMicros   float64 `json:"server_cpu_us_per_operation"` // all nodes
	ClientCPUMicros   float64 `json:"client_cpu_us_per_operation"` // this process
	Retries           uint64  `json:"client_retries"`
	Redirects         uint64  `json:"client_redirects"`
	ElectionsWon      uint64  `json:"elections_won"`
	Overloaded        uint64  `json:"overloaded"` // refusals counted by the nodes

	// Incomplete names nodes that were restarted or did not answer: the figures
	// from counters leave out what they did.
	Incomplete []string `json:"incomplete_nodes"`
}

func (r *run) report(measured time.Duration) *Report {
	get, put := newHistogram(), newHistogram()
	rep := &Report{
		Load: r.cfg.Load, Clients: r.cfg.Clients, Conns: len(r.kvs), ValueSize: r.cfg.ValueSize, Keys: r.cfg.Keys,
		ReadRatio: r.cfg.readShare(), Seconds: measured.Seconds(), Errors: map[string]uint64{}, Incomplete: []string{},
	}
	for _, rec := range r.recorders {
		get.Merge(rec.get)
		put.Merge(rec.put)
		for kind, n := range rec.errors {
			rep.Errors[kind] += n
		}
		rep.InDoubt += rec.inDoubt
	}
	rep.GetLatency, rep.PutLatency = summarize(get), summarize(put)
	get.Merge(put)
	rep.Latency = summarize(get)
	rep.Operations = rep.Latency.Count
	rep.PerSecond = ratio(float64(rep.Operations), rep.Seconds)
	rep.LongestGap, rep.OverallGap = r.gaps.finish(measured)
	return rep
}

// counters is everything that is counted outside of this package.
type counters struct {
	nodes  map[string]*adminv1.CountersResponse
	client client.Stats
	cpu    time.Duration
}

func snapshot(ctx context.Context, probe Probe) counters {
	return counters{client: probe.ClientStats(), cpu: probe.ClientCPU(), nodes: probe.Counters(ctx)}
}

// addCounters fills in what follows from the counters' growth.
func (r *Report) addCounters(before, after counters) {
	var d totals
	names := slices.Sorted(maps.Keys(before.nodes))
	for _, name := range slices.Sorted(maps.Keys(after.nodes)) {
		if _, known := before.nodes[name]; !known {
			names = append(names, name)
		}
	}
	for _, name := range names {
		old, now := before.nodes[name], after.nodes[name]
		// A counter that starts again at zero belongs to a new process.
		if old == nil || now == nil || now.GetUptimeUs() < old.GetUptimeUs() {
			r.Incomplete = append(r.Incomplete, name)
			continue
		}
		d.add(old, now)
	}
	ops := float64(r.Operations)
	r.OpsPerFrame = ratio(
		float64(after.client.Operations-before.client.Operations), float64(after.client.Frames-before.client.Frames))
	r.ServerOpsPerFrame = ratio(d.operations, d.frames)
	r.OpsPerEntry = ratio(d.writesProposed, d.entriesProposed)
	r.EntriesPerSync = ratio(d.entriesSynced, d.syncs)
	r.ReadsPerRound = ratio(d.reads, d.rounds)
	r.SyncsPerSecond = ratio(d.syncs, r.Seconds)
	r.ServerCPUMicros = ratio(d.cpu, ops)
	r.ClientCPUMicros = ratio(float64((after.cpu - before.cpu).Microseconds()), ops)
	r.Retries = after.client.Retries - before.client.Retries
	r.Redirects = after.client.Redirects - before.client.Redirects
	r.ElectionsWon, r.Overloaded = uint64(d.elections), uint64(d.overloaded)
}

// totals are counters' growth, summed over nodes.
type totals struct {
	frames, operations, entriesProposed, writesProposed, syncs, entriesSynced float64
	rounds, reads, cpu, elections, overloaded                                 float64
}

func (d *totals) add(old, now *adminv1.CountersResponse) {
	grow := func(sum *float64, get func(*adminv1.CountersResponse) uint64) { *sum += float64(get(now) - get(old)) }
	grow(&d.frames, (*adminv1.CountersResponse).GetFramesIn)
	grow(&d.operations, (*adminv1.CountersResponse).GetOperations)
	grow(&d.entriesProposed, (*adminv1.CountersResponse).GetEntriesProposed)
	grow(&d.writesProposed, (*adminv1.CountersResponse).GetWritesProposed)
	grow(&d.syncs, (*adminv1.CountersResponse).GetLogSyncs)
	grow(&d.entriesSynced, (*adminv1.CountersResponse).GetLogEntriesSynced)
	grow(&d.rounds, (*adminv1.CountersResponse).GetReadRounds)
	grow(&d.reads, (*adminv1.CountersResponse).GetReadsConfirmed)
	grow(&d.cpu, (*adminv1.CountersResponse).GetCpuUs)
	grow(&d.elections, (*adminv1.CountersResponse).GetElectionsWon)
	grow(&d.overloaded, (*adminv1.CountersResponse).GetOverloaded)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
