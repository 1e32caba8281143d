package metrics

import (
	"math"

	"github.com/ringfort/ringfort/internal/dbevents"
	"github.com/ringfort/ringfort/raftstore"
)

func addDisk(b *book, from Sources) {
	s := section(b, "Disk", "The disk of the data directory. Space is looked at each second and as the node writes.",
		one(func() (d raftstore.Disk, ok bool) {
			store, ok := from.Store()
			if ok {
				d = store.Disk()
			}
			return d, ok
		}))
	space := func(read func(raftstore.Disk) uint64) func(raftstore.Disk) float64 {
		return func(d raftstore.Disk) float64 {
			if !d.Space.Known {
				return math.NaN()
			}
			return float64(read(d))
		}
	}
	s.gauge("ringfort_disk_silent", "1 while syncs of the log hang and all replicas here are silent, so that others lead.",
		"1: the disk hangs, and the process ends unless it comes back within seconds.", func(d raftstore.Disk) float64 { return truth(d.Silent) })
	s.gauge("ringfort_disk_silent_replicas", "Replicas that are silent, for whichever reason.", "",
		func(d raftstore.Disk) float64 { return float64(d.SilentReplicas) })
	s.counter("ringfort_disk_silences_total", "Times that a replica here, or all at once, fell silent for a disk that hung.",
		"Rises: the disk hangs again and again, and leaders move.", func(d raftstore.Disk) float64 { return float64(d.Silences) })
	s.gauge("ringfort_disk_space_level", "0 while there is room, 1 when space is low, 2 when it is critical.",
		"1: puts are refused here. 2: all but a few deletes too, and followers decline entries.", func(d raftstore.Disk) float64 { return float64(d.Space.Level) })
	s.gauge("ringfort_disk_free_bytes", "Free space, less what the ballast is owed; absent where the disk does not tell.",
		"Falls towards ringfort_disk_low_bytes.", space(func(d raftstore.Disk) uint64 { return d.Space.Free }))
	s.gauge("ringfort_disk_low_bytes", "Free space below which puts are refused.", "", space(func(d raftstore.Disk) uint64 { return d.Space.LowAt }))
	s.gauge("ringfort_disk_size_bytes", "Size of the disk.", "", space(func(d raftstore.Disk) uint64 { return d.Space.Total }))
	s.gauge("ringfort_disk_ballast_bytes", "What the ballast takes up now.", "0 although one was asked for: the disk was full, and has no room for it yet.",
		space(func(d raftstore.Disk) uint64 { return d.Space.Ballast }))
	s.counter("ringfort_disk_full_writes_total", "Writes that met a full disk and were repeated without the ballast.",
		"Any: others fill the disk, or the bounds are too tight.", func(d raftstore.Disk) float64 { return float64(d.Space.FullHits) })
	s.counter("ringfort_disk_tables_refused_total", "Tables that were refused the last reserve of the disk.",
		"Rises: nothing is compacted or flushed any more.", func(d raftstore.Disk) float64 { return float64(d.Space.TablesRefused) })
	s.counter("ringfort_disk_declined_appends_total", "Appends of leaders elsewhere declined for want of space.",
		"Rises: the replicas here fall behind.", func(d raftstore.Disk) float64 { return float64(d.Declined) })
}

func addDatabaseEvents(b *book, from Sources) {
	s := section(b, "Databases, events", "What Pebble reports while it works, by db. These do not wait for the disk.",
		func() []row[dbevents.Events] {
			store, ok := from.Store()
			if !ok {
				return nil
			}
			log, state := store.DatabaseEvents()
			return []row[dbevents.Events]{{[]string{"log"}, log}, {[]string{"state"}, state}}
		}, "db")
	s.counter("ringfort_pebble_disk_slow_total", "Operations of the disk that took longer than a second, whether or not they have ended.",
		"Rises: the disk is too slow; hangs of 2 s cost the leadership.", func(e dbevents.Events) float64 { return float64(e.DiskSlow) })
	s.counter("ringfort_pebble_write_stalls_total", "Times that Pebble made all writes wait for flushes or compactions.",
		"Any: all shards stood still. The disk is too slow for the load.", func(e dbevents.Events) float64 { return float64(e.Stalls) })
	s.counter("ringfort_pebble_write_stall_seconds_total", "Time that writes have waited so, a present stall included.", "",
		func(e dbevents.Events) float64 { return e.Stalled.Seconds() })
	s.gauge("ringfort_pebble_write_stalled", "1 while writes wait so.", "", func(e dbevents.Events) float64 { return truth(e.Stalling) })
	s.counter("ringfort_pebble_corruptions_total", "Times that damaged data was met; each read of a damaged table counts.",
		"Any: the disk or the memory is bad. See ringfort_raft_replicas_quarantined.", func(e dbevents.Events) float64 { return float64(e.Corruptions) })
	s.counter("ringfort_pebble_background_errors_total", "Flushes and compactions that failed, for want of space too.",
		"Any: the log says why.", func(e dbevents.Events) float64 { return float64(e.BackgroundErrors) })
}
