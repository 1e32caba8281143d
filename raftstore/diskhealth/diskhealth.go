package diskhealth

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Slow is an operation that takes long.
type Slow struct {
	Path string
	Op   string // write, sync, create, …
	For  time.Duration
}

// Watch times the operations of one disk. Safe for concurrent use.
type Watch struct {
	limit time.Duration
	tell  func(Slow)
	start time.Time

	mu struct {
		sync.Mutex
		open map[*timer]struct{}
	}
}

// New returns a watch that tells of operations longer than limit.
func New(limit time.Duration, tell func(Slow)) *Watch {
	w := &Watch{limit: limit, tell: tell, start: time.Now()}
	w.mu.open = make(map[*timer]struct{})
	return w
}

// Look tells of operations that are under way for longer than the limit.
func (w *Watch) Look() {
	now := w.now()
	var late []Slow
	w.mu.Lock()
	for t := range w.mu.open {
		if since := t.since.Load(); since != 0 && now-since >= int64(w.limit) && !t.told.Swap(true) {
			late = append(late, Slow{t.path, t.op.Load().(string), time.Duration(now - since)})
		}
	}
	w.mu.Unlock()
	for _, s := range late {
		w.tell(s)
	}
}

func (w *Watch) now() int64 { return int64(time.Since(w.start)) + 1 }

// timer is what is under way on one file, or one operation on names.
type timer struct {
	watch *Watch
	path  string
	since atomic.Int64 // by Watch.now; 0 for nothing
	op    atomic.Value // string
	told  atomic.Bool
}

func (w *Watch) timer(path string) *timer {
	t := &timer{watch: w, path: path}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.open[t] = struct{}{}
	return t
}

func (t *timer) close() {
	t.watch.mu.Lock()
	defer t.watch.mu.Unlock()
	delete(t.watch.mu.open, t)
}

func (t *timer) begin(op string) (since int64) {
	since = t.watch.now()
	t.told.Store(false)
	t.op.Store(op)
	t.since.Store(since)
	return since
}

func (t *timer) end(op string, since int64) {
	t.since.Store(0)
	if took := t.watch.now() - since; took >= int64(t.watch.limit) && !t.told.Swap(true) {
		t.watch.tell(Slow{t.path, op, time.Duration(took)})
	}
}

// FS is the disk, watched.
func (w *Watch) FS(fs vfs.FS) vfs.FS { return watchedFS{fs, w} }

type watchedFS struct {
	vfs.FS
	watch *Watch
}

// Unwrap lets vfs.Root find the disk.
func (fs watchedFS) Unwrap() vfs.FS { return fs.FS }

// named times an operation on a name.
func (fs watchedFS) named(path, op string, do func() error) error {
	t := fs.watch.timer(path)
	defer t.close()
	since := t.begin(op)
	err := do()
	t.end(op, since)
	return err
}

// opened times an operation on a name that gives a file, and watches the file.
func (fs watchedFS) opened(path, op string, do func() (vfs.File, error)) (vfs.File, error) {
	t := fs.watch.timer(path)
	since := t.begin(op)
	f, err := do()
	t.end(op, since)
	if err != nil {
		t.close()
		return nil, err
	}
	return &watchedFile{f, t}, nil
}

// Create implements vfs.FS.
func (fs watchedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.opened(name, "create", func() (vfs.File, error) { return fs.FS.Create(name, category) })
}

// ReuseForWrite implements vfs.FS.
func (fs watchedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.opened(newname, "reuse", func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenReadWrite implements vfs.FS.
func (fs watchedFS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.opened(name, "open", func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, category, opts...) })
}

// OpenDir implements vfs.FS.
func (fs watchedFS) OpenDir(name string) (vfs.File, error) {
	return fs.opened(name, "open", func() (vfs.File, error) { return fs.FS.OpenDir(name) })
}

// Rename implements vfs.FS.
func (fs watchedFS) Rename(oldname, newname string) error {
	return fs.named(newname, "rename", func() error { return fs.FS.Rename(oldname, newname) })
}

// Link implements vfs.FS.
func (fs watchedFS) Link(oldname, newname string) error {
	return fs.named(newname, "link", func() error { return fs.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (fs watchedFS) Remove(name string) error {
	return fs.named(name, "remove", func() error { return fs.FS.Remove(name) })
}

type watchedFile struct {
	vfs.File
	timer *timer
}

// Write implements vfs.File.
func (f *watchedFile) Write(p []byte) (int, error) {
	since := f.timer.begin("write")
	n, err := f.File.Write(p)
	f.timer.end("write", since)
	return n, err
}

// WriteAt implements vfs.File.
func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	since := f.timer.begin("write")
	n, err := f.File.WriteAt(p, off)
	f.timer.end("write", since)
	return n, err
}

// Preallocate implements vfs.File.
func (f *watchedFile) Preallocate(offset, length int64) error {
	since := f.timer.begin("preallocate")
	err := f.File.Preallocate(offset, length)
	f.timer.end("preallocate", since)
	return err
}

// Sync implements vfs.File.
func (f *watchedFile) Sync() error {
	since := f.timer.begin("sync")
	err := f.File.Sync()
	f.timer.end("sync", since)
	return err
}

// SyncData implements vfs.File.
func (f *watchedFile) SyncData() error {
	since := f.timer.begin("sync")
	err := f.File.SyncData()
	f.timer.end("sync", since)
	return err
}

// SyncTo implements vfs.File.
func (f *watchedFile) SyncTo(length int64) (bool, error) {
	since := f.timer.begin("sync")
	full, err := f.File.SyncTo(length)
	f.timer.end("sync", since)
	return full, err
}

// Close implements vfs.File.
func (f *watchedFile) Close() error {
	since := f.timer.begin("close")
	err := f.File.Close()
	f.timer.end("close", since)
	f.timer.close()
	return err
}
