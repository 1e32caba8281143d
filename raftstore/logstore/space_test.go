package logstore

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/quotafs"
)

// A full disk keeps the high-water mark from being refreshed; it may lag, and the
// database lives. When there is space again the mark is.
func TestAMarkMayLagOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := vfs.NewCrashableMem()
		must(t, base.MkdirAll(testDir, 0o700))
		disk, err := quotafs.New(base, testDir, 1<<30)
		must(t, err)
		d := mustOpen(t, options(t, disk))
		g := born(t, d, 7)
		next := last(t, g) + 1
		must(t, g.StoreLogs(entries(next, 3, 5)))
		time.Sleep(2 * markInterval)
		disk.Deny(func(name string) bool { return strings.Contains(name, highWaterName) })
		must(t, g.StoreLogs(entries(next+3, 3, 5)))
		time.Sleep(10 * markInterval)
		if disk.Refused() < 5 {
			t.Errorf("the mark was tried %d times; want once a second", disk.Refused())
		}
		f, _, err := readHighWater(disk, testDir)
		must(t, err)
		if got := f.marks[7].last; got != next+2 {
			t.Fatalf("the mark is at %d; it should lag at %d", got, next+2)
		}
		disk.Deny(nil)
		time.Sleep(3 * markInterval)
		f, _, err = readHighWater(disk, testDir)
		must(t, err)
		if got := f.marks[7].last; got != next+5 {
			t.Errorf("with space again the mark is at %d; want %d", got, next+5)
		}
		must(t, g.StoreLogs(entries(next+6, 1, 5)))
		disk.Deny(func(name string) bool { return strings.Contains(name, highWaterName) })
		mustClose(t, d) // is no failure of the disk either
	})
}

// unwilling cannot reserve space, as many file systems cannot.
type unwilling struct {
	vfs.FS
	asked *atomic.Int32
}

type unwillingFile struct {
	vfs.File
	asked *atomic.Int32
}

func (u unwilling) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := u.FS.Create(name, category)
	if err != nil || !isLog(name) {
		return f, err
	}
	return unwillingFile{f, u.asked}, nil
}

func (f unwillingFile) Fd() uintptr { return 3 } // Pebble reserves only for what has one

func (f unwillingFile) Preallocate(int64, int64) error {
	f.asked.Add(1)
	return errors.New("not supported")
}

func (f unwillingFile) SyncTo(int64) (bool, error) { return false, nil }

func TestSpaceNeedNotBeReserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		d := mustOpen(t, options(t, unwilling{vfs.NewCrashableMem(), &asked}))
		g := born(t, d, 7)
		must(t, g.StoreLogs(entries(last(t, g)+1, 3, 5)))
		if asked.Load() == 0 {
			t.Error("nobody asked; nothing is proved")
		}
		mustClose(t, d)
	})
}
