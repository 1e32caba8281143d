package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/raftstore/state"
)

// A pause ends: what Pebble wanted to compact meanwhile is compacted after it,
// although nobody writes any more. Pebble itself asks once and then waits to be
// told.
func TestCompactionsGoOnAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheduler := newPausingScheduler()
		o := &pebble.Options{FS: vfs.NewMem(), L0CompactionThreshold: 2, FormatMajorVersion: pebble.FormatNewest}
		o.Experimental.CompactionScheduler = scheduler
		db, err := pebble.Open("db", o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		layers := func() int32 { return db.Metrics().Levels[0].Sublevels }
		scheduler.pause()
		for range 5 {
			for i := range 10 {
				if err := db.Set(fmt.Append(nil, i), []byte("v"), pebble.NoSync); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if layers() != 5 {
			t.Fatalf("%d layers: the pause was none", layers())
		}
		time.Sleep(damagePause)
		synctest.Wait()
		if layers() != 0 {
			t.Errorf("%d layers a minute later: nothing is compacted any more", layers())
		}
		scheduler.pause() // the database is closed in a pause
	})
}

// flippedFS is a disk that flips a bit in the first block of each table of the state
// while it is told to, but not for ever: who tries again and again comes to an end.
type flippedFS struct {
	vfs.FS
	left atomic.Int64 // so many reads
}

type flippedFile struct {
	vfs.File
	fs *flippedFS
}

func (fs *flippedFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil || !strings.Contains(name, "/state/") || !strings.HasSuffix(name, ".sst") {
		return f, err
	}
	return flippedFile{f, fs}, nil
}

func (f flippedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if off == 0 && n > 10 && f.fs.left.Add(-1) >= 0 {
		p[5] ^= 0x10
	}
	return n, err
}

// A compaction that met damage is not tried again at once and for ever.
func TestDamageDoesNotMakeCompactionsSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const enough = 300
		c := newTestCluster(t, 1)
		disk := new(flippedFS)
		s := c.onDisk(func(n *testNode) vfs.FS {
			disk.FS = n.fs
			return disk
		}).store
		for i := range 8 { // no shard's: what quarantines replicas is not in the way
			if i == 3 {
				disk.left.Store(enough)
			}
			err := s.state.Set(state.DataKey(nil, 7, []byte("a")), fmt.Append(nil, i, strings.Repeat("x", 100)), pebble.NoSync)
			if err := errors.Join(err, s.flush()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		left := disk.left.Swap(0)
		_, events := s.DatabaseEvents()
		if events.BackgroundErrors == 0 {
			t.Fatal("no background work met the damage; nothing is proved")
		}
		if left <= 0 || events.BackgroundErrors > 100 {
			t.Errorf("in half a minute %d pieces of background work failed, with %d of %d reads left", events.BackgroundErrors, left, enough)
		}
	})
}
