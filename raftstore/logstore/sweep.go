package logstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Truncated entries are gone for readers at once and cost nothing while they are
// in the memtable. In tables Pebble would keep them until a compaction rewrites
// what lives beside them: range deletions drop tables of lower levels only, and
// a log that grows at its end makes few levels. So the sweeper excises them,
// which writes a line into the manifest and rewrites nothing.
const (
	// flushDelay: a node that has written nothing for so long flushes what it
	// truncated and sweeps, to give its disk space back.
	flushDelay = 30 * time.Second
	// maxFlushDelay bounds that for a node that always writes a little.
	maxFlushDelay = 10 * time.Minute
	// minSweepBytes: for less a manifest is not written.
	minSweepBytes = 1 << 20
)

// span is what of a group was truncated or retired when it was looked at.
type span struct {
	id    uint64
	group *Group // nil: the whole group
	upTo  uint64 // entries below it
}

// sweep excises after each flush, and flushes an idle database first.
func (d *DB) sweep() {
	var due []span // truncated before the last flush that was seen
	var idle <-chan time.Time
	var since time.Time // of the first truncation that idle is for
	var written uint64  // when idle was set
	for {
		var err error
		select {
		case <-d.flushed:
			if err = d.excise(due); err == nil {
				due, err = d.truncatedSpans()
			}
		case <-d.cut:
			if idle == nil {
				idle, since, written = time.After(flushDelay), time.Now(), d.bytes.Load()
			}
		case <-idle:
			if now := d.bytes.Load(); now != written && time.Since(since) < maxFlushDelay {
				idle, written = time.After(flushDelay), now
				continue
			}
			idle = nil
			err = d.sweepIdle()
		case <-d.dead:
			return
		case <-d.stop:
			return
		}
		if err != nil && err != errUnanswered {
			d.fail(err)
			return
		}
	}
}

// sweepIdle flushes what was truncated and excises it.
func (d *DB) sweepIdle() error {
	due, err := d.truncatedSpans()
	if err != nil {
		return err
	}
	flushed, err := d.pebble.AsyncFlush()
	if err != nil {
		return fmt.Errorf("logstore: flush: %w", err)
	}
	select {
	case <-flushed:
		return d.excise(due)
	case <-d.dead:
		return errUnanswered
	case <-d.stop:
		return errUnanswered
	}
}

// truncatedSpans lists what is truncated durably.
func (d *DB) truncatedSpans() ([]span, error) {
	o := &spansOp{db: d}
	err := d.submit(&request{op: o})
	return o.spans, err
}

// spansOp runs in a batch of its own, and syncs it: an excise is durable at once,
// and a boundary that came back lower would miss the entries above it.
type spansOp struct {
	db    *DB
	spans []span
}

func (o *spansOp) stage(b *batch) error {
	for _, g := range o.db.all() {
		if s := &g.state; s.boundary > g.swept {
			o.spans = append(o.spans, span{g.id, g, s.boundary})
		}
	}
	for id := range o.db.retiredLogs {
		o.spans = append(o.spans, span{id: id})
	}
	if len(o.spans) > 0 {
		b.sync = true
		b.must(b.LogData([]byte{0}, nil))
	}
	return nil
}

func (o *spansOp) publish() {}

// excise takes truncated entries out of the tables, one group after the other, so
// that appends wait for one of them at most.
func (d *DB) excise(spans []span) error {
	for _, s := range spans {
		if err := d.submit(&request{op: &exciseOp{db: d, span: s}}); err != nil {
			return err
		}
	}
	return nil
}

// exciseOp is run by the writer, which alone knows that the log is still the one
// that was truncated, or gone: another replica's begins lower.
type exciseOp struct {
	db *DB
	span
}

func (o *exciseOp) stage(*batch) error {
	d, g := o.db, o.group
	if g == nil {
		now := d.find(o.id)
		if delete(d.retiredLogs, o.id); now != nil && now.state.exists() {
			return nil
		}
		_, err := d.exciseRange(o.id, recordKey(o.id, 0), groupEnd(o.id))
		return err
	}
	if g.state.retired || g.state.boundary < o.upTo {
		return nil
	}
	done, err := d.exciseRange(o.id, entryKey(o.id, 0), entryKey(o.id, o.upTo))
	if done {
		g.swept = o.upTo
	}
	return err
}

// exciseRange excises a range without anything live in it, when that is worth it.
func (d *DB) exciseRange(group uint64, from, to []byte) (done bool, err error) {
	bytes, err := d.pebble.EstimateDiskUsage(from, to)
	if err != nil {
		return false, fmt.Errorf("logstore: group %d: estimate truncated bytes: %w", group, err)
	}
	if bytes < d.opts.minSweepBytes {
		return false, nil
	}
	if err := d.readBeside(from, to); err != nil {
		return false, fmt.Errorf("logstore: group %d: read what lies beside truncated entries: %w", group, err)
	}
	if err := d.pebble.Excise(context.Background(), pebble.KeyRange{Start: from, End: to}); err != nil {
		return false, fmt.Errorf("logstore: group %d: excise truncated entries: %w", group, err)
	}
	if !d.alive() {
		return false, errUnanswered // Pebble told its logger only
	}
	d.excised.Add(bytes)
	return true, nil
}

func (o *exciseOp) publish() {}

// readBeside reads, in every table that reaches over an end of a range, the last
// block before it and the first one after it. An excise reads the same to know where
// the rest of such a table begins, and where it cannot, Pebble 2.1.7 takes the rest
// for empty: all records and entries in it would be gone.
func (d *DB) readBeside(from, to []byte) error {
	it, err := d.pebble.NewIter(nil)
	if err != nil {
		return err
	}
	it.SeekLT(from)
	err = it.Error()
	if err == nil {
		it.SeekGE(to)
		err = it.Error()
	}
	return errors.Join(err, it.Close())
}
