package logstore

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

var (
	ampBytes    = flag.Int64("amp.bytes", 1<<30, "BenchmarkWriteAmplification: bytes of log to append")
	ampKeep     = flag.Int64("amp.keep", 8<<20, "bytes that each group keeps")
	ampStep     = flag.Int64("amp.step", 4<<20, "bytes that each truncation cuts")
	ampEntry    = flag.Int("amp.entry", 32<<10, "bytes of one entry")
	ampMemTable = flag.Uint64("amp.memtable", 0, "bytes of a memtable; 0 is the default")
	ampL0       = flag.Int("amp.l0", 0, "L0CompactionThreshold; 0 is the default")
	ampBase     = flag.Int64("amp.base", 0, "LBaseMaxBytes; 0 is the default")
	ampStop     = flag.Int("amp.stop", 0, "MemTableStopWritesThreshold; 0 is the default")
	ampSweep    = flag.Bool("amp.sweep", true, "truncated entries are excised")
	ampMem      = flag.Bool("amp.mem", false, "on a file system in memory")
)

// BenchmarkWriteAmplification appends a gibibyte to eight groups, each of which
// is truncated in steps of 4 MiB and keeps 8 MiB, and reports how many bytes
// reach the disk for each byte of log. Use -benchtime 1x.
func BenchmarkWriteAmplification(b *testing.B) {
	const groups = 8
	for range b.N {
		o := Options{
			FS: vfs.Default, Dir: b.TempDir() + "/log", MemTableBytes: *ampMemTable,
			Fatal: func(err error) { panic(err) },
			tune: func(o *pebble.Options) {
				if *ampL0 != 0 {
					o.L0CompactionThreshold = *ampL0
				}
				if *ampBase != 0 {
					o.LBaseMaxBytes = *ampBase
				}
				if *ampStop != 0 {
					o.MemTableStopWritesThreshold = *ampStop
				}
			},
		}
		if !*ampSweep {
			o.minSweepBytes = 1 << 62
		}
		if *ampMem {
			o.FS = vfs.NewMem()
		}
		d := mustOpen(b, o)
		for group := range groups {
			born(b, d, uint64(group))
		}
		random := rand.New(rand.NewPCG(1, 2))
		data := make([]byte, *ampEntry)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		appended, highest, tables := int64(0), uint64(0), uint64(0)
		b.ResetTimer()
		for index := uint64(11); appended < *ampBytes; index++ {
			for group := range groups {
				g := d.Group(uint64(group))
				must(b, g.StoreLogs([]*raft.Log{{Index: index, Term: 5, Data: data}}))
				appended += int64(len(data))
				// Groups are cut one after the other, as their states are flushed.
				if g.Bytes() >= *ampKeep+*ampStep*int64(groups+group)/groups {
					must(b, g.Truncate(g.CutPoint(*ampKeep)))
				}
			}
			if index%256 == 0 {
				d.measure()
				if now := d.Stats().DiskBytes; now > highest {
					m := d.pebble.Metrics()
					highest, tables = now, uint64(m.Table.Local.LiveSize+m.Table.Local.ObsoleteSize+m.Table.Local.ZombieSize)
				}
			}
		}
		b.StopTimer()
		d.measure()
		s := d.Stats()
		per := func(bytes uint64) float64 { return float64(bytes) / float64(appended) }
		b.ReportMetric(per(s.WALBytes), "WAL/byte")
		b.ReportMetric(per(s.FlushBytes), "flush/byte")
		b.ReportMetric(per(s.CompactBytes), "compact/byte")
		b.ReportMetric(per(s.WALBytes+s.FlushBytes+s.CompactBytes), "W-amp")
		b.ReportMetric(per(s.ExcisedBytes), "excised/byte")
		b.ReportMetric(float64(max(highest, s.DiskBytes)>>20), "MiB-disk-peak")
		b.ReportMetric(float64(tables>>20), "MiB-tables")
		b.ReportMetric(float64(s.LogBytes>>20), "MiB-log")
		b.ReportMetric(float64(appended>>20)/b.Elapsed().Seconds(), "MiB/s")
		b.ReportMetric(0, "ns/op")
		if testing.Verbose() {
			b.Log(d.pebble.Metrics())
		}
		mustClose(b, d)
	}
}
