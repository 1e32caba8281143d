package metrics

import (
	"time"

	"github.com/ringfort/ringfort/internal/histogram"
	"github.com/ringfort/ringfort/raftstore"
)

// stores is the totals of the store and the roles of its replicas.
type stores struct {
	raftstore.Counters
	raftstore.Held
	replicas, leaders, quarantined int
}

func readStores(from Sources) func() (stores, bool) {
	return func() (s stores, ok bool) {
		store, ok := from.Store()
		if !ok {
			return s, false
		}
		s.Counters, s.Held = store.Counters(), store.Held()
		s.quarantined = len(store.Quarantined())
		for _, g := range store.Groups() {
			s.replicas++
			if g.Leads() {
				s.leaders++
			}
		}
		return s, true
	}
}

func addReplication(b *book, from Sources) {
	s := section(b, "Replication", "All replicas of this node together.", one(readStores(from)))
	s.gauge("ringfort_raft_replicas", "Replicas on this node.", "", func(s stores) float64 { return float64(s.replicas) })
	s.gauge("ringfort_raft_leaders", "Shards that this node leads.", "Uneven between nodes: so is their load.",
		func(s stores) float64 { return float64(s.leaders) })
	s.counter("ringfort_raft_elections_won_total", "Leaderships that began here.",
		"Rises outside of restarts and transfers: leaders are lost.", func(s stores) float64 { return float64(s.ElectionsWon) })
	s.counter("ringfort_raft_term_changes_total", "Changes of term seen by the replicas here.",
		"Rises without elections won anywhere: candidates cannot win.", func(s stores) float64 { return float64(s.TermChanges) })
	s.counter("ringfort_raft_group_restarts_total", "Groups restarted in place to get out of a state that raft cannot leave.",
		"Any is worth a look into the log.", func(s stores) float64 { return float64(s.GroupRestarts) })
	s.gauge("ringfort_raft_replicas_quarantined", "Replicas here that do not run because their data or log cannot be trusted.",
		"Any: kvctl cluster status says why; the shard has one replica less.", func(s stores) float64 { return float64(s.quarantined) })
	s.counter("ringfort_raft_entries_proposed_total", "Log entries proposed by leaders here.",
		"", func(s stores) float64 { return float64(s.EntriesProposed) })
	s.counter("ringfort_raft_writes_proposed_total", "Writes in those entries.",
		"Writes per entry show how well writes are merged.", func(s stores) float64 { return float64(s.WritesProposed) })
	s.counter("ringfort_raft_refused_overloaded_total", "Writes and reads that shards refused for a full queue.",
		"See the queues by shard.", func(s stores) float64 { return float64(s.Overloaded) })
	s.gauge("ringfort_raft_queued_writes", "Writes that wait or are in flight, of all shards led here.",
		"Near 131072 writes are refused as overloaded.", func(s stores) float64 { return float64(s.Writes) })
	s.gauge("ringfort_raft_queued_bytes", "Bytes of those writes.", "Near half of --max-client-memory writes are refused as overloaded.",
		func(s stores) float64 { return float64(s.WriteBytes) })
	s.gauge("ringfort_raft_queued_read_keys", "Keys of reads that wait, of all shards.", "Near 131072 reads are refused as overloaded.",
		func(s stores) float64 { return float64(s.ReadKeys) })
	s.counter("ringfort_raft_refused_node_bound_total", "Writes and reads, as frames bring them for one shard, refused for a bound of the node or a share of it.",
		"Rises: shards stand still, or the node is too small.", func(s stores) float64 { return float64(s.Refused) })
	s.gauge("ringfort_raft_pressed", "1 while puts are refused because a database is near a stall, or in one.",
		"1: the disk is too slow for the load; see ringfort_pebble_memtables and ringfort_pebble_l0_sublevels.",
		func(s stores) float64 { return truth(s.Pressed) })
	s.gauge("ringfort_raft_logs_full", "1 while writes are refused because the logs are half above --max-log-bytes.",
		"1: flushes of the state cannot keep up, or the bound is too small for the entries.", func(s stores) float64 { return truth(s.LogsFull) })
	s.counter("ringfort_read_rounds_total", "Rounds that confirmed leaderships for reads.",
		"", func(s stores) float64 { return float64(s.ReadRounds) })
	s.counter("ringfort_read_batches_confirmed_total", "Reads (of one frame for one shard) that those rounds released.",
		"Per round: how well reads share rounds.", func(s stores) float64 { return float64(s.ReadsConfirmed) })
	s.counter("ringfort_read_index_flights_total", "Messages by which leaders on other nodes were asked how far replicas here must be.",
		"", func(s stores) float64 { return float64(s.IndexFlights) })
	s.counter("ringfort_read_index_failures_total", "Of those: without an answer.", "Rises: the network to a leader's node is bad, or the node hangs.",
		func(s stores) float64 { return float64(s.IndexFailures) })
	s.gauge("ringfort_views", "Views of shards that scans hold open.", "Near 64 scans are refused as overloaded: they are many, or their clients read slowly.",
		func(s stores) float64 { return float64(s.Views) })
}

// addReads counts keys read by how they were proven.
func addReads(b *book, from Sources) {
	reads := section(b, "Reads", "Keys read on this node, by how it was known that they are as new as their level asks: leader (a confirm round), follower "+
		"(the leader was asked for its index), replica (what was applied here was enough).",
		func() []row[uint64] {
			store, ok := from.Store()
			if !ok {
				return nil
			}
			c := store.Counters()
			return []row[uint64]{{[]string{"leader"}, c.ReadsByLeader}, {[]string{"follower"}, c.ReadsByFollower}, {[]string{"replica"}, c.ReadsByReplica}}
		}, "served")
	reads.counter("ringfort_read_keys_total", "Keys read.", "Session and bounded-stale reads that all come to the leader: replicas lag behind what is asked.",
		func(n uint64) float64 { return float64(n) })
}

// addWatchdog counts cures by what they are for.
func addWatchdog(b *book, from Sources) {
	cures := section(b, "Watchdog", "Replicas that stood still without a reason that can be seen, by what was done about: stuck_transfer (restarted in "+
		"place), commit_stall (handed over, or restarted), wedged_follower (calls ended; then handed over), lagging_replica (restarted).",
		func() []row[uint64] {
			store, ok := from.Store()
			if !ok {
				return nil
			}
			c := store.Counters()
			return []row[uint64]{
				{[]string{"stuck_transfer"}, c.StuckTransfers}, {[]string{"commit_stall"}, c.CommitStalls},
				{[]string{"wedged_follower"}, c.WedgedFollowers}, {[]string{"lagging_replica"}, c.LaggingReplicas},
			}
		}, "cure")
	cures.counter("ringfort_raft_watchdog_actions_total", "Times that the watchdog acted on a replica.",
		"Any is worth a look into the log, which gives the reason.", func(n uint64) float64 { return float64(n) })
}

func addLog(b *book, from Sources) {
	s := section(b, "Log", "The Raft logs of all shards share one writer and its syncs.", one(readStores(from)))
	s.counter("ringfort_log_syncs_total", "Synced commits.", "", func(s stores) float64 { return float64(s.LogSyncs) })
	s.counter("ringfort_log_entries_total", "Entries they made durable.", "Per sync: how well shards share syncs.",
		func(s stores) float64 { return float64(s.LogEntries) })
	s.counter("ringfort_log_written_bytes_total", "Bytes of all commits, before the database's own overhead.", "",
		func(s stores) float64 { return float64(s.LogBytes) })
	s.histogram("ringfort_log_sync_duration_seconds", "Time of a synced commit, the probe of an idle disk each second included.",
		"Every write waits for this on two nodes: above 10 ms the disk is the bottleneck, above 2 s leaders go elsewhere.",
		func(s stores) histogram.Snapshot { return s.SyncTimes })
	s.gauge("ringfort_log_oldest_pending_sync_seconds", "How long the oldest write has waited for the log's disk; 0 while none waits.",
		"Above a second: the disk hangs.", func(s stores) float64 { return s.OldestPendingSync.Seconds() })
}

// samplePatience is how long a scrape waits for figures that Pebble gives only
// while the disk answers.
const samplePatience = 500 * time.Millisecond
