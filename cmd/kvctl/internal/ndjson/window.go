package ndjson

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// window holds the records in flight: bounded by count and bytes, and never two
// of one key at a time (I1).
type window struct {
	count, bytes *semaphore.Weighted
	maxBytes     int64
	ready        chan *Record // never full: its size is the bound by count

	mu struct {
		sync.Mutex
		// behind holds, for each key that is being written, the records of the
		// same key that wait for it.
		behind map[string][]*Record
	}
}

func newWindow(concurrency int, maxBytes int64) *window {
	w := &window{
		count: semaphore.NewWeighted(int64(concurrency)), bytes: semaphore.NewWeighted(maxBytes),
		maxBytes: maxBytes, ready: make(chan *Record, concurrency),
	}
	w.mu.behind = map[string][]*Record{}
	return w
}

// weight of a record; one larger than the whole window takes all of it.
func (w *window) weight(r *Record) int64 { return min(int64(len(r.Key)+len(r.Value)), w.maxBytes) }

// add waits for room and hands the record to a worker, now or when the record
// of the same key before it is done.
func (w *window) add(ctx context.Context, r *Record) error {
	if err := w.count.Acquire(ctx, 1); err != nil {
		return err
	}
	if err := w.bytes.Acquire(ctx, w.weight(r)); err != nil {
		w.count.Release(1)
		return err
	}
	w.mu.Lock()
	waiting, busy := w.mu.behind[r.Key]
	if busy {
		w.mu.behind[r.Key] = append(waiting, r)
	} else {
		w.mu.behind[r.Key] = nil
	}
	w.mu.Unlock()
	if !busy {
		w.ready <- r
	}
	return nil
}

// close says that nothing more is added; work returns when all is done.
func (w *window) close() { close(w.ready) }

// work gives records to do, until the window is closed and empty.
func (w *window) work(do func(*Record)) {
	for r := range w.ready {
		for r != nil {
			do(r)
			next := w.next(r.Key)
			w.bytes.Release(w.weight(r))
			w.count.Release(1)
			r = next
		}
	}
}

// next takes the record that waits behind a key's finished one.
func (w *window) next(key string) *Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting := w.mu.behind[key]
	if len(waiting) == 0 {
		delete(w.mu.behind, key)
		return nil
	}
	w.mu.behind[key] = waiting[1:]
	return waiting[0]
}
