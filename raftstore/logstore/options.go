package logstore

import (
	"errors"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/dbevents"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Options say where the database is and how it behaves. Zero means the default
// where one is named.
type Options struct {
	// FS holds everything. Default: the machine's file system.
	FS vfs.FS
	// Dir is created when missing, its parent must be durable. The database is
	// Dir/db, the high-water mark Dir/highwater.
	Dir string
	// Cache and FileCache may be shared with other databases; nil means small
	// private ones, which suffice: entries are read from the log cache. Memtables
	// take their space out of a shared Cache. A FileCache must have been made for
	// the same Cache.
	Cache     *pebble.Cache
	FileCache *pebble.FileCache
	// MemTableBytes is the size of one memtable. Default 128 MiB: entries that are
	// truncated before their memtable is full never reach a table, so it should be
	// well above what all groups keep together. It bounds the log that is replayed
	// at start, too. Two of them are in memory under load, and four write-ahead
	// logs of this size on disk.
	MemTableBytes uint64
	// SyncPacing is how long a sync waits for other groups that took part in the
	// last two; 0 is never. It saves fsyncs and costs up to that much latency.
	SyncPacing time.Duration
	// LogCacheBytes bounds the entries kept in memory for raft to read again, all
	// groups together. Default 64 MiB; negative is no cache.
	LogCacheBytes int64
	// MaxPinnedBytes bounds what pins keep of one group's log. Default 256 MiB. A
	// pin that keeps more holds no longer, and Stats counts it.
	MaxPinnedBytes int64
	// Failpoints are for crash tests; nil does nothing.
	Failpoints *failpoint.Set
	// Events counts what Pebble reports. Default: nobody sees it.
	Events *dbevents.Counter
	// Logger gets what operators should know. Default: nobody.
	Logger *slog.Logger
	// Fatal is called once, when the database can no longer be trusted. It must
	// end the process; where it returns (tests), it must do so by the time Close
	// is called, and must not call Close itself. Required.
	Fatal func(error)
	// BeforeSync injects delays and hangs in tests (M1): the writer calls it before
	// each synced commit. It must have returned by the time Close is called.
	BeforeSync func()
	// minSweepBytes is the constant of that name where it is 0; tests set less.
	minSweepBytes uint64
	// tune changes Pebble's options in benchmarks.
	tune func(*pebble.Options)
}

const (
	defaultMemTableBytes = 128 << 20
	defaultLogCacheBytes = 64 << 20

	defaultMaxPinnedBytes = 256 << 20
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Dir == "":
		return o, kverr.New(kverr.Invalid, "logstore: no directory given")
	case o.Fatal == nil:
		return o, kverr.New(kverr.Invalid, "logstore: a fatal handler is required")
	case o.SyncPacing < 0:
		return o, kverr.New(kverr.Invalid, "logstore: sync pacing of %s is below 0", o.SyncPacing)
	case o.MaxPinnedBytes < 0:
		return o, kverr.New(kverr.Invalid, "logstore: %d bytes of pinned log are below 0", o.MaxPinnedBytes)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTableBytes
	}
	if o.LogCacheBytes == 0 {
		o.LogCacheBytes = defaultLogCacheBytes
	}
	if o.MaxPinnedBytes == 0 {
		o.MaxPinnedBytes = defaultMaxPinnedBytes
	}
	if o.minSweepBytes == 0 {
		o.minSweepBytes = minSweepBytes
	}
	if o.Events == nil {
		o.Events = new(dbevents.Counter)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// retriedByPebble hides from the handlers that an excise cancelled a flush, which
// Pebble begins again by itself. It is no failure.
func retriedByPebble(l *pebble.EventListener) *pebble.EventListener {
	failed := l.BackgroundError
	l.BackgroundError = func(err error) {
		if !errors.Is(err, pebble.ErrCancelledCompaction) {
			failed(err)
		}
	}
	return l
}

// pebbleOptions are tuned for a log: written once in order, read from the cache,
// and deleted by ranges from its beginning, mostly before it leaves the memtable.
func (d *DB) pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FS:        guardedFS{d.opts.FS, d},
		Cache:     d.opts.Cache,
		FileCache: d.opts.FileCache,
		// The default is the oldest format, in which a flipped byte silently ends
		// the log; the newest notices, from the second WAL on (see Open).
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       d.opts.MemTableBytes,
		// Pebble keeps one more log than this for use again, each preallocated. A
		// flush writes less than the log meanwhile, so two memtables take turns.
		MemTableStopWritesThreshold: 2,
		// The sweeper keeps level 0 short, without rewriting what is alive. Few reads
		// reach the tables, and a write stall would hold up all groups.
		L0CompactionThreshold: 32,
		L0StopWritesThreshold: 1000,
		// What is compacted goes to the bottom at once, where range deletions end.
		LBaseMaxBytes: 4 << 30,
		Logger:        pebbleLogger{d},
		EventListener: retriedByPebble(d.events()),
	}
	// FlushDelayDeleteRange stays off, the sweeper does it: Pebble's own timer
	// would rotate the WAL of a dead database, and panic.
	// Delete-only compactions cut no table in two: Pebble does not see a read that
	// fails on the way (readBeside). The sweeper cuts instead.
	o.Experimental.EnableDeleteOnlyCompactionExcises = func() bool { return false }
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	if d.opts.tune != nil {
		d.opts.tune(o)
	}
	return o
}
