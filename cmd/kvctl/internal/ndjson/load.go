package ndjson

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ringfort/ringfort/client"
)

// Store is what records are written to and read from. Errors are those of
// package client.
type Store interface {
	// Put writes a value that is to live for ttl; 0 is for ever.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Get(ctx context.Context, key string) (value []byte, err error)
}

// Options of Load and Verify.
type Options struct {
	// Concurrency is the number of operations in flight, at least 1.
	Concurrency int
	// MaxBytes bounds the keys and values in flight, at least 1.
	MaxBytes int64
	// Timeout bounds each operation, repetitions inside the client included.
	Timeout time.Duration
	// Rate bounds operations per second; 0 means no bound.
	Rate float64
	// SkipBad passes over lines that are no records, and counts them.
	SkipBad bool
	// KeepGoing goes on after an operation that failed or is in doubt.
	KeepGoing bool
	// Acks gets a line for every acknowledged record, at once. May be nil.
	Acks *Acks
	// Progress hears the size in bytes of each line that is done. May be nil;
	// called from many goroutines.
	Progress func(lineBytes int)
}

// Result counts what Load did. Records = Acknowledged + Failed + InDoubt.
type Result struct {
	Records      int     `json:"records"`
	Acknowledged int     `json:"acknowledged"`
	Failed       int     `json:"failed"`
	InDoubt      int     `json:"in_doubt"`
	BadLines     int     `json:"bad_lines"`
	Bytes        int64   `json:"bytes"` // keys and values acknowledged
	Seconds      float64 `json:"seconds"`
	PerSecond    float64 `json:"records_per_second"`
}

// RecordError is why one record was not acknowledged.
type RecordError struct {
	Line int
	Key  string
	Err  error
}

func (e *RecordError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the store's error.
func (e *RecordError) Unwrap() error { return e.Err }

// Load writes all records of r. It returns the first error beside the counts:
// a *LineError, a *RecordError, the reader's or the acks' error, or the
// context's cause. After an error what is in flight is finished, not dropped,
// unless ctx ended.
func Load(ctx context.Context, r io.Reader, store Store, opts Options) (Result, error) {
	l := &loader{store: store, opts: opts, window: newWindow(opts.Concurrency, opts.MaxBytes)}
	// Cancelled by the first failure: it ends the reading, not the writes.
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l.stop = stop

	began := time.Now()
	var workers sync.WaitGroup
	for range opts.Concurrency {
		workers.Go(func() { l.window.work(func(r *Record) { l.write(ctx, r) }) })
	}
	err := l.read(reading, NewReader(contextReader{reading, r}))
	l.window.close()
	workers.Wait()

	result := l.mu.result
	result.Seconds = time.Since(began).Seconds()
	if result.Seconds > 0 {
		result.PerSecond = float64(result.Acknowledged) / result.Seconds
	}
	if l.mu.first != nil {
		err = l.mu.first
	}
	return result, err
}

type loader struct {
	store  Store
	opts   Options
	window *window
	stop   context.CancelCauseFunc

	mu struct {
		sync.Mutex
		result Result
		first  error
	}
}

// read feeds the window until the end of the input or of ctx.
func (l *loader) read(ctx context.Context, records *Reader) error {
	limit := newLimiter(l.opts.Rate)
	for {
		if ctx.Err() != nil { // lines that are passed over wait for nothing
			return context.Cause(ctx)
		}
		record, err := records.Next()
		if err == io.EOF {
			return nil
		}
		if bad := (*LineError)(nil); errors.As(err, &bad) && l.opts.SkipBad {
			l.mu.Lock()
			l.mu.result.BadLines++
			l.mu.Unlock()
			if l.opts.Progress != nil {
				l.opts.Progress(0)
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := limit.Wait(ctx); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		if err := l.window.add(ctx, record); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

func (l *loader) write(ctx context.Context, r *Record) {
	opCtx, cancel := context.WithTimeout(ctx, l.opts.Timeout)
	err := l.store.Put(opCtx, r.Key, r.Value, r.TTL)
	cancel()
	var ackErr error
	if err == nil && l.opts.Acks != nil {
		ackErr = l.opts.Acks.Append(r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.result.Records++
	switch {
	case err == nil:
		l.mu.result.Acknowledged++
		l.mu.result.Bytes += int64(len(r.Key) + len(r.Value))
		if l.opts.Progress != nil {
			l.opts.Progress(r.Size)
		}
	case errors.Is(err, client.ErrInDoubt):
		l.mu.result.InDoubt++
	default:
		l.mu.result.Failed++
	}
	if ackErr != nil {
		l.failLocked(ackErr, true)
	}
	if err != nil {
		l.failLocked(&RecordError{Line: r.Line, Key: r.Key, Err: err}, !l.opts.KeepGoing)
	}
}

func (l *loader) failLocked(err error, stop bool) {
	if l.mu.first == nil {
		l.mu.first = err
	}
	if stop {
		l.stop(err)
	}
}

func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	// A tenth of a second of slack, so that a fast rate does not depend on the
	// precision of timers.
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/10)))
}
