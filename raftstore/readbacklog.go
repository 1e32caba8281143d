package raftstore

import (
	"slices"
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
)

// readBacklog is the reads of one group that wait: for the next confirm round,
// in one, for the leader's index, or for something to be applied. Each is in open
// from its admission to its answer, and in at most one of the other places.
type readBacklog struct {
	maxKeys int
	node    *nodeBound // of all shards together; nil for none

	mu struct {
		sync.Mutex
		keys    int
		open    map[*readCall]struct{}
		pending []*readCall // for the next confirm round
		asking  []*readCall // for the next flight to the leader
		parked  []parkedReads
		lagging map[*readCall]*time.Timer // session reads that wait for their version
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
	b.mu.lagging = make(map[*readCall]*time.Timer)
	return b
}

// admit takes a read on, or refuses it for a bound.
func (b *readBacklog) admit(c *readCall) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed != nil {
		return b.mu.closed
	}
	weight := c.weight()
	if b.mu.keys > 0 && b.mu.keys+weight > b.maxKeys {
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: overloadedRetry,
			Message: "too many reads wait for the shard; try again shortly"}
	}
	if !b.node.take(weight, 0, b.mu.keys, 0) {
		return &kverr.Error{Kind: kverr.Overloaded, RetryAfter: nodeFullRetry,
			Message: "too many reads wait on this node, or for this shard; try again shortly"}
	}
	b.mu.keys += weight
	b.mu.open[c] = struct{}{}
	return nil
}

// pend has an admitted read join the next confirm round. From here on it ends with
// the tenure.
func (b *readBacklog) pend(c *readCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.mu.open[c]; open {
		c.led = true
		b.mu.pending = append(b.mu.pending, c)
	}
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

// ask has admitted reads go with the next flight to the leader.
func (b *readBacklog) ask(calls ...*readCall) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range calls {
		if _, open := b.mu.open[c]; open {
			b.mu.asking = append(b.mu.asking, c)
		}
	}
}

// takeAsking hands the waiting reads to a flight (R3: its readers are fixed now).
func (b *readBacklog) takeAsking() []*readCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := b.mu.asking
	b.mu.asking = nil
	for _, c := range calls {
		c.asked = true
	}
	return calls
}

func (b *readBacklog) hasAsking() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.asking) > 0
}

// size is how many keys of reads wait.
func (b *readBacklog) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.keys
}

func (b *readBacklog) park(index uint64, calls []*readCall) {
	if len(calls) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.parked = append(b.mu.parked, parkedReads{index, calls})
}

// lag keeps an admitted session read until its version is applied; late is called
// when that has not come by itself within patience.
func (b *readBacklog) lag(c *readCall, patience time.Duration, late func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.mu.open[c]; open {
		b.mu.lagging[c] = time.AfterFunc(patience, late)
	}
}

// leaveLag reports whether the read still waited for its version. Then it is the
// caller's to bring on.
func (b *readBacklog) leaveLag(c *readCall) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, lagging := b.mu.lagging[c]
	b.unlagLocked(c)
	return lagging
}

func (b *readBacklog) unlagLocked(c *readCall) {
	if timer, lagging := b.mu.lagging[c]; lagging {
		timer.Stop()
		delete(b.mu.lagging, c)
	}
}

// reached takes out the reads that the applied index or version lets run.
func (b *readBacklog) reached(applied, version uint64) []*readCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	var calls []*readCall
	for c := range b.mu.lagging {
		if c.MinVersion <= version {
			b.unlagLocked(c)
			calls = append(calls, c)
		}
	}
	if len(b.mu.parked) == 0 {
		return calls
	}
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
		b.goneLocked(c)
	}
}

func (b *readBacklog) goneLocked(c *readCall) {
	if _, open := b.mu.open[c]; open {
		delete(b.mu.open, c)
		b.unlagLocked(c)
		b.mu.keys -= c.weight()
		b.node.give(c.weight(), 0)
	}
}

// deposed refuses the reads that this replica took on as the leader and that are
// not being executed.
func (b *readBacklog) deposed(err error) {
	b.refuse(err, func(c *readCall) bool { return c.led })
}

// expire refuses the reads past their deadline; late says why, for a reader
// that waited in vain for a quorum.
func (b *readBacklog) expire(now time.Time, late func() error) {
	b.mu.Lock()
	b.pruneLocked()
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
			b.goneLocked(c)
		}
	}
	b.mu.Unlock()
	for _, c := range gone {
		c.refuse(phaseBusy, err)
	}
}

// pruneLocked drops what is parked and has its answer: a replica that does not get
// on keeps what it parks, and reads go on coming to it.
func (b *readBacklog) pruneLocked() {
	rest := b.mu.parked[:0]
	for _, p := range b.mu.parked {
		p.calls = slices.DeleteFunc(p.calls, func(c *readCall) bool {
			_, open := b.mu.open[c]
			return !open
		})
		if len(p.calls) > 0 {
			rest = append(rest, p)
		}
	}
	clear(b.mu.parked[len(rest):])
	b.mu.parked = rest
}

// close refuses every read that is not being executed, and all that come.
func (b *readBacklog) close(err error) {
	b.mu.Lock()
	b.mu.closed = err
	b.mu.Unlock()
	b.refuse(err, func(*readCall) bool { return true })
}
