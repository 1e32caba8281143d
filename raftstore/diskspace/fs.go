package diskspace

import (
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errNotExist = os.ErrNotExist

// tablePatience is how long a new table waits for room before it is refused.
const tablePatience = time.Second

// restReport is the shortest time between two reports of a wait.
const restReport = 10 * time.Second

// tableRecheck is how often it looks.
const tableRecheck = 100 * time.Millisecond

// FS is the disk as databases should see it.
func (g *Guard) FS() vfs.FS { return guardedFS{g.fs, g} }

type guardedFS struct {
	vfs.FS
	guard *Guard
}

// Unwrap lets vfs.Root find the disk.
func (fs guardedFS) Unwrap() vfs.FS { return fs.FS }

// Create implements vfs.FS.
func (fs guardedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	table := isTable(name)
	if table {
		if err := fs.guard.awaitRoom(name); err != nil {
			return nil, err
		}
	}
	f, err := fs.FS.Create(name, category)
	if table {
		fs.guard.rest(err)
	}
	return fs.wrap(name, table)(f, err)
}

// ReuseForWrite implements vfs.FS.
func (fs guardedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(newname, false)(fs.FS.ReuseForWrite(oldname, newname, category))
}

// OpenReadWrite implements vfs.FS.
func (fs guardedFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.wrap(name, false)(fs.FS.OpenReadWrite(name, category, opts...))
}

func (fs guardedFS) wrap(name string, table bool) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &guardedFile{File: f, guard: fs.guard, name: name, table: table}, nil
	}
}

// isTable reports whether a file is one whose writing may fail without harm.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// guardedFile counts what is written.
type guardedFile struct {
	vfs.File
	guard *Guard
	name  string
	table bool
}

// Write implements vfs.File.
func (f *guardedFile) Write(p []byte) (int, error) {
	if f.table && f.guard.InReserve() {
		return 0, f.guard.noRoom("write", f.name)
	}
	n, err := f.File.Write(p)
	f.guard.wrote(n)
	if f.table {
		f.guard.rest(err)
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.guard.wrote(n)
	return n, err
}

// Preallocate implements vfs.File. It is a wish only: Pebble takes 110 % of a
// memtable for each log, which a small disk has not to give.
func (f *guardedFile) Preallocate(offset, length int64) error {
	if !f.guard.Room(uint64(length)) || f.guard.Level() > OK {
		return nil
	}
	err := f.File.Preallocate(offset, length)
	f.guard.wrote(int(length))
	return err
}

// InReserve reports whether the free space is down to what tables may not have.
func (g *Guard) InReserve() bool {
	return g.started.Load() && g.free.Load() < g.limits.Load().reserve
}

// AtTheLast reports whether not even the reserve may be used any more: half of what
// backs it, the ballast, is gone. Without a ballast the reserve backs itself.
func (g *Guard) AtTheLast() bool {
	l := g.limits.Load()
	backing := l.ballast
	if backing == 0 {
		backing = l.reserve
	}
	return g.started.Load() && g.avail.Load()+g.ballast.Load() < backing/2
}

// awaitRoom lets a new table wait for a while. Pebble repeats a flush that failed
// at once, so this is also what keeps it from spinning.
func (g *Guard) awaitRoom(name string) error {
	if !g.InReserve() {
		return nil
	}
	tick := time.NewTicker(tableRecheck)
	defer tick.Stop()
	patience := time.NewTimer(tablePatience)
	defer patience.Stop()
	for {
		select {
		case <-tick.C:
			g.look()
			if !g.InReserve() {
				return nil
			}
		case <-patience.C:
			return g.noRoom("create", name)
		case <-g.stop:
			return g.noRoom("create", name)
		}
	}
}

// rest waits for a while when a table met a full disk, ballast or not: before
// Start, when no reserve is kept, that is all that keeps Pebble from spinning. A
// database that is being opened so waits until there is room.
func (g *Guard) rest(err error) {
	if !vfs.IsNoSpaceError(err) {
		return
	}
	now := time.Now().UnixNano()
	if last := g.lastRest.Load(); now-last >= int64(restReport) && g.lastRest.CompareAndSwap(last, now) {
		g.logger.Error("the disk is full; waiting until space in its directory is freed", "dir", g.opts.Dir, "err", err)
	}
	time.Sleep(tablePatience)
}

func (g *Guard) noRoom(op, name string) error {
	g.refused.Add(1)
	return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
}
