package logstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/failpoint"
)

const (
	queueLen      = 1024
	maxBatchBytes = 4 << 20 // one larger request makes a larger batch
	// probeInterval: an idle disk is asked for a sync that often, so that a hung
	// one is noticed before there is work (D1).
	probeInterval = time.Second
)

// request is one op on its way through the writer. Without a group it runs in a
// batch of its own.
type request struct {
	op    op
	group *Group
	bytes int
	at    time.Time  // when it was submitted
	err   error      // the refusal, set by the writer
	done  chan error // buffered; never answered on a dead database
}

// writer appends for all groups.
type writer struct {
	db      *DB
	queue   <-chan *request
	stop    <-chan struct{}
	held    *request // taken from the queue, for the next batch
	taken   []*request
	bytes   int
	batches uint64
	company company
}

// run ends when the database is closed, with an empty queue, or dead.
func (w *writer) run() {
	probe := time.NewTimer(probeInterval)
	defer probe.Stop()
	for ok := true; ok; {
		if r := w.held; r != nil {
			w.held = nil
			ok = w.serve(r)
			continue
		}
		select {
		case r := <-w.queue:
			ok = w.serve(r)
			probe.Reset(probeInterval)
		case <-probe.C:
			ok = w.probe()
			probe.Reset(probeInterval)
		case <-w.db.dead:
			return
		case <-w.stop:
			return
		}
	}
}

// serve commits first and what else is waiting. It returns false when the
// database is dead.
func (w *writer) serve(first *request) bool {
	w.db.pendingSince.Store(int64(first.at.Sub(w.db.start)) + 1)
	w.collect(first)
	if !w.commit() {
		return false
	}
	for i, r := range w.taken {
		r.done <- r.err
		w.taken[i] = nil // its entries are not kept from the collector
	}
	w.db.pendingSince.Store(0)
	return true
}

// collect fills taken with first and what waits, and paces.
func (w *writer) collect(first *request) {
	w.batches++
	w.taken, w.bytes = w.taken[:0], 0
	w.take(first)
	w.takeWaiting()
	missing := w.company.expected(first.at) - len(w.taken)
	if w.db.opts.SyncPacing == 0 || missing <= 0 {
		return
	}
	pace := time.NewTimer(w.db.opts.SyncPacing)
	defer pace.Stop()
	for ; missing > 0 && w.open(); missing-- {
		select {
		case r := <-w.queue:
			w.offer(r)
		case <-pace.C:
			return
		}
	}
}

func (w *writer) takeWaiting() {
	for w.open() {
		select {
		case r := <-w.queue:
			w.offer(r)
		default:
			return
		}
	}
}

// open says whether the batch has room.
func (w *writer) open() bool {
	return w.held == nil && w.bytes < maxBatchBytes && len(w.taken) < queueLen && w.taken[0].group != nil
}

// offer takes a request, or holds it for the next batch when its group has one
// in this batch already: ops are staged against committed state only.
func (w *writer) offer(r *request) {
	if r.group == nil || r.group.batch == w.batches {
		w.held = r
		return
	}
	w.take(r)
}

func (w *writer) take(r *request) {
	if r.group != nil {
		r.group.batch = w.batches
	}
	w.taken = append(w.taken, r)
	w.bytes += r.bytes
}

// commit makes what was taken durable and shows it to readers.
func (w *writer) commit() bool {
	d := w.db
	b := &batch{Batch: d.pebble.NewBatchWithSize(w.bytes + 128)}
	for _, r := range w.taken {
		err := r.op.stage(b)
		var no refusal
		if errors.As(err, &no) {
			r.err = no.error
		} else if err != nil {
			d.fail(err)
			return false
		}
	}
	if !b.empty() && !w.apply(b) {
		return false
	}
	for _, r := range w.taken {
		if r.err == nil {
			r.op.publish()
		}
	}
	if b.markNow {
		if err := d.marks.write(); err != nil {
			d.fail(err)
			return false
		}
	}
	if b.sync {
		w.company.committed(w.taken, d.opts.SyncPacing)
	}
	if err := b.Close(); err != nil {
		d.fail(fmt.Errorf("logstore: release batch: %w", err))
		return false
	}
	return true
}

func (w *writer) apply(b *batch) bool {
	d := w.db
	if b.entries > 0 {
		d.opts.Failpoints.Hit(failpoint.LogAppendBefore)
	}
	if !w.pebbleCommit(b) {
		return false
	}
	if b.entries > 0 {
		d.opts.Failpoints.Hit(failpoint.LogAppendAfter)
	}
	if b.votes {
		d.opts.Failpoints.Hit(failpoint.VoteAfter)
	}
	if b.cut {
		d.opts.Failpoints.Hit(failpoint.LogCut)
	}
	if b.sync {
		d.syncs.Add(1)
	}
	d.entries.Add(uint64(b.entries))
	d.bytes.Add(uint64(b.Len()))
	return true
}

// pebbleCommit returns true only if the batch is in the database, and durable if
// it must be.
func (w *writer) pebbleCommit(b *batch) bool {
	d := w.db
	began := time.Now()
	how := pebble.NoSync
	if b.sync {
		how = pebble.Sync
		if d.opts.BeforeSync != nil {
			d.opts.BeforeSync()
		}
	}
	if err := d.pebble.Apply(b.Batch, how); err != nil {
		d.fail(fmt.Errorf("logstore: commit: %w", err))
		return false
	}
	if b.sync {
		d.syncTimes.Observe(time.Since(began), 1)
	}
	// Pebble reports a failed sync to its logger and then returns nil.
	return d.alive()
}

// probe syncs a few bytes that mean nothing.
func (w *writer) probe() bool {
	w.db.pendingSince.Store(int64(time.Since(w.db.start)) + 1)
	b := &batch{Batch: w.db.pebble.NewBatch(), sync: true}
	b.must(b.LogData([]byte{0}, nil))
	if !w.pebbleCommit(b) {
		return false
	}
	w.db.pendingSince.Store(0)
	if err := b.Close(); err != nil {
		w.db.fail(fmt.Errorf("logstore: release batch: %w", err))
		return false
	}
	return true
}
