package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Run preloads, warms up, measures and reports. If ctx ends before the
// measurement does, the report covers the time until then and the context's
// cause is returned beside it; before that there is no report.
func Run(ctx context.Context, cfg Config, kvs []KV, probe Probe, note func(string)) (*Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	arcs, err := probe.Shards(ctx)
	if err != nil {
		note(fmt.Sprintf("gaps are not told apart by shard: %v", err))
	}
	r := &run{cfg: cfg, kvs: kvs, keys: newKeySpace(cfg.Prefix, arcs)}
	if cfg.reads() && cfg.Preload {
		note(fmt.Sprintf("writing %d keys", cfg.Keys))
		if err := r.preload(ctx); err != nil {
			return nil, err
		}
	}
	r.gaps = newGaps(r.keys.shards)
	for range stripes {
		r.recorders = append(r.recorders, newRecorder())
	}
	return r.measure(ctx, probe, note)
}

type run struct {
	cfg       Config
	kvs       []KV
	keys      *keySpace
	gaps      *gaps
	recorders []*recorder

	// began is set when the warm-up is over; until then nothing is recorded.
	began atomic.Pointer[time.Time]
	over  atomic.Bool
}

// preload writes every key once.
func (r *run) preload(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var clients sync.WaitGroup
	for i := range r.cfg.Clients {
		clients.Go(func() {
			choose := newChooser(r.cfg, i)
			for ctx.Err() == nil {
				k := int(next.Add(1)) - 1
				if k >= r.cfg.Keys {
					return
				}
				if err := r.kv(i).Put(ctx, r.keys.key(k), choose.nextValue()); err != nil {
					stop(fmt.Errorf("preload: %w", err))
				}
			}
		})
	}
	clients.Wait()
	return context.Cause(ctx)
}

func (r *run) kv(client int) KV { return r.kvs[client%len(r.kvs)] }

func (r *run) measure(ctx context.Context, probe Probe, note func(string)) (*Report, error) {
	var clients sync.WaitGroup
	for i := range r.cfg.Clients {
		clients.Go(func() { r.client(ctx, i) })
	}
	pause(ctx, r.cfg.Warmup)
	if ctx.Err() != nil {
		clients.Wait()
		return nil, context.Cause(ctx)
	}
	before := snapshot(ctx, probe)
	began := time.Now()
	r.began.Store(&began)
	note(fmt.Sprintf("measuring for %v", r.cfg.Duration))
	pause(ctx, r.cfg.Duration)
	measured := time.Since(began)
	r.over.Store(true)
	// The counters end with the measurement, while the clients finish what they
	// have under way, each within the timeout of its KV.
	after := snapshot(context.WithoutCancel(ctx), probe)
	clients.Wait()
	report := r.report(measured)
	report.addCounters(before, after)
	return report, context.Cause(ctx)
}

// client does one operation after the other until the measurement is over.
func (r *run) client(ctx context.Context, i int) {
	choose, record, kv := newChooser(r.cfg, i), r.recorders[i%stripes], r.kv(i)
	for ctx.Err() == nil && !r.over.Load() {
		number, read := choose.next()
		key := r.keys.key(number)
		bucket := r.keys.bucketOf(key)
		r.gaps.asked(bucket)
		from := time.Now()
		var err error
		if read {
			_, err = kv.Get(ctx, key)
		} else {
			err = kv.Put(ctx, key, choose.nextValue())
		}
		now := time.Now()
		if r.over.Load() || ctx.Err() != nil {
			return
		}
		r.settle(record, bucket, read, from, now, err)
		if err != nil {
			// A cluster that refuses at once must not be asked a million times.
			pause(ctx, failurePause)
		}
	}
}

// settle records an operation's outcome. Of one begun in the warm-up only the
// success counts, as proof that the shard served.
func (r *run) settle(record *recorder, bucket uint16, read bool, from, now time.Time, err error) {
	began := r.began.Load()
	if began == nil {
		return
	}
	if err == nil {
		r.gaps.success(bucket, now.Sub(*began))
	}
	switch {
	case from.Before(*began):
	case err == nil:
		record.success(read, now.Sub(from))
	default:
		record.failure(err)
	}
}

const failurePause = time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
