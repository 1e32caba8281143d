package logstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// tableBytes is what the tables of a database take.
func tableBytes(d *DB) (n int64) {
	for _, l := range d.pebble.Metrics().Levels {
		n += l.TablesSize
	}
	return n
}

// fill writes several memtables full of log.
func fill(t testing.TB, g *Group) (last uint64) {
	t.Helper()
	index := uint64(10)
	for range 200 {
		index++
		must(t, g.StoreLogs(sized(index, 1, 10_000)))
	}
	return index
}

func TestSweepGivesAnIdleNodesSpaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		d := mustOpen(t, options(t, fs))
		g := born(t, d, 7)
		end := fill(t, g)
		retired := born(t, d, 8)
		fill(t, retired)
		must(t, d.Retire(8, 1))
		must(t, g.Truncate(end-5))
		time.Sleep(flushDelay - time.Second)
		if n := tableBytes(d); n < 1_000_000 {
			t.Fatalf("only %d bytes to sweep", n)
		}
		time.Sleep(2 * flushDelay)
		if n := tableBytes(d); n > 200_000 {
			t.Errorf("%d bytes in tables for %d bytes of log", n, g.Bytes())
		}
		if n := d.Stats().ExcisedBytes; n < 1_000_000 {
			t.Errorf("%d bytes excised", n)
		}
		wantEntries(t, g, end-5, sized(end-5, 6, 10_000))
		mustClose(t, d)
		d = mustOpen(t, options(t, fs))
		wantEntries(t, d.Group(7), end-5, sized(end-5, 6, 10_000))
		mustClose(t, d)
	})
}

// What an earlier process truncated or retired is swept as well.
func TestSweepAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		d := mustOpen(t, options(t, fs))
		g := born(t, d, 7)
		end := fill(t, g)
		fill(t, born(t, d, 8))
		must(t, g.Truncate(end))
		must(t, d.Retire(8, 1))
		mustClose(t, d)
		d = mustOpen(t, options(t, fs))
		time.Sleep(2 * flushDelay)
		if n := tableBytes(d); n > 200_000 {
			t.Errorf("%d bytes in tables for a log of one entry", n)
		}
		mustClose(t, d)
	})
}

// A flush writes again what is alive. A node that goes on writing fills its
// memtable by itself, and one that writes a little is flushed now and then.
func TestSweepFlushesNoBusyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewMem())
		o.MemTableBytes = 8 << 20
		d := mustOpen(t, o)
		g := born(t, d, 7)
		must(t, g.StoreLogs(entries(11, 10, 5)))
		must(t, g.Truncate(15))
		before := d.pebble.Metrics().Flush.Count
		start, index := time.Now(), uint64(21)
		write := func(until time.Duration) {
			for ; time.Since(start) < until; index++ {
				must(t, g.StoreLogs(entries(index, 1, 5)))
				time.Sleep(flushDelay / 3)
			}
		}
		write(maxFlushDelay - 2*flushDelay)
		if n := d.pebble.Metrics().Flush.Count - before; n != 0 {
			t.Errorf("%d flushes of a node that writes", n)
		}
		write(maxFlushDelay + 3*flushDelay)
		if n := d.pebble.Metrics().Flush.Count - before; n != 1 {
			t.Errorf("%d flushes of a node that writes a little for long", n)
		}
		time.Sleep(4 * flushDelay) // nothing was truncated since
		if n := d.pebble.Metrics().Flush.Count - before; n != 1 {
			t.Errorf("%d flushes when there was nothing to give back", n)
		}
		mustClose(t, d)
	})
}

// Under load the sweeper follows Pebble's own flushes.
func TestSweepFollowsFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := mustOpen(t, options(t, vfs.NewMem()))
		g := born(t, d, 7)
		for index := uint64(11); index < 2000; index++ {
			must(t, g.StoreLogs(sized(index, 1, 10_000)))
			if index%20 == 0 {
				must(t, g.Truncate(index-10))
			}
			time.Sleep(50 * time.Millisecond)
		}
		if n := tableBytes(d); n > 1_500_000 {
			t.Errorf("%d bytes in tables for %d bytes of log", n, g.Bytes())
		}
		mustClose(t, d)
	})
}

// A span is looked up before a flush and excised after it. If the log was retired
// meanwhile, the entries there are another replica's.
func TestSweepSparesAnotherReplicasLog(t *testing.T) {
	for name, spanOf := range map[string]func(*testing.T, *DB, *Group) []span{
		"truncated": func(t *testing.T, d *DB, g *Group) []span {
			must(t, g.Truncate(last(t, g)))
			due, err := d.truncatedSpans()
			must(t, err)
			must(t, d.Retire(7, 1))
			return due
		},
		"retired": func(t *testing.T, d *DB, _ *Group) []span {
			must(t, d.Retire(7, 1))
			due, err := d.truncatedSpans()
			must(t, err)
			return due
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := openDisk(t, fs)
			g := born(t, d, 7)
			fill(t, g)
			due := spanOf(t, d, g)
			if len(due) != 1 {
				t.Fatalf("due: %v", due)
			}
			must(t, d.Birth([]Birth{{7, 2, 10, 5}}))
			must(t, d.Group(7).StoreLogs(entries(11, 30, 5)))
			must(t, d.pebble.Flush())
			must(t, d.excise(due))
			wantEntries(t, d.Group(7), 10, entries(11, 30, 5))
			wantEntries(t, openDisk(t, crashed(fs)).Group(7), 10, entries(11, 30, 5))
		})
	}
}

// An excise is durable at once; the boundary that makes it harmless must be so
// before.
func TestSweepAfterTheBoundaryIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	end := fill(t, g)
	must(t, d.pebble.Flush())
	must(t, g.Truncate(end))
	due, err := d.truncatedSpans()
	must(t, err)
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), end, sized(end, 1, 10_000))
	must(t, d.excise(due))
	wantEntries(t, openDisk(t, crashed(fs)).Group(7), end, sized(end, 1, 10_000))
}

// An excise cancels a flush that covers it, and Pebble tells the handler for
// failures although it begins again by itself.
func TestSweepMayCancelAFlush(t *testing.T) {
	var failed []error
	l := retriedByPebble(&pebble.EventListener{BackgroundError: func(err error) { failed = append(failed, err) }})
	l.BackgroundError(fmt.Errorf("flush: %w", pebble.ErrCancelledCompaction))
	l.BackgroundError(errorfs.ErrInjected)
	if len(failed) != 1 || !errors.Is(failed[0], errorfs.ErrInjected) {
		t.Errorf("told of %v", failed)
	}
}
