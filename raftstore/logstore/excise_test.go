package logstore

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Whichever read of a sweep fails, the sweep takes no more than what was truncated:
// neither the end of that log nor the logs and votes of other groups.
func TestSweepTakesNothingAlongWhenAReadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := vfs.NewCrashableMem()
		o := options(t, made)
		o.MemTableBytes = 16 << 20 // one table for all of it
		d := mustOpen(t, o)
		g := born(t, d, 7)
		end := fill(t, g)
		other := born(t, d, 8)
		must(t, other.SetUint64([]byte(keyCurrentTerm), 9))
		must(t, other.StoreLogs(entries(11, 10, 9)))
		mustClose(t, d)
		for bad := int64(1); ; bad++ {
			disk := made.CrashClone(vfs.CrashCloneCfg{})
			var reads atomic.Int64 // negative: not counted yet
			reads.Store(-1 << 40)
			var died atomic.Bool
			o := options(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") && reads.Add(1) == bad {
					return syscall.EIO
				}
				return nil
			})))
			o.Fatal = func(error) { died.Store(true) }
			d := mustOpen(t, o)
			must(t, d.Group(7).Truncate(end-5))
			reads.Store(0)
			time.Sleep(3 * flushDelay)
			met := reads.Load() >= bad
			if err := d.Close(); err != nil && !died.Load() {
				t.Fatal(err)
			}
			d = mustOpen(t, options(t, disk))
			var lost bool
			for index := uint64(11); index <= 20; index++ {
				_, err := d.Group(8).readEntry(index)
				lost = lost || err != nil
			}
			if _, err := d.Group(7).readEntry(end); err != nil || lost {
				t.Errorf("read %d of a sweep failed, and it took others' entries (%t) or the log's end (%v)", bad, lost, err)
			}
			mustClose(t, d)
			if !met {
				if bad < 3 {
					t.Errorf("a sweep has only %d reads; nothing is proved", bad-1)
				}
				return
			}
		}
	})
}

// Delete-only compactions cut no table in two: Pebble takes the rest of a table whose
// blocks it cannot read for empty, and the sweeper reads them first.
func TestDeleteOnlyCompactionsCutNoTable(t *testing.T) {
	d := mustOpen(t, options(t, vfs.NewMem()))
	defer mustClose(t, d)
	if may := d.pebbleOptions().Experimental.EnableDeleteOnlyCompactionExcises; may != nil && may() {
		t.Error("they may")
	}
}
