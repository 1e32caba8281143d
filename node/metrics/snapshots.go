package metrics

import "github.com/ringfort/ringfort/raftstore/transport"

func addSnapshots(b *book, from Sources) {
	s := section(b, "Snapshots", "Whole replicas that travel, because their follower needs more than its leader's log has.",
		one(func() (t transport.Stats, ok bool) {
			store, ok := from.Store()
			if ok {
				t = store.Snapshots()
			}
			return t, ok
		}))
	s.gauge("ringfort_snapshots_sending", "Snapshots that are sent now, those that wait for their turn included.",
		"Above 0 for long: see ringfort_snapshot_sent_bytes_total for progress.", func(t transport.Stats) float64 { return float64(t.SnapshotsSending) })
	s.gauge("ringfort_snapshots_receiving", "Snapshots that are received now.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotsReceiving) })
	s.counter("ringfort_snapshots_sent_total", "Snapshots sent and installed.",
		"Rises while replicas catch up; without end: --log-bytes-per-shard is too small for the load.",
		func(t transport.Stats) float64 { return float64(t.SnapshotsSent) })
	s.counter("ringfort_snapshots_received_total", "Snapshots received and installed.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotsReceived) })
	s.counter("ringfort_snapshot_sends_failed_total", "Snapshots that were not sent to the end, or not installed.",
		"Rises without sent ones: a follower gets none; the log says why.", func(t transport.Stats) float64 { return float64(t.SnapshotSendsFailed) })
	s.counter("ringfort_snapshot_receives_failed_total", "Snapshots that were taken on and not installed.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotReceivesFailed) })
	s.counter("ringfort_snapshot_offers_refused_total", "Snapshots that this node did not take on: it was busy, full, or had no use for them.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotOffersRefused) })
	s.counter("ringfort_snapshot_sent_bytes_total", "Bytes sent, of failed ones too.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotBytesSent) })
	s.counter("ringfort_snapshot_received_bytes_total", "Bytes received, of failed ones too.", "",
		func(t transport.Stats) float64 { return float64(t.SnapshotBytesReceived) })
}
