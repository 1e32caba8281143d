package raftstore

import (
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
)

// readBacklog is the reads of one group that wait: for the next confirm round,
// in one, or for their index to be applied.
type readBacklog struct {
	maxKeys int
	node    *nodeBound // of all shards together; nil for none

	mu struct {
		sync.Mutex
		keys    int
		open    map[*readCall]struct{}
		pending []*readCall // for the next round
		parked  []parkedReads
		closed  error
	}
}

// parkedReads are confirmed and wait for an index.
type parkedReads struct {
	index uint64
	calls []*readCall
}

func newReadBacklog(maxKeys int) *readBacklog {
	b := &readBacklog{maxKeys: maxKeys}
	b.mu.open = make(map[*readCall]struct{})
	return b
}

func (b *readBacklog) add(c *readCall) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		return b.mu.closed
	}
	if b.mu.keys > 0 && b.mu.keys+len(c.Keys) > b.maxKeys {
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: overloadedRetry,
			Message: "too many reads wait for the shard; try again shortly"}
	}
	if !b.node.take(len(c.Keys), 0, b.mu.keys, 0) {
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: nodeFullRetry,
			Message: "too many reads wait on this node, or for this shard; try again shortly"}
	}
	b.mu.keys += len(c.Keys)
	b.mu.open[c] = struct{}{}
	b.mu.pending = append(b.mu.pending, c)
	return nil
}

// takePending hands the waiting reads to a round (R3: its readers are fixed now).
func (b *readBacklog) takePending() []*readCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.mu.pending
	b.mu.pending = nil
	return calls
}

// requeue returns reads of a round without a majority to the next one.
func (b *readBacklog) requeue(calls []*readCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if _, open := b.mu.open[c]; open {
			b.mu.pending = append(b.mu.pending, c)
		}
	}
}

func (b *readBacklog) hasPending() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.pending) > 0
}

// size is how many keys of reads wait.
func (b *readBacklog) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.keys
}

func (b *readBacklog) park(index uint64, calls []*readCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.parked = append(b.mu.parked, parkedReads{index, calls})
}

// reached takes out the confirmed reads whose index is applied.
func (b *readBacklog) reached(applied uint64) []*readCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mu.parked) == 0 {
		return nil
	}
	var calls []*readCall
	rest := b.mu.parked[:0]
	for _, p := range b.mu.parked {
		if p.index <= applied {
			calls = append(calls, p.calls...)
		} else {
			rest = append(rest, p)
		}
	}
	clear(b.mu.parked[len(rest):])
	b.mu.parked = rest
	return calls
}

// gone drops answered reads from the account.
func (b *readBacklog) gone(calls ...*readCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if _, open := b.mu.open[c]; open {
			delete(b.mu.open, c)
			b.mu.keys -= len(c.Keys)
			b.node.give(len(c.Keys), 0)
		}
	}
}

// fail refuses every read that is not being executed.
func (b *readBacklog) fail(err error) {
	b.refuse(err, func(*readCall) bool { return true })
}

// expire refuses the reads past their deadline; late says why, for a reader
// that waited in vain for a quorum.
func (b *readBacklog) expire(now time.Time, late func() error) {
	b.mu.Lock()
	any := false
	for c := range b.mu.open {
		if now.After(c.Deadline) {
			any = true
			break
		}
	}
	b.mu.Unlock()
	if any {
		b.refuse(late(), func(c *readCall) bool { return now.After(c.Deadline) })
	}
}

func (b *readBacklog) refuse(err error, which func(*readCall) bool) {
	b.mu.Lock()
	var gone []*readCall
	for c := range b.mu.open {
		if which(c) && c.move(phaseWaiting, phaseBusy) {
			gone = append(gone, c)
			delete(b.mu.open, c)
			b.mu.keys -= len(c.Keys)
			b.node.give(len(c.Keys), 0)
		}
	}
	b.mu.Unlock()
	for _, c := range gone {
		c.refuse(phaseBusy, err)
	}
}

func (b *readBacklog) close(err error) {
	b.mu.Lock()
	b.mu.closed = err
	b.mu.Unlock()
	b.fail(err)
}
