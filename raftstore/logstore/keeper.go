package logstore

import "time"

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
			if err := d.marks.write(); err != nil {
				d.fail(err)
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

// truncated tells the sweeper that space can be had.
func (d *DB) truncated() {
	select {
	case d.cut <- struct{}{}:
	default:
	}
}
