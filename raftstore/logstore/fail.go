package logstore

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// fail marks the database dead and tells the owner, once. From then on nothing
// is acknowledged, whatever Fatal does. Any goroutine may call it, Pebble's too
// and with its locks held, so it waits for nothing but Fatal.
func (d *DB) fail(err error) {
	if !d.failing.CompareAndSwap(false, true) {
		return
	}
	d.cause = err
	close(d.dead)
	d.opts.Logger.Error("the log database failed and the node must stop", "err", err)
	d.opts.Fatal(err)
}

func (d *DB) alive() bool {
	select {
	case <-d.dead:
		return false
	default:
		return true
	}
}

// answer hands err to raft, or keeps a caller that has no answer: see "Death" in
// the package comment.
func (d *DB) answer(err error) error {
	if err == errUnanswered {
		<-d.released
		runtime.Goexit()
	}
	return err
}

// unanswered is the error for callers that are not raft.
func (d *DB) unanswered() error {
	if !d.alive() {
		return kverr.New(kverr.Internal, "logstore: the log database failed: %w", d.cause)
	}
	return kverr.New(kverr.Closed, "logstore: the log database is closed")
}

// pebbleLogger gives Pebble's lines to the log. Fatalf may return, where Fatal
// does: the writer asks alive before it believes a commit, and no locks of
// Pebble's stay taken for ever.
type pebbleLogger struct{ db *DB }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.db.opts.Logger.Debug(fmt.Sprintf(format, args...), "db", "log")
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.db.opts.Logger.Warn(fmt.Sprintf(format, args...), "db", "log")
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.db.fail(fmt.Errorf("logstore: "+format, args...))
}

// events are called with Pebble's locks held.
func (d *DB) events() *pebble.EventListener {
	log, events := d.opts.Logger.With("db", "log"), d.opts.Events
	var lastFull atomic.Int64
	l := &pebble.EventListener{
		BackgroundError: func(err error) {
			events.BackgroundError()
			if !vfs.IsNoSpaceError(err) {
				d.fail(fmt.Errorf("logstore: background work: %w", err))
				return
			}
			// Pebble tries again at once and for ever; space may come back, and
			// appends fail by themselves when it does not. Once a second is
			// enough to read.
			now := int64(time.Since(d.start)) + 1
			if last := lastFull.Load(); last == 0 || now-last >= int64(time.Second) {
				lastFull.Store(now)
				log.Error("the disk is full: the log database cannot be compacted", "err", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			events.Corruption()
			d.fail(fmt.Errorf("logstore: %s", info))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			events.StallBegin()
			log.Warn("writes stall", "reason", info.Reason)
		},
		WriteStallEnd: func() { log.Warn("writes go on", "after", events.StallEnd()) },
	}
	l.EnsureDefaults(nil)
	return l
}
