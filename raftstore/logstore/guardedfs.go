package logstore

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardedFS is the disk as Pebble sees it. A process that ends at Fatal does not
// need it; a test in which Fatal returns could not go on without.
//
// Pebble panics when it cannot write its log or a directory. Here such a failure
// declares the database dead, and Pebble is told of success: nothing is
// acknowledged any more, so nobody else is deceived. A dead database's next log
// goes nowhere, so that what is on disk ends where the failure was.
//
// Pebble repeats a failed flush at once and for ever, and the time of a synctest
// bubble would stand still. So a dead database makes no tables until it is
// closed. (It waits there without a lock of Pebble's, unlike at its logs.)
//
// Other errors are for Pebble to judge, and so are all while the database opens.
type guardedFS struct {
	vfs.FS
	db *DB
}

// Create implements vfs.FS.
func (fs guardedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if isLog(name) {
		return fs.newLog(func() (vfs.File, error) { return fs.FS.Create(name, category) })
	}
	if fs.dead() {
		<-fs.db.released
	}
	return fs.FS.Create(name, category)
}

// ReuseForWrite implements vfs.FS.
func (fs guardedFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	reuse := func() (vfs.File, error) { return fs.FS.ReuseForWrite(oldname, newname, category) }
	if isLog(newname) {
		return fs.newLog(reuse)
	}
	return reuse()
}

// OpenDir implements vfs.FS.
func (fs guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return guardedFile{f, fs.db}, nil
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func (fs guardedFS) dead() bool { return fs.db.opened.Load() && !fs.db.alive() }

func (fs guardedFS) newLog(create func() (vfs.File, error)) (vfs.File, error) {
	if !fs.dead() {
		f, err := create()
		if err == nil {
			return guardedFile{f, fs.db}, nil
		}
		if !fs.db.opened.Load() {
			return nil, err
		}
		fs.db.fail(fmt.Errorf("logstore: create the next log: %w", err))
	}
	return vfs.NewMem().Create("nowhere", vfs.WriteCategoryUnspecified)
}

// guardedFile is a log file or a directory.
type guardedFile struct {
	vfs.File
	db *DB
}

func (f guardedFile) guard(err error) error {
	if err == nil || !f.db.opened.Load() {
		return err
	}
	f.db.fail(fmt.Errorf("logstore: write the log: %w", err))
	return nil
}

// Write implements vfs.File.
func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err = f.guard(err); err == nil {
		n = len(p)
	}
	return n, err
}

// Preallocate implements vfs.File. That it fails, as it does where the file system
// cannot do it or the space is short, says nothing about the writes that follow.
func (f guardedFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

// Sync implements vfs.File.
func (f guardedFile) Sync() error { return f.guard(f.File.Sync()) }

// SyncData implements vfs.File.
func (f guardedFile) SyncData() error { return f.guard(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.guard(err)
}

// Close implements vfs.File.
func (f guardedFile) Close() error { return f.guard(f.File.Close()) }
