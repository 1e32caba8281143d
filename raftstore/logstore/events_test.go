package logstore

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/dbevents"
)

// largeEntries are as much as a memtable each.
func largeEntries(index uint64, count int) []*raft.Log {
	logs := entries(index, count, 5)
	for _, l := range logs {
		l.Data = make([]byte, 200<<10)
	}
	return logs
}

// A flush that does not get on makes writes wait, which is counted.
func TestWriteStallsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		release := make(chan struct{})
		fs := errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") && hang.Load() {
				<-release
			}
			return nil
		}))
		o := options(t, fs)
		o.Events = new(dbevents.Counter)
		d := mustOpen(t, o)
		defer mustClose(t, d)
		g := born(t, d, 7)
		hang.Store(true)
		done := make(chan error)
		go func() {
			var err error
			for i := 0; i < 6 && err == nil; i++ {
				err = g.StoreLogs(largeEntries(11+uint64(i), 1))
			}
			done <- err
		}()
		time.Sleep(time.Second)
		if e := o.Events.Events(); e.Stalls != 1 || !e.Stalling || e.Stalled < 900*time.Millisecond {
			t.Errorf("during a stall: %+v", e)
		}
		hang.Store(false)
		close(release)
		must(t, <-done)
		if e := o.Events.Events(); e.Stalling || e.Stalled < 900*time.Millisecond || e.Stalled > 1100*time.Millisecond {
			t.Errorf("after it: %+v", e)
		}
	})
}

// What ends the database is counted before it does.
func TestFailuresAreCounted(t *testing.T) {
	o, deaths := deadly(t, vfs.NewCrashableMem())
	o.Events = new(dbevents.Counter)
	d := mustOpen(t, o)
	listener := d.events()
	listener.BackgroundError(errorfs.ErrInjected)
	listener.DataCorruption(pebble.DataCorruptionInfo{})
	if e := o.Events.Events(); e.BackgroundErrors != 1 || e.Corruptions != 1 || deaths.Load() != 1 {
		t.Errorf("%+v, %d deaths", e, deaths.Load())
	}
	if d.Close() == nil {
		t.Error("a dead database closed without an error")
	}
}
