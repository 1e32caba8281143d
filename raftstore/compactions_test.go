package raftstore

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	_ "github.com/ringfort/ringfort/internal/racebubble"
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
