package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// maxPiece is the largest piece of a file that is handed to a Sink.
const maxPiece = 256 << 10

// Sink takes a shard's tables in pieces: those of the first file, its end, those
// of the second one, and after the last file the end of it all. Calls come one
// after the other, though maybe from different goroutines; it keeps no data after
// a call returns. An alias, so that packages that do not import each other can
// name the same type.
type Sink = interface {
	// Chunk is the next bytes of the current file, at most 256 KiB, and their
	// CRC-32C. The sink may change the bytes, as a file of Pebble's may.
	Chunk(data []byte, crc uint32) error
	// EndFile completes the current file: its length and XXH64.
	EndFile(bytes, sum uint64) error
	// End completes the snapshot: how many files, the bytes of all, and the
	// XXH64 of their sums, each as 8 bytes, big-endian.
	End(files, bytes, sum uint64) error
}

// totals are what Sink.End tells.
type totals struct {
	files, bytes uint64
	sums         xxhash.Digest
}

func newTotals() *totals {
	t := &totals{}
	t.sums.Reset()
	return t
}

func (t *totals) add(bytes, sum uint64) {
	t.files++
	t.bytes += bytes
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], sum)
	_, _ = t.sums.Write(b[:]) // never fails
}

// Stream builds the tables and gives them to the sink, at no more than the
// source's rate. It returns when all was taken, or with the first error. Nothing
// is kept but the piece being filled, what Pebble's writer keeps of one table
// (index and filter), and its reader's blocks.
func (v *View) Stream(ctx context.Context, to Sink) error {
	if v.pinned == nil {
		return kverr.New(kverr.Closed, "shard %d: its snapshot's view is closed", v.record.Shard)
	}
	t := newTotals()
	lower, upper := state.Span(v.record.Arc)
	for lower != nil {
		p := newPipe(ctx, v.source.opts.Limiter, to)
		var err error
		if lower, err = v.writeTable(p, lower, upper); err != nil {
			return errStream(uint64(v.record.Shard), err)
		}
		if p.bytes == 0 {
			break // nothing was left
		}
		sum := p.sum.Sum64()
		if err := to.EndFile(p.bytes, sum); err != nil {
			return errStream(uint64(v.record.Shard), err)
		}
		t.add(p.bytes, sum)
		v.source.opts.Failpoints.Hit(failpoint.SnapshotFileSent)
	}
	if t.files == 0 {
		return kverr.New(kverr.Internal, "shard %d: a snapshot without its record", v.record.Shard)
	}
	if err := to.End(t.files, t.bytes, t.sums.Sum64()); err != nil {
		return errStream(uint64(v.record.Shard), err)
	}
	return nil
}

func errStream(group uint64, err error) error {
	e := kverr.New(kverr.KindOf(err), "shard %d: send its snapshot: %w", group, err)
	e.Shard = group
	return e
}

// writeTable writes one table and answers the first key of the next one, or nil.
// It opens an iterator of its own: an older one would go on holding the
// memtables that were flushed since.
func (v *View) writeTable(p *pipe, lower, upper []byte) (next []byte, err error) {
	it, err := v.pinned.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return nil, it.Error()
	}
	w := sstable.NewWriter(p, v.source.tables)
	err = v.fill(w, it, p)
	if e := w.Close(); err == nil { // always, since it ends the writer's goroutine
		err = e
	}
	if p.failed.Load() {
		err = p.err // the cause, rather than what the writer made of it
	}
	if err == nil && it.Valid() {
		next = bytes.Clone(it.Key())
	}
	return next, err
}

// fill copies keys until the table is large enough; the iterator is then at the
// first key that it does not hold.
func (v *View) fill(w *sstable.Writer, it *pebble.Iterator, p *pipe) error {
	for size := 0; size < v.source.opts.FileBytes; it.Next() {
		if !it.Valid() {
			return it.Error()
		}
		if p.failed.Load() {
			return nil // writeTable says why
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := w.Set(it.Key(), value); err != nil {
			return err
		}
		size += len(it.Key()) + len(value)
	}
	return it.Error()
}

// pipe is the file that a table writer writes: it goes to the sink in pieces and
// is nowhere kept. The writer calls it from one goroutine at a time.
type pipe struct {
	ctx     context.Context
	limiter *Limiter
	to      Sink
	buf     []byte
	bytes   uint64
	sum     *xxhash.Digest
	failed  atomic.Bool // err is set and will not change
	err     error
}

var _ objstorage.Writable = (*pipe)(nil)

func newPipe(ctx context.Context, limiter *Limiter, to Sink) *pipe {
	return &pipe{ctx: ctx, limiter: limiter, to: to, buf: make([]byte, 0, limiter.pieceBytes()), sum: xxhash.New()}
}

// Write implements objstorage.Writable.
func (p *pipe) Write(b []byte) error {
	for len(b) > 0 {
		if p.failed.Load() {
			return p.err
		}
		n := min(len(b), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		if len(p.buf) == cap(p.buf) {
			p.flush()
		}
	}
	return nil
}

// Finish implements objstorage.Writable.
func (p *pipe) Finish() error {
	if len(p.buf) > 0 && !p.failed.Load() {
		p.flush()
	}
	return p.err
}

// Abort implements objstorage.Writable.
func (p *pipe) Abort() {}

func (p *pipe) flush() {
	err := p.limiter.wait(p.ctx, len(p.buf))
	if p.ctx.Err() != nil {
		err = context.Cause(p.ctx)
	}
	if err == nil {
		_, _ = p.sum.Write(p.buf) // never fails; before the sink may change it
		err = p.to.Chunk(p.buf, crc32.Checksum(p.buf, castagnoli))
	}
	if err != nil {
		p.err = err
		p.failed.Store(true)
		return
	}
	p.bytes += uint64(len(p.buf))
	p.buf = p.buf[:0]
}
