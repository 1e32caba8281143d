package metrics

import (
	"strings"

	"github.com/ringfort/ringfort/internal/histogram"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/kvserver"
)

// resultName is the label value of a kind of answer.
func resultName(kind kverr.Kind) string {
	if kind == kverr.None {
		return "ok"
	}
	return strings.ReplaceAll(kind.String(), " ", "_")
}

func addOperations(b *book, from Sources) {
	counts := section(b, "Operations of clients", "Answers of this node, by operation and result: ok or the kind of error. An operation "+
		"that a client repeats, or that a call waiting for a leader tries again, counts each time.",
		func() []row[float64] {
			kv, ok := from.KV()
			if !ok {
				return nil
			}
			var rows []row[float64]
			for _, c := range kv.Results() {
				rows = append(rows, row[float64]{[]string{c.Op.String(), resultName(c.Result)}, float64(c.Count)})
			}
			return rows
		}, "op", "result")
	counts.counter("ringfort_kv_operations_total", "Operations answered.",
		"Which errors grow? overloaded: a queue is full. unavailable: a shard has no quorum. not_leader: clients follow a change of leaders.",
		func(n float64) float64 { return n })

	times := section(b, "Latency of operations", "From a frame's arrival to its answer's being ready to send, by path: read (gets), write (puts "+
		"and deletes), failure (what was refused, whatever it was).",
		func() []row[histogram.Snapshot] {
			kv, ok := from.KV()
			if !ok {
				return nil
			}
			l := kv.Latencies()
			return []row[histogram.Snapshot]{
				{[]string{"read"}, l.Reads}, {[]string{"write"}, l.Writes}, {[]string{"failure"}, l.Failures},
			}
		}, "path")
	times.histogram("ringfort_kv_operation_duration_seconds", "Time to answer an operation.",
		"Writes slow and syncs too: the disk. Reads slow only: confirm rounds, so the network or a busy peer. Both slow: the processor.",
		func(s histogram.Snapshot) histogram.Snapshot { return s })
}

func addServer(b *book, from Sources) {
	now := section(b, "Under way", "What clients have under way on this node at this moment.", one(func() (f kvserver.InFlight, ok bool) {
		kv, ok := from.KV()
		if ok {
			f = kv.InFlight()
		}
		return f, ok
	}))
	now.gauge("ringfort_kv_streams", "Open streams of clients.", "Near 1024 new ones are refused.",
		func(f kvserver.InFlight) float64 { return float64(f.Streams) })
	now.gauge("ringfort_kv_unary_in_flight", "Unary calls in progress.", "Near 4096 new ones are refused.",
		func(f kvserver.InFlight) float64 { return float64(f.Unary) })
	now.gauge("ringfort_kv_scans", "Scans in progress.", "Near 64 new ones are refused.",
		func(f kvserver.InFlight) float64 { return float64(f.Scans) })
	now.gauge("ringfort_kv_watches", "Watches in progress.", "Near 4096 new ones are refused.",
		func(f kvserver.InFlight) float64 { return float64(f.Watches) })
	now.gauge("ringfort_kv_operations_in_flight", "Operations of streams that were taken and not yet answered.",
		"Grows without more load: something behind is slow.", func(f kvserver.InFlight) float64 { return float64(f.Operations) })
	now.gauge("ringfort_kv_batches_in_flight", "Parts of frames (reads or writes for one shard) that shards have not answered.",
		"", func(f kvserver.InFlight) float64 { return float64(f.Batches) })
	now.gauge("ringfort_kv_request_bytes", "Memory that unanswered operations of streams are charged with.",
		"", func(f kvserver.InFlight) float64 { return float64(f.RequestBytes) })
	now.gauge("ringfort_kv_answer_bytes", "Memory of answers that wait to be sent.",
		"Grows: clients read slower than they ask.", func(f kvserver.InFlight) float64 { return float64(f.AnswerBytes) })

	now.gauge("ringfort_kv_held_bytes", "Memory that requests and unread answers of all clients are charged with, unary calls included.",
		"Near --max-client-memory clients are refused as overloaded: they read slower than they ask, or shards do not get on.",
		func(f kvserver.InFlight) float64 { return float64(f.HeldBytes) })

	s := section(b, "Data service", "Totals of the service that clients use.", one(func() (c kvserver.Counters, ok bool) {
		kv, ok := from.KV()
		if ok {
			c = kv.Counters()
		}
		return c, ok
	}))
	s.counter("ringfort_kv_frames_total", "Frames of clients, unary calls included.",
		"Operations per frame show how well clients batch.", func(c kvserver.Counters) float64 { return float64(c.Frames) })
	s.counter("ringfort_kv_operations_received_total", "Operations in those frames.",
		"", func(c kvserver.Counters) float64 { return float64(c.Operations) })
	s.counter("ringfort_kv_forwarded_total", "Unary operations sent on to their leader's node.",
		"Clients without routing of their own; each costs a hop.", func(c kvserver.Counters) float64 { return float64(c.Forwarded) })
	s.counter("ringfort_kv_refused_overloaded_total", "Operations, calls and streams refused for a full queue or limit.",
		"Rises: the node or one shard has more to do than it can; see the queues by shard.", func(c kvserver.Counters) float64 { return float64(c.Overloaded) })
	s.counter("ringfort_kv_refused_memory_total", "Of those: calls, and parts of frames, refused for --max-client-memory.",
		"Rises: see ringfort_kv_held_bytes.", func(c kvserver.Counters) float64 { return float64(c.NodeFull) })
	s.counter("ringfort_kv_values_shed_total", "Reads answered overloaded after all, because their values exceeded what a stream may hold unread.",
		"Clients read large values in large batches; ringfort_kv_operations_total counts these reads as ok.",
		func(c kvserver.Counters) float64 { return float64(c.Shed) })
	s.counter("ringfort_kv_streams_stalled_total", "Streams cut because their client took no frame in time.",
		"Clients hang, or the network to them.", func(c kvserver.Counters) float64 { return float64(c.Stalled) })
}

func addScans(b *book, from Sources) {
	s := section(b, "Scans", "Scans of this node's replicas, one for each shard that a client's scan meets.", one(func() (c kvserver.Counters, ok bool) {
		kv, ok := from.KV()
		if ok {
			c = kv.Counters()
		}
		return c, ok
	}))
	s.counter("ringfort_kv_scans_total", "Scans begun.", "", func(c kvserver.Counters) float64 { return float64(c.Scans) })
	s.counter("ringfort_kv_scans_failed_total", "Scans that ended with an error other than directions to another node.",
		"Rises: clients read slowly, or leave; see ringfort_kv_feeds_stalled_total.", func(c kvserver.Counters) float64 { return float64(c.ScansFailed) })
	s.counter("ringfort_kv_scanned_keys_total", "Keys sent.", "", func(c kvserver.Counters) float64 { return float64(c.ScanItems) })
	s.counter("ringfort_kv_scanned_bytes_total", "Bytes of the keys and values sent.", "", func(c kvserver.Counters) float64 { return float64(c.ScanBytes) })
	s.counter("ringfort_kv_scan_seeks_total", "Positions sought by scans that came to their end.",
		"Per key: near 1 scans go by key over many slots, which is the dear order.", func(c kvserver.Counters) float64 { return float64(c.ScanSeeks) })
	s.counter("ringfort_kv_scan_examined_total", "Keys looked at by scans that came to their end, counted and due ones too.", "",
		func(c kvserver.Counters) float64 { return float64(c.ScanExamined) })
	s.counter("ringfort_kv_feeds_stalled_total", "Scans and watches cut because their client took nothing for 30 s.",
		"Clients hang, or work long between two pages.", func(c kvserver.Counters) float64 { return float64(c.FeedsStalled) })
}

func addWatches(b *book, from Sources) {
	s := section(b, "Watches", "Watches of this node's replicas, one for each shard that a client watches.", one(func() (c kvserver.Counters, ok bool) {
		kv, ok := from.KV()
		if ok {
			c = kv.Counters()
		}
		return c, ok
	}))
	s.counter("ringfort_kv_watches_total", "Watches begun.", "Rises fast: clients begin again and again; see the next two.",
		func(c kvserver.Counters) float64 { return float64(c.Watches) })
	s.counter("ringfort_kv_watches_compacted_total", "Watches ended or refused because their changes are not remembered here any more.",
		"Rises: watchers are slow or were away for long, or values are large; see ringfort_shard_watch_bytes.",
		func(c kvserver.Counters) float64 { return float64(c.WatchesCompacted) })
	s.counter("ringfort_kv_watches_cut_off_total", "Watches ended because the replica did not know for 3 s whether it is cut off from its shard.",
		"Rises: this node is cut off, or shards have no leader.", func(c kvserver.Counters) float64 { return float64(c.WatchesCutOff) })
	s.counter("ringfort_kv_watched_changes_total", "Changes sent.", "", func(c kvserver.Counters) float64 { return float64(c.WatchChanges) })
	s.counter("ringfort_kv_watched_bytes_total", "Bytes of the changes sent.", "", func(c kvserver.Counters) float64 { return float64(c.WatchBytes) })
}
