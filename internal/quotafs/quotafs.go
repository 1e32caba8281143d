// Package quotafs is a disk of limited size for tests: a file system in memory that
// tells its free space and meets writes beyond it with ENOSPC.
//
// It counts bytes of files, not of blocks or directories, and a file that is removed
// while it is open frees its bytes at once. It wraps one vfs.FS that nobody else
// writes to; files that are there already are counted when it is made.
//
// Goroutines and locks: it has no goroutine; one lock guards the accounts and is
// never held over a call of the file system below.
package quotafs

import (
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the disk. Safe for concurrent use.
type FS struct {
	vfs.FS

	mu     sync.Mutex
	size   int64
	filler int64 // taken by others
	used   int64
	files  map[string]*inode
	full   int // writes refused
	stop   func(name string) bool
	gives  bool // space that is not written yet
}

// inode is one file under all its names.
type inode struct {
	size  int64
	names int
}

// New returns a disk of size bytes that holds what base holds below dir.
func New(base vfs.FS, dir string, size int64) (*FS, error) {
	fs := &FS{FS: base, size: size, files: make(map[string]*inode)}
	return fs, fs.count(dir)
}

func (fs *FS) count(dir string) error {
	names, err := fs.FS.List(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.FS.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if err := fs.count(path); err != nil {
				return err
			}
			continue
		}
		fs.files[path] = &inode{size: info.Size(), names: 1}
		fs.used += info.Size()
	}
	return nil
}

// Fill sets how much of the disk others take.
func (fs *FS) Fill(bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.filler = bytes
}

// FillUp has others take all but so many bytes of what is free now.
func (fs *FS) FillUp(left int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.filler = max(0, fs.size-fs.used-left)
}

// Free is what is left.
func (fs *FS) Free() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.freeLocked()
}

// Refused is how many operations met a full disk.
func (fs *FS) Refused() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.full
}

// Deny makes operations on files for which deny is true meet a full disk whatever
// is free; nil ends that.
func (fs *FS) Deny(deny func(name string) bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.stop = deny
}

// Preallocate makes Preallocate of files take the space; otherwise it is ignored, as
// by vfs.MemFS.
func (fs *FS) Preallocate(takes bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.gives = takes
}

func (fs *FS) freeLocked() int64 { return max(0, fs.size-fs.filler-fs.used) }

func enospc(op, name string) error { return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC} }

// GetDiskUsage implements vfs.FS.
func (fs *FS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	free := fs.freeLocked()
	return vfs.DiskUsage{AvailBytes: uint64(free), TotalBytes: uint64(fs.size), UsedBytes: uint64(fs.size - free)}, nil
}

// denied reports whether the disk is full for an operation that adds bytes.
func (fs *FS) denied(name string) bool {
	if fs.stop != nil && fs.stop(name) {
		fs.full++
		return true
	}
	return false
}

// Create implements vfs.FS. A new file needs room for its name at least.
func (fs *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.mu.Lock()
	if fs.denied(name) {
		fs.mu.Unlock()
		return nil, enospc("create", name)
	}
	if fs.freeLocked() == 0 {
		fs.full++
		fs.mu.Unlock()
		return nil, enospc("create", name)
	}
	fs.mu.Unlock()
	f, err := fs.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.forgetLocked(name)
	node := &inode{names: 1}
	fs.files[name] = node
	return &file{File: f, fs: fs, node: node, name: name}, nil
}

// OpenReadWrite implements vfs.FS.
func (fs *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.OpenReadWrite(name, category, opts...)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	node := fs.files[name]
	if node == nil {
		node = &inode{names: 1}
		fs.files[name] = node
	}
	return &file{File: f, fs: fs, node: node, name: name}, nil
}

// ReuseForWrite implements vfs.FS.
func (fs *FS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.renameLocked(oldname, newname)
	return &file{File: f, fs: fs, node: fs.files[newname], name: newname}, nil
}

// Remove implements vfs.FS.
func (fs *FS) Remove(name string) error {
	if err := fs.FS.Remove(name); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.forgetLocked(name)
	return nil
}

// RemoveAll implements vfs.FS.
func (fs *FS) RemoveAll(name string) error {
	if err := fs.FS.RemoveAll(name); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for path := range fs.files {
		if path == name || len(path) > len(name) && path[:len(name)+1] == fs.PathJoin(name, "x")[:len(name)+1] {
			fs.forgetLocked(path)
		}
	}
	return nil
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	if err := fs.FS.Rename(oldname, newname); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.renameLocked(oldname, newname)
	return nil
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	if err := fs.FS.Link(oldname, newname); err != nil {
		return err
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if node := fs.files[oldname]; node != nil {
		node.names++
		fs.files[newname] = node
	}
	return nil
}

func (fs *FS) renameLocked(oldname, newname string) {
	node := fs.files[oldname]
	if node == nil || oldname == newname {
		return
	}
	fs.forgetLocked(newname)
	delete(fs.files, oldname)
	fs.files[newname] = node
}

func (fs *FS) forgetLocked(name string) {
	node := fs.files[name]
	if node == nil {
		return
	}
	delete(fs.files, name)
	if node.names--; node.names == 0 {
		fs.used -= node.size
	}
}

// file is one open for writing.
type file struct {
	vfs.File
	fs   *FS
	node *inode
	name string
	off  int64 // of the next Write

}

// Write implements vfs.File: like a disk, it takes what it has room for.
func (f *file) Write(p []byte) (int, error) {
	room, err := f.fs.take(f, f.off, len(p))
	if room == 0 && err != nil {
		return 0, err
	}
	n, writeErr := f.File.Write(p[:room])
	f.off += int64(n)
	if writeErr != nil {
		err = writeErr
	}
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	room, err := f.fs.take(f, off, len(p))
	if room == 0 && err != nil {
		return 0, err
	}
	n, writeErr := f.File.WriteAt(p[:room], off)
	if writeErr != nil {
		err = writeErr
	}
	return n, err
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(off, length int64) error {
	f.fs.mu.Lock()
	gives := f.fs.gives
	f.fs.mu.Unlock()
	if !gives {
		return nil
	}
	if _, err := f.fs.take(f, off, int(length)); err != nil {
		return err
	}
	return nil
}

// take books the growth of a file by a write, as far as there is room.
func (fs *FS) take(f *file, off int64, n int) (int, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.denied(f.name) {
		return 0, enospc("write", f.name)
	}
	growth := max(0, off+int64(n)-f.node.size)
	free := fs.freeLocked()
	var err error
	if growth > free {
		fs.full++
		err = enospc("write", f.name)
		n -= int(growth - free)
		growth = free
	}
	f.node.size += growth
	if f.node.names > 0 {
		fs.used += growth
	}
	return max(n, 0), err
}
