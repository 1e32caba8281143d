package logstore

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// BenchmarkStoreLogs has groups append one entry each at a time, as raft's main
// loops do, on the machine's file system with fsync.
func BenchmarkStoreLogs(b *testing.B) {
	for _, pacing := range []time.Duration{0, 300 * time.Microsecond} {
		for _, groups := range []int{1, 8, 24} {
			for _, size := range []int{300, 64 << 10} {
				b.Run(fmt.Sprintf("groups=%d/bytes=%d/pacing=%s", groups, size, pacing), func(b *testing.B) {
					benchmarkStoreLogs(b, groups, size, pacing)
				})
			}
		}
	}
}

func benchmarkStoreLogs(b *testing.B, groups, size int, pacing time.Duration) {
	d := mustOpen(b, Options{
		FS: vfs.Default, Dir: b.TempDir() + "/log", SyncPacing: pacing,
		Fatal: func(err error) { panic(err) },
	})
	defer mustClose(b, d)
	for group := range groups {
		born(b, d, uint64(group))
	}
	data := make([]byte, size)
	before := d.Stats()
	b.SetBytes(int64(size))
	b.ResetTimer()
	var wg sync.WaitGroup
	for group := range groups {
		wg.Go(func() {
			g := d.Group(uint64(group))
			for i := group; i < b.N; i += groups {
				index := 11 + uint64(i/groups)
				if err := g.StoreLogs([]*raft.Log{{Index: index, Term: 5, Data: data}}); err != nil {
					b.Error(err)
				}
				if index%1000 == 0 {
					if err := g.DeleteRange(0, index-64); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	after := d.Stats()
	b.ReportMetric(float64(after.Entries-before.Entries)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(after.Entries-before.Entries)/float64(max(after.Syncs-before.Syncs, 1)), "entries/sync")
}

// BenchmarkGetLog reads entries from the cache and from the database.
func BenchmarkGetLog(b *testing.B) {
	for name, limit := range map[string]int64{"cache": 64 << 20, "database": -1} {
		b.Run(name, func(b *testing.B) {
			o := options(b, vfs.NewMem())
			o.LogCacheBytes, o.MemTableBytes = limit, 64<<20
			d := mustOpen(b, o)
			defer mustClose(b, d)
			g := born(b, d, 1)
			logs := entries(11, 10_000, 5)
			must(b, g.StoreLogs(logs))
			b.ReportAllocs()
			b.ResetTimer()
			var l raft.Log
			for i := range b.N {
				must(b, g.GetLog(11+uint64(i)%10_000, &l))
			}
		})
	}
}
