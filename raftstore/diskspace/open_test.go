package diskspace

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// Databases are not opened where their first files would not fit; the ballast is
// room too.
func TestMayOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		if err := r.MayOpen(); err != nil {
			t.Errorf("on an empty disk: %v", err)
		}
		r.Start()
		time.Sleep(lookEvery + lookEvery/10)
		r.Close()
		r.open(nil)
		r.disk.FillUp(1000)
		r.lookNow()
		if err := r.MayOpen(); err != nil || r.ballastOnDisk() != 0 {
			t.Errorf("with a ballast: %v, of which %d bytes are left", err, r.ballastOnDisk())
		}
		r.disk.FillUp(openBytes - 1)
		r.lookNow()
		if err := r.MayOpen(); !errors.Is(err, kverr.NoSpace) {
			t.Errorf("without room: %v", err)
		}
	})
}

// Pebble repeats a flush that failed at once, when it opens a database too.
func TestATableThatMetAFullDiskRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil) // before Start
		for name, left := range map[string]int64{"nothing": 0, "a part": mib / 2} {
			r.disk.FillUp(left)
			start := time.Now()
			if err := r.write("000001.sst", mib); !vfs.IsNoSpaceError(err) {
				t.Fatalf("%s fits: %v", name, err)
			}
			if took := time.Since(start); took < tablePatience {
				t.Errorf("%s fits: the failure took %v", name, took)
			}
		}
		start := time.Now()
		if err := r.write("000001.log", mib); !vfs.IsNoSpaceError(err) || time.Since(start) > 0 {
			t.Errorf("a log: %v after %v", err, time.Since(start))
		}
	})
}
