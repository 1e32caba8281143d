package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	workersPerClient = 3
	probes           = 3
	keysInUse        = 5
	callTimeout      = 3 * time.Second
)

// workload is clients that put, get and delete a few keys, every value unique. A
// key that has had enough operations, or too many of unknown outcome, is left
// for a fresh one, so that the judge can settle each.
type workload struct {
	start   time.Time
	history *history
	shardOf func(key string) shardmap.ShardID

	mu    sync.Mutex
	keys  [keysInUse]keyUse
	next  int
	value int
}

type keyUse struct {
	name         string
	ops, unknown int
}

func newWorkload(start time.Time, shardOf func(key string) shardmap.ShardID) *workload {
	w := &workload{start: start, history: new(history), shardOf: shardOf}
	for i := range w.keys {
		w.keys[i] = w.freshKey()
	}
	return w
}

func (w *workload) freshKey() keyUse {
	w.next++
	return keyUse{name: fmt.Sprintf("key-%d", w.next)}
}

// pick chooses a key and a value nobody else writes.
func (w *workload) pick(rng *rand.Rand) (slot int, key, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slot = rng.IntN(keysInUse)
	k := &w.keys[slot]
	if k.ops >= maxOpsPerKey || k.unknown >= maxUnknownPerKey {
		*k = w.freshKey()
	}
	k.ops++
	w.value++
	return slot, k.name, fmt.Sprintf("v%d", w.value)
}

// keyIn makes a fresh key of the shard that no worker uses.
func (w *workload) keyIn(shard shardmap.ShardID) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if k := w.freshKey(); w.shardOf(k.name) == shard {
			return k.name
		}
	}
}

// freshValue is a value nobody else writes.
func (w *workload) freshValue() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.value++
	return fmt.Sprintf("v%d", w.value)
}

func (w *workload) noteUnknown(slot int, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys[slot].name == key {
		w.keys[slot].unknown++
	}
}

// usedKeys is every key the workload has touched.
func (w *workload) usedKeys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := make([]string, w.next)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%d", i+1)
	}
	return keys
}

// work runs one worker until stop closes.
func (w *workload) work(id int, c *client.Client, rng *rand.Rand, stop <-chan struct{}) {
	for {
		think := time.NewTimer(between(rng, 5*time.Millisecond, 120*time.Millisecond))
		select {
		case <-stop:
			think.Stop()
			return
		case <-think.C:
		}
		slot, key, value := w.pick(rng)
		kind := Get
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			kind = Put
		case 4:
			kind = Delete
		}
		if w.do(id, c, kind, key, value).Outcome == Unknown && kind != Get {
			w.noteUnknown(slot, key)
		}
	}
}

// do makes one call and records it.
func (w *workload) do(id int, c *client.Client, kind Kind, key, value string) Op {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	op := Op{Client: id, Kind: kind, Shard: w.shardOf(key), Key: key, Call: time.Since(w.start)}
	var err error
	switch kind {
	case Put:
		op.Value = value
		var r client.PutResult
		r, err = c.Put(ctx, key, []byte(value))
		op.Version = r.Version
	case Delete:
		var r client.DeleteResult
		r, err = c.Delete(ctx, key)
		op.Version = r.Version
	case Get:
		var item client.Item
		item, err = c.Get(ctx, key)
		op.Value, op.Version = string(item.Value), item.Version
		if errors.Is(err, client.ErrNotFound) {
			err = nil
		}
	}
	op.Return = time.Since(w.start)
	op.Outcome = outcomeOf(err)
	if err != nil {
		op.Error = err.Error()
	}
	w.history.add(op)
	return op
}

func outcomeOf(err error) Outcome {
	var e *client.Error
	switch {
	case err == nil:
		return Done
	case errors.As(err, &e) && !e.InDoubt:
		return NotApplied
	}
	return Unknown
}
