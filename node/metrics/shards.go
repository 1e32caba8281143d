package metrics

import (
	"math"
	"strconv"

	"github.com/ringfort/ringfort/raftstore"
)

func addShards(b *book, from Sources) {
	s := section(b, "Replicas, by shard", "Each replica on this node. For a lag between nodes compare the same shard on both.",
		func() []row[raftstore.Status] {
			store, ok := from.Store()
			if !ok {
				return nil
			}
			var rows []row[raftstore.Status]
			for _, g := range store.Groups() {
				st := g.Status()
				rows = append(rows, row[raftstore.Status]{[]string{strconv.FormatUint(uint64(st.Shard), 10)}, st})
			}
			return rows
		}, "shard")
	gauge := func(name, help, look string, read func(raftstore.Status) float64) {
		s.gauge("ringfort_shard_"+name, help, look, read)
	}
	gauge("leader", "1 while this replica leads.", "The sum over all nodes is 1 for each shard, or the shard has no leader.",
		func(st raftstore.Status) float64 { return truth(st.State == "leader") })
	gauge("ready", "1 while this replica leads and serves, or follows a leader.", "0 on all nodes: the shard is down.",
		func(st raftstore.Status) float64 { return truth(st.Ready || st.State == "follower" && st.Leader != "") })
	gauge("no_quorum_seconds", "How long this replica has known no leader; 0 while it knows one.",
		"More than a few seconds: its peers are down or cut off.", func(st raftstore.Status) float64 { return st.NoQuorumFor.Seconds() })
	gauge("term", "Raft term.", "Rises again and again: leaders are lost, for a slow disk or network.",
		func(st raftstore.Status) float64 { return float64(st.Term) })
	gauge("commit_index", "Last committed log index that this replica knows.", "", func(st raftstore.Status) float64 { return float64(st.Commit) })
	gauge("applied_index", "Last applied log index.", "Far below that of other nodes: the replica is behind.",
		func(st raftstore.Status) float64 { return float64(st.Applied) })
	gauge("commit_lag_entries", "Entries in this replica's log that are not committed.",
		"Grows on the leader: its followers do not acknowledge.", func(st raftstore.Status) float64 { return lag(st.LastIndex, st.Commit) })
	gauge("apply_lag_entries", "Committed entries that this replica has not applied.",
		"Grows: the state database is slow, or stalls.", func(st raftstore.Status) float64 { return lag(st.Commit, st.Applied) })
	gauge("log_entries", "Entries that the log holds.", "", func(st raftstore.Status) float64 { return lag(st.LastIndex, st.FirstIndex) })
	gauge("log_bytes", "Size of the log; absent while it is not known.", "Grows without end: the log is not truncated.",
		func(st raftstore.Status) float64 {
			if st.LogBytes < 0 {
				return math.NaN()
			}
			return float64(st.LogBytes)
		})
	gauge("queued_writes", "Writes that wait for the leader's proposer or are in flight.",
		"Near 16384 writes are refused as overloaded.", func(st raftstore.Status) float64 { return float64(st.QueuedWrites) })
	gauge("queued_bytes", "Bytes of those writes.", "Near 32 MiB writes are refused as overloaded.",
		func(st raftstore.Status) float64 { return float64(st.QueuedBytes) })
	gauge("queued_read_keys", "Keys of reads that wait to be confirmed or applied.",
		"Near 16384 reads are refused as overloaded.", func(st raftstore.Status) float64 { return float64(st.QueuedReads) })
	gauge("request_records", "Answers kept for repeated requests.", "Near 262144 numbered writes are refused as overloaded.",
		func(st raftstore.Status) float64 { return float64(st.Requests.Records) })
	gauge("request_clients", "Clients with such answers.", "Near 65536 numbered writes of new clients are refused as overloaded.",
		func(st raftstore.Status) float64 { return float64(st.Requests.Clients) })
	gauge("watch_bytes", "Memory of the newest changes, kept for watches.", "At 4 MiB, or this shard's part of 256 MiB, the oldest go.",
		func(st raftstore.Status) float64 { return float64(st.WatchBytes) })
	gauge("request_bytes", "Estimated memory of that table.", "", func(st raftstore.Status) float64 { return float64(st.Requests.Bytes) })
}

// lag is how far one index is ahead of another, which may have been read earlier
// or later.
func lag(ahead, behind uint64) float64 { return math.Max(0, float64(ahead)-float64(behind)) }
