package metrics

import (
	"math"

	"github.com/ringfort/ringfort/raftstore"
)

func addDisk(b *book, from Sources) {
	s := section(b, "Disk", "The disk of the data directory, as last looked at; nothing here waits for it. See docs/operations.md for the levels.",
		one(func() (d raftstore.DiskStats, ok bool) {
			store, ok := from.Store()
			if !ok {
				return d, false
			}
			return store.Disk(), true
		}))
	// known leaves out what a file system does not tell.
	known := func(read func(raftstore.DiskStats) float64) func(raftstore.DiskStats) float64 {
		return func(d raftstore.DiskStats) float64 {
			if !d.Known {
				return math.NaN()
			}
			return read(d)
		}
	}
	s.gauge("ringfort_disk_space_level", "0 ok, 1 low: puts are refused, 2 critical: all writes are.",
		"Above 0: free space now.", known(func(d raftstore.DiskStats) float64 { return float64(d.Level) }))
	s.gauge("ringfort_disk_free_bytes", "Free space, without what the ballast is owed.",
		"Nears ringfort_disk_low_bytes.", known(func(d raftstore.DiskStats) float64 { return float64(d.Free) }))
	s.gauge("ringfort_disk_low_bytes", "Free space at which the level becomes low; critical is half of it.",
		"", known(func(d raftstore.DiskStats) float64 { return float64(d.LowAt) }))
	s.gauge("ringfort_disk_ballast_bytes", "What the ballast takes now.",
		"0 for long: it was thrown off, and there was no room to make it again.", known(func(d raftstore.DiskStats) float64 { return float64(d.Ballast) }))
	s.counter("ringfort_disk_full_writes_total", "Writes that met a full disk and were repeated.",
		"Any: the disk was full to the last byte.", func(d raftstore.DiskStats) float64 { return float64(d.FullHits) })
	s.counter("ringfort_disk_refused_operations_total", "Writes of clients that leaders here refused for want of space.",
		"Rises: clients see it.", func(d raftstore.DiskStats) float64 { return float64(d.Refused) })
	s.counter("ringfort_disk_declined_appends_total", "Appends of other nodes' leaders that replicas here declined for want of space.",
		"Rises: the replicas here fall behind.", func(d raftstore.DiskStats) float64 { return float64(d.Declined) })
	s.counter("ringfort_disk_hangs_total", "Times that the node or a replica fell silent because the disk hung.",
		"Any is worth a look at the disk.", func(d raftstore.DiskStats) float64 { return float64(d.Hangs) })
}
