package raftstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/raftstore/state"
)

// stateOptions are those of the state database. It has no write-ahead log: the
// Raft log is the log of all it holds, so no byte is journalled twice, and what
// a crash leaves is a prefix in commit order. Each setting named by a comment
// closes a trap of that layout.
func (s *Store) stateOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                          idleWhenDead{s.space.FS(), s},
		Cache:                       s.cache,
		FileCache:                   s.files,
		FormatMajorVersion:          pebble.FormatNewest, // the default is the oldest: no excise
		DisableWAL:                  true,
		MemTableSize:                s.opts.MemTableBytes,
		MemTableStopWritesThreshold: stopMemtables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1000, // a stall holds the commit lock of all shards
		Logger:                      pebbleLogger{s.opts.Logger.With("db", "state"), s.fatal},
	}
	scheduler, failed := newPausingScheduler(), new(failedCompactions)
	o.Experimental.CompactionScheduler = scheduler
	// A flushable ingest lives in the write-ahead log, and there is none.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	listener := &pebble.EventListener{
		BackgroundError: func(err error) {
			if errors.Is(err, pebble.ErrCancelledCompaction) {
				return // by an ingest or excise over its keys; Pebble does it again
			}
			s.events.state.BackgroundError()
			switch {
			case vfs.IsNoSpaceError(err): // Pebble tries again
			case pebble.IsCorruptionError(err): // reported as DataCorruption too
				if failed.take(err) {
					scheduler.pause()
				} else {
					s.restFromStatistics()
				}
			default: // Pebble would try again at once and for ever
				s.fatal(fmt.Errorf("raftstore: state database: background work: %w", err))
			}
		},
		CompactionEnd: failed.ended,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.events.state.Corruption()
			s.inspector.suspect(info)
		},
		FlushEnd: func(pebble.FlushInfo) { s.flusher.flushEnded() },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			s.events.state.StallBegin()
			s.opts.Logger.Warn("state database: writes stall", "reason", info.Reason)
		},
		WriteStallEnd: func() {
			s.opts.Logger.Warn("state database: writes go on", "after", s.events.state.StallEnd())
		},
	}
	listener.EnsureDefaults(nil)
	o.EventListener = listener
	return o
}

// idleWhenDead makes no tables and writes no manifest for a dead store until it
// closes. Pebble repeats a failed flush at once and for ever; a process that ends at
// Fatal does not care, but where Fatal returns, in tests, it would spin and a
// bubble's time stand still. Pebble holds none of its mutexes at either place once
// it is open; while it opens it holds the main one, so nothing waits then (M1).
type idleWhenDead struct {
	vfs.FS
	store *Store
}

func (fs idleWhenDead) wait() {
	if fs.store.stateOpen.Load() && fs.store.dead.Load() {
		<-fs.store.closing
	}
}

// Create implements vfs.FS.
func (fs idleWhenDead) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.wait()
	f, err := fs.FS.Create(name, category)
	if err == nil && strings.HasPrefix(fs.PathBase(name), "MANIFEST-") {
		return idleFile{f, fs}, nil // a flush of nothing writes here only
	}
	return f, err
}

// OpenDir implements vfs.FS.
func (fs idleWhenDead) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return idleFile{f, fs}, nil
}

// idleFile is a manifest or a directory. What fails there is the end of the store:
// Pebble would repeat it at once, a manifest's write even from memory, without
// asking the disk again.
type idleFile struct {
	vfs.File
	fs idleWhenDead
}

func (f idleFile) judge(err error) error {
	if err != nil {
		f.fs.store.fatal(fmt.Errorf("raftstore: state database: write the manifest or its directory: %w", err))
		f.fs.wait()
	}
	return err
}

// Write implements vfs.File.
func (f idleFile) Write(p []byte) (int, error) {
	f.fs.wait()
	n, err := f.File.Write(p)
	return n, f.judge(err)
}

// Sync implements vfs.File.
func (f idleFile) Sync() error {
	f.fs.wait()
	return f.judge(f.File.Sync())
}

// Get implements state.Reader.
func (r kvReader) Get(key []byte) ([]byte, bool, error) {
	v, closer, err := r.Reader.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	// The value must outlive the closer; readers keep few and small ones.
	v = append([]byte(nil), v...)
	return v, true, closer.Close()
}

// Scan implements state.Reader.
func (r kvReader) Scan(from, to []byte, fn func(k, v []byte) error) error {
	return scanRange(r.Reader, &pebble.IterOptions{LowerBound: from, UpperBound: to}, fn)
}

func scanRange(r pebble.Reader, o *pebble.IterOptions, fn func(k, v []byte) error) (err error) {
	it, err := r.NewIter(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}

// durableReader sees only what has been flushed.
type durableReader struct{ db *pebble.DB }

func (r durableReader) Get(key []byte) ([]byte, bool, error) {
	var value []byte
	found := false
	end := append(append([]byte(nil), key...), 0)
	err := r.Scan(key, end, func(_, v []byte) error {
		value, found = append([]byte(nil), v...), true
		return nil
	})
	return value, found, err
}

func (r durableReader) Scan(from, to []byte, fn func(k, v []byte) error) error {
	return scanRange(r.db, &pebble.IterOptions{LowerBound: from, UpperBound: to, OnlyReadGuaranteedDurable: true}, fn)
}

// batchWriter writes into a Pebble batch.
type batchWriter struct{ *pebble.Batch }

var _ state.Writer = batchWriter{}

func (w batchWriter) Set(k, v []byte) error { return w.Batch.Set(k, v, nil) }
func (w batchWriter) Delete(k []byte) error { return w.Batch.Delete(k, nil) }
