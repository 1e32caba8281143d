package logstore

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// sized makes entries whose data has a given size.
func sized(index uint64, count, size int) []*raft.Log {
	logs := entries(index, count, 5)
	for _, l := range logs {
		l.Data = make([]byte, size)
	}
	return logs
}

func TestL5_TruncateKeepsWhatItIsTold(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	for i := range uint64(100) {
		must(t, g.StoreLogs(sized(11+i, 1, 10_000)))
	}
	if got := g.Bytes(); got < 1_000_000 || got > 1_010_000 {
		t.Errorf("%d bytes of log", got)
	}
	cut := g.CutPoint(300_000)
	if cut < 78 || cut > 80 {
		t.Errorf("cut point %d", cut)
	}
	must(t, g.Truncate(cut))
	if first(t, g) != cut || g.Bytes() < 300_000 || g.Bytes() > 330_000 {
		t.Errorf("cut to %d, %d bytes left", first(t, g), g.Bytes())
	}
	must(t, g.Truncate(20)) // below what is cut already
	wantEntries(t, g, cut, sized(cut, int(111-cut), 10_000))
	must(t, g.StoreLogs(sized(111, 1, 10))) // makes it durable
	again := openDisk(t, crashed(fs))
	if first(t, again.Group(7)) != cut {
		t.Errorf("after a crash the log begins at %d", first(t, again.Group(7)))
	}
	if got := again.Info(7).Bytes; got < 200_000 || got > 500_000 || again.Group(7).Bytes() != got || again.Stats().LogBytes != got {
		t.Errorf("%d bytes estimated for 310,000", got)
	}
	if got := again.Group(7).CutPoint(100_000); got < 95 || got > 106 {
		t.Errorf("estimated cut point %d", got)
	}
	must(t, g.Truncate(1000)) // past the end
	wantEntries(t, g, 111, sized(111, 1, 10))
	if g.Bytes() != 0 {
		t.Errorf("%d bytes in an empty log", g.Bytes())
	}
	must(t, d.Group(8).Truncate(50)) // not born
	if d.Info(8).Exists || d.Group(8).CutPoint(0) != 0 || d.Group(8).Bytes() != 0 {
		t.Error("a truncation made a group")
	}
}

func TestL5_PinsHoldTruncations(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	logs := entries(11, 100, 5)
	must(t, g.StoreLogs(logs))
	releaseHigh := g.Pin(60)
	releaseLow := g.Pin(40)
	must(t, g.Truncate(90))
	wantEntries(t, g, 39, logs[28:])
	must(t, g.DeleteRange(first(t, g), 90)) // raft's own, too
	wantEntries(t, g, 39, logs[28:])
	releaseLow()
	releaseLow()
	must(t, g.Truncate(90))
	wantEntries(t, g, 59, logs[48:])
	below := g.Pin(1) // all that is still there
	must(t, g.Truncate(90))
	releaseHigh()
	must(t, g.Truncate(90))
	wantEntries(t, g, 59, logs[48:])
	below()
	must(t, g.Truncate(90))
	wantEntries(t, g, 90, logs[79:])
	if n := d.Stats().PinsBroken; n != 0 {
		t.Errorf("%d pins broken", n)
	}
}

func TestL5_PinsThatKeepTooMuchBreak(t *testing.T) {
	o := options(t, vfs.NewMem())
	o.MaxPinnedBytes = 500_000
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g := born(t, d, 7)
	for i := range uint64(100) {
		must(t, g.StoreLogs(sized(11+i, 1, 10_000)))
	}
	release := g.Pin(30) // keeps 800 kB
	g.Pin(80)            // keeps 300 kB
	must(t, g.Truncate(25))
	if n := d.Stats().PinsBroken; n != 0 || first(t, g) != 25 {
		t.Errorf("%d pins broken that were not in the way, log begins at %d", n, first(t, g))
	}
	must(t, g.Truncate(100))
	if n := d.Stats().PinsBroken; n != 1 || first(t, g) != 79 {
		t.Errorf("%d pins broken, log begins at %d", n, first(t, g))
	}
	release()
	must(t, g.Truncate(100))
	if n := d.Stats().PinsBroken; n != 1 || first(t, g) != 79 {
		t.Errorf("%d pins broken, log begins at %d", n, first(t, g))
	}
}

// A transfer pins what it will need while a truncation is looking up the term at
// its end: the pin holds, and what is pinned can be read.
func TestL5_PinDuringATruncation(t *testing.T) {
	var g *Group
	var armed atomic.Bool
	pinned := 0
	o := options(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && armed.Load() && pinned == 0 {
			pinned++
			g.Pin(30)
			if first(t, g) != 10 {
				t.Error("the truncation was shown before the term was known")
			}
		}
		return nil
	})))
	o.LogCacheBytes = -1
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g = born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 90, 5)))
	must(t, d.pebble.Flush())
	armed.Store(true)
	must(t, g.Truncate(50))
	armed.Store(false)
	if pinned != 1 {
		t.Fatal("the truncation read nothing")
	}
	wantEntries(t, g, 29, entries(29, 72, 5))
}

func TestTruncateAfterClose(t *testing.T) {
	d := mustOpen(t, options(t, vfs.NewMem()))
	g := born(t, d, 7)
	mustClose(t, d)
	if err := g.Truncate(10); !errors.Is(err, kverr.Closed) {
		t.Errorf("truncate after close: %v", err)
	}
}
