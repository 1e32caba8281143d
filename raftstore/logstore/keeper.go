package logstore

import (
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const markInterval = time.Second

// keep refreshes the high-water mark and what is known of Pebble, until the
// database is closed or dead.
func (d *DB) keep() {
	var pause <-chan time.Time
	for {
		changed := d.marks.changed
		if pause != nil {
			changed = nil
		}
		select {
		case <-changed:
			if !d.refreshMarks() {
				return
			}
			d.measure()
			pause = time.After(markInterval)
		case <-pause:
			pause = nil
		case <-d.dead:
			return
		case <-d.stop:
			return
		}
	}
}

// refreshMarks writes the high-water mark. On a full disk it lags behind, as it may,
// and is tried again a second later. It returns false when the database is dead.
func (d *DB) refreshMarks() bool {
	err := d.marks.write()
	switch {
	case err == nil:
		return true
	case vfs.IsNoSpaceError(err):
		d.opts.Logger.Warn("the disk is full: the high-water mark cannot be refreshed", "err", err)
		d.marks.tell()
		return true
	}
	d.fail(err)
	return false
}

// truncated tells the sweeper that space can be had.
func (d *DB) truncated() {
	select {
	case d.cut <- struct{}{}:
	default:
	}
}
