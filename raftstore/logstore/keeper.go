package logstore

import "time"

const (
	markInterval = time.Second
	// flushDelay: so long after a truncation the memtable is flushed, so that an
	// idle node gives its disk space back.
	flushDelay = 30 * time.Second
)

// keep refreshes the high-water mark and flushes after truncations, until the
// database is closed or dead.
func (d *DB) keep() {
	var pause, flush <-chan time.Time
	for {
		changed := d.marks.changed
		if pause != nil {
			changed = nil
		}
		select {
		case <-changed:
			if err := d.marks.write(); err != nil {
				d.fail(err)
				return
			}
			d.measure()
			pause = time.After(markInterval)
		case <-pause:
			pause = nil
		case <-d.cut:
			if flush == nil {
				flush = time.After(flushDelay)
			}
		case <-flush:
			flush = nil
			if _, err := d.pebble.AsyncFlush(); err != nil {
				d.fail(err)
				return
			}
		case <-d.dead:
			return
		case <-d.stop:
			return
		}
	}
}

// truncated tells the keeper that space can be had.
func (d *DB) truncated() {
	select {
	case d.cut <- struct{}{}:
	default:
	}
}
