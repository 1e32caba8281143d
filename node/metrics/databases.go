package metrics

import (
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/raftstore"
)

func addDatabases(b *book, from Sources) {
	read := func() (d raftstore.Databases, ok bool) {
		store, ok := from.Store()
		if ok {
			d = store.Databases(samplePatience)
		}
		return d, ok
	}
	both := section(b, "Databases", "Pebble, by db: log (Raft logs, synced) and state (data, flushed). While the disk hangs these are the last "+
		"that could be had.",
		func() []row[*pebble.Metrics] {
			d, ok := read()
			if !ok {
				return nil
			}
			rows := []row[*pebble.Metrics]{{[]string{"state"}, d.State}}
			if d.Log != nil {
				rows = append(rows, row[*pebble.Metrics]{[]string{"log"}, d.Log})
			}
			return rows
		}, "db")
	gauge := func(name, help, look string, read func(*pebble.Metrics) float64) {
		both.gauge("ringfort_pebble_"+name, help, look, read)
	}
	counter := func(name, help, look string, read func(*pebble.Metrics) float64) {
		both.counter("ringfort_pebble_"+name, help, look, read)
	}
	gauge("disk_bytes", "All files of the database.", "Grows faster than the data: compactions do not keep up.",
		func(m *pebble.Metrics) float64 { return float64(raftstore.DiskBytes(m)) })
	gauge("tables", "Tables on disk.", "", func(m *pebble.Metrics) float64 { return float64(m.Total().TablesCount) })
	gauge("l0_sublevels", "Layers of level 0, each of which a read may visit.", "Above 10: compactions do not keep up.",
		func(m *pebble.Metrics) float64 { return float64(m.Levels[0].Sublevels) })
	gauge("l0_tables", "Tables in level 0.", "", func(m *pebble.Metrics) float64 { return float64(m.Levels[0].TablesCount) })
	gauge("read_amplification", "Tables that a read may visit.", "", func(m *pebble.Metrics) float64 { return float64(m.ReadAmp()) })
	gauge("compaction_debt_bytes", "Bytes to be compacted before the database rests.", "Grows for long: the disk is too slow for the load.",
		func(m *pebble.Metrics) float64 { return float64(m.Compact.EstimatedDebt) })
	gauge("compactions_in_progress", "Compactions that run.", "", func(m *pebble.Metrics) float64 { return float64(m.Compact.NumInProgress) })
	counter("compactions_total", "Compactions.", "", func(m *pebble.Metrics) float64 { return float64(m.Compact.Count) })
	counter("compactions_failed_total", "Compactions that met an error.", "Any: the log says which.",
		func(m *pebble.Metrics) float64 { return float64(m.Compact.FailedCount) })
	counter("compacted_bytes_total", "Bytes that compactions wrote.", "With flushed bytes, over written bytes: the write amplification.",
		func(m *pebble.Metrics) float64 { return float64(m.Total().TableBytesCompacted) })
	counter("flushes_total", "Memtables flushed.", "", func(m *pebble.Metrics) float64 { return float64(m.Flush.Count) })
	counter("flushed_bytes_total", "Bytes that flushes wrote.", "Of the log: entries that lived longer than a memtable.",
		func(m *pebble.Metrics) float64 { return float64(m.Levels[0].TableBytesFlushed) })
	counter("ingested_bytes_total", "Bytes of tables taken in whole.", "Replicas that came as snapshots.",
		func(m *pebble.Metrics) float64 { return float64(m.Total().TableBytesIngested) })
	gauge("memtable_bytes", "Memory of memtables.", "", func(m *pebble.Metrics) float64 { return float64(m.MemTable.Size) })
	gauge("memtables", "Memtables.", "Near 4: writes are about to stall until a flush is done.",
		func(m *pebble.Metrics) float64 { return float64(m.MemTable.Count) })
	gauge("snapshots", "Open snapshots, which keep old versions on disk.", "Above 0 for long: somebody reads all of a shard, or forgot to end.",
		func(m *pebble.Metrics) float64 { return float64(m.Snapshots.Count) })
	gauge("wal_bytes", "Write-ahead log on disk; the state has none.", "", func(m *pebble.Metrics) float64 { return float64(raftstore.WALBytes(m)) })
	counter("wal_written_bytes_total", "Bytes written to it.", "", func(m *pebble.Metrics) float64 { return float64(m.WAL.BytesWritten) })

	shared := section(b, "Databases, shared", "What both databases share, and how fresh the figures of this and the last section are.", one(read))
	shared.gauge("ringfort_pebble_block_cache_bytes", "Blocks in memory.", "", func(d raftstore.Databases) float64 { return float64(d.State.BlockCache.Size) })
	shared.counter("ringfort_pebble_block_cache_hits_total", "Blocks found in memory.", "",
		func(d raftstore.Databases) float64 { return float64(d.State.BlockCache.Hits) })
	shared.counter("ringfort_pebble_block_cache_misses_total", "Blocks read from disk.", "Many per read: more memory would help.",
		func(d raftstore.Databases) float64 { return float64(d.State.BlockCache.Misses) })
	shared.gauge("ringfort_pebble_sample_age_seconds", "Age of the figures.", "More than seconds: the disk does not let Pebble answer.",
		func(d raftstore.Databases) float64 { return math.Max(0, time.Since(d.At).Seconds()) })
}
