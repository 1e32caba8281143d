package raftstore

import (
	"slices"
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// overloadedRetry is the hint a refused caller gets: about the time in which a
// full queue drains by a few entries.
const overloadedRetry = 20 * time.Millisecond

// nodeFullRetry is the hint when a bound of the node is met: other shards have to
// get on first.
const nodeFullRetry = 50 * time.Millisecond

// writeQueue holds the writes that wait for their shard's proposer. Its bounds
// cover what is in flight too: a write leaves the account when it is answered
// by the log, not when it is taken.
type writeQueue struct {
	maxOps, maxBytes int
	node             *nodeBound    // of all shards together; nil for none
	ready            chan struct{} // capacity 1: something waits

	mu struct {
		sync.Mutex
		waiting    []*writeCall
		ops, bytes int
		closed     error // refuses everything; nil while open
	}
}

func newWriteQueue(maxOps, maxBytes int) *writeQueue {
	q := &writeQueue{maxOps: maxOps, maxBytes: maxBytes, ready: make(chan struct{}, 1)}
	q.mu.closed = kverr.New(kverr.Unavailable, "the group is starting")
	return q
}

// put appends a call, or says why not.
func (q *writeQueue) put(c *writeCall) error {
	c.bytes = 0
	for i := range c.Ops {
		c.bytes += state.OpSize(&c.Ops[i])
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.closed != nil {
		return q.mu.closed
	}
	full := q.mu.ops+len(c.Ops) > q.maxOps || q.mu.bytes+c.bytes > q.maxBytes
	if full && q.mu.ops > 0 { // an empty queue takes anything that passed the limits
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: overloadedRetry,
			Message: "the shard's write queue is full; try again shortly"}
	}
	if !q.node.take(len(c.Ops), c.bytes, q.mu.ops, q.mu.bytes) {
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: nodeFullRetry,
			Message: "the node's write queues are full, or this shard has its share of them; try again shortly"}
	}
	q.mu.ops += len(c.Ops)
	q.mu.bytes += c.bytes
	q.mu.waiting = append(q.mu.waiting, c)
	signal(q.ready)
	return nil
}

// take removes calls from the front until their bytes reach limit; at least one
// if any waits. The calls come back in phaseBusy; those that the sweeper
// answered meanwhile are dropped.
func (q *writeQueue) take(limit int) (calls []*writeCall, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, c := range q.mu.waiting {
		if len(calls) > 0 && bytes+c.bytes > limit {
			break
		}
		n++
		if !c.move(phaseWaiting, phaseBusy) {
			q.releaseLocked(len(c.Ops), c.bytes)
			continue
		}
		calls = append(calls, c)
		bytes += c.bytes
	}
	q.mu.waiting = append(q.mu.waiting[:0], q.mu.waiting[n:]...)
	if len(q.mu.waiting) > 0 {
		signal(q.ready)
	}
	return calls, bytes
}

// release gives back the account of calls that are no longer in flight.
func (q *writeQueue) release(calls []*writeCall) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range calls {
		q.releaseLocked(len(c.Ops), c.bytes)
	}
}

func (q *writeQueue) releaseLocked(ops, bytes int) {
	q.mu.ops -= ops
	q.mu.bytes -= bytes
	q.node.give(ops, bytes)
}

// open lets writes in if still, asked under the queue's lock, says so: a tenure
// that ends closes the queue after it has ended, so a late open cannot undo that.
func (q *writeQueue) open(still func() bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if still() {
		q.mu.closed = nil
	}
}

// close refuses writes with err, those that wait too.
func (q *writeQueue) close(err error) {
	q.mu.Lock()
	waiting := q.mu.waiting
	q.mu.waiting = nil
	q.mu.closed = err
	for _, c := range waiting {
		q.releaseLocked(len(c.Ops), c.bytes)
	}
	q.mu.Unlock()
	for _, c := range waiting {
		c.refuse(phaseWaiting, err)
	}
}

// expire answers the waiting calls whose deadline has passed, and takes them off
// the account: a shard that stands still must not hold what nobody waits for.
func (q *writeQueue) expire(now time.Time) {
	q.mu.Lock()
	var late []*writeCall
	q.mu.waiting = slices.DeleteFunc(q.mu.waiting, func(c *writeCall) bool {
		if !now.After(c.Deadline) || !c.move(phaseWaiting, phaseBusy) {
			return false
		}
		late = append(late, c)
		q.releaseLocked(len(c.Ops), c.bytes)
		return true
	})
	q.mu.Unlock()
	for _, c := range late {
		c.refuse(phaseBusy, kverr.New(kverr.Deadline, "the write waited in the shard's queue past its deadline"))
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// size is how many writes wait or are in flight, and their bytes.
func (q *writeQueue) size() (ops, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.ops, q.mu.bytes
}

// idle reports whether no write waits or is in flight.
func (q *writeQueue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.ops == 0
}
