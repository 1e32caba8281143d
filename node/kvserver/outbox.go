package kvserver

import (
	"sync"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// firstReadEstimate is how many bytes a read is thought to bring before a stream
// has seen any.
const firstReadEstimate = 4 << 10

// outbox holds what waits to be sent on one stream, and the account of what is
// in flight on it.
//
// An operation is in flight from admit (see share) until release, that is until its
// answer was handed to gRPC. Every queued answer belongs to one operation in flight, so
// the queue is never longer than MaxInFlightOps and deliver, which runs in the
// groups' apply loops, never has to wait for room (K3).
//
// Its bytes are another matter: what a read brings is not known when it is
// admitted. It is charged with an estimate that follows what earlier reads of
// the stream brought, which lets back-pressure work; and an answer that would
// raise the queued bytes above MaxInFlightBytes loses its value and says
// OVERLOADED. A read changed nothing, so that is both true and safe to repeat. A
// write that was applied loses what it brings back, and says so instead. All
// streams together have a bound as well (see held), at which the same happens.
type outbox struct {
	server           *Server // for refusals
	maxOps, maxBytes int
	wake             chan struct{} // capacity 1: there is something to send
	room             chan struct{} // capacity 1: admit may look again

	mu struct {
		sync.Mutex
		ops       int // in flight
		asked     int // of those, the ones that groups have not answered
		bytes     int // charged for those
		shares    map[shardmap.ShardID]*share
		slow      int  // operations in flight when the stream was found slow, until there are half as many
		queued    int  // bytes of answers not yet handed to gRPC
		estimate  int  // bytes the next read will bring
		waiting   bool // admit waits for room
		answers   []*kvv1.Answer
		redirects []redirect
		unasked   unasked
		open      bool // hello was answered: sending may begin
		ending    bool // the stream ends once nothing is in flight
		closed    bool // answers are dropped
	}
}

// unasked is what the server sends on its own account, newest only.
type unasked struct {
	hello    *kvv1.ServerHello
	epoch    uint64 // of the newest map that was sent or is about to be
	shardMap *kvv1.ShardMap
	leaders  map[shardmap.ShardID]shardmap.LeaderHint
	goAway   bool
}

func (u *unasked) empty() bool {
	return u.hello == nil && u.shardMap == nil && len(u.leaders) == 0 && !u.goAway
}

// delivery is the answers of one batch.
type delivery struct {
	answers   []kvv1.Answer
	redirects []redirect // those of the answers that need directions
	share     *share     // of the shard that answered; nil for refusals
	charge    int        // what admit took for these operations
	reads     bool
}

func (b *outbox) init(s *Server) {
	b.server, b.maxOps, b.maxBytes = s, s.limits.MaxInFlightOps, s.limits.MaxInFlightBytes
	b.mu.shares = make(map[shardmap.ShardID]*share)
	b.wake = make(chan struct{}, 1)
	b.room = make(chan struct{}, 1)
	b.mu.estimate = firstReadEstimate
}

// readEstimate is what a read is to be charged with beside its key.
func (b *outbox) readEstimate() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.estimate
}

// inFlight is the account of what is in flight.
func (b *outbox) inFlight() (ops, requestBytes, answerBytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.ops, b.mu.bytes, b.mu.queued
}

// deliver queues the answers of one batch. It never blocks, and reports how many
// values it had to shed.
func (b *outbox) deliver(d delivery) (shed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dischargeLocked(&d)
	if b.mu.closed {
		return 0
	}
	largest := 0
	for i := range d.answers {
		a := &d.answers[i]
		largest = max(largest, len(a.Value))
		if n := valueBytes(a); n > 0 && (b.mu.queued > 0 && b.mu.queued+answerBytes(a) > b.maxBytes || !b.server.held.take(n, 0)) {
			b.shed(a)
			shed++
		}
		b.server.held.add(opOverhead)
		b.mu.queued += answerBytes(a)
		b.mu.answers = append(b.mu.answers, a)
	}
	b.mu.redirects = append(b.mu.redirects, d.redirects...)
	if d.reads {
		b.mu.estimate = max(largest, b.mu.estimate-b.mu.estimate/8)
	}
	signal(b.wake)
	b.giveRoomLocked()
	return shed
}

// shed takes the values out of an answer for which there is no room.
func (b *outbox) shed(a *kvv1.Answer) {
	if a.Previous != nil || len(a.Leaves) > 0 { // of a write: it was applied
		a.Previous, a.Leaves, a.DetailDropped = nil, nil, true
		return
	}
	a.Error, a.Found, a.Value, a.Version = b.server.overflow, false, nil, 0
}

// answerBytes is what an answer is charged with until it is sent.
func answerBytes(a *kvv1.Answer) int { return opOverhead + valueBytes(a) }

// valueBytes is what an answer brings beside verdict and versions.
func valueBytes(a *kvv1.Answer) int {
	n := len(a.Value) + len(a.Previous.GetValue())
	for _, l := range a.Leaves {
		n += leafOverhead + len(l.Value) + len(l.Previous.GetValue())
	}
	return n
}

// release takes answers that were handed to gRPC off the account.
func (b *outbox) release(ops, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return // close has taken all of it off
	}
	b.server.held.add(-bytes)
	b.mu.ops -= ops
	b.mu.queued -= bytes
	if 2*b.mu.ops <= b.mu.slow {
		b.mu.slow = 0
	}
	b.giveRoomLocked()
}

func (b *outbox) giveRoomLocked() {
	if b.mu.waiting {
		b.mu.waiting = false
		signal(b.room)
	}
}

// greet opens the box: what was pushed meanwhile goes out with the hello.
func (b *outbox) greet(hello *kvv1.ServerHello, shardMap *kvv1.ShardMap, epoch, known uint64, hints []shardmap.LeaderHint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.open = true
	b.mu.unasked.hello = hello
	b.pushMapLocked(shardMap, epoch)
	if b.mu.unasked.epoch <= known { // the client has it, or a newer one
		b.mu.unasked.shardMap = nil
	}
	for _, h := range hints {
		b.pushLeaderLocked(h)
	}
	signal(b.wake)
}

func (b *outbox) pushMap(shardMap *kvv1.ShardMap, epoch uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pushMapLocked(shardMap, epoch)
}

func (b *outbox) pushMapLocked(shardMap *kvv1.ShardMap, epoch uint64) {
	if epoch > b.mu.unasked.epoch {
		b.mu.unasked.epoch, b.mu.unasked.shardMap = epoch, shardMap
		signal(b.wake)
	}
}

func (b *outbox) pushLeader(h shardmap.LeaderHint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pushLeaderLocked(h)
}

func (b *outbox) pushLeaderLocked(h shardmap.LeaderHint) {
	if !newer(h, b.mu.unasked.leaders[h.Shard]) {
		return
	}
	if b.mu.unasked.leaders == nil {
		b.mu.unasked.leaders = make(map[shardmap.ShardID]shardmap.LeaderHint)
	}
	b.mu.unasked.leaders[h.Shard] = h
	signal(b.wake)
}

func (b *outbox) goAway() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.unasked.goAway = true
	signal(b.wake)
}

// finish lets the writer end the stream once nothing is in flight.
func (b *outbox) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.ending = true
	signal(b.wake)
}

// close drops what waits and what will still come.
func (b *outbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mu.closed {
		b.server.held.add(-b.mu.queued)
		b.mu.queued = 0
	}
	b.mu.closed = true
	b.mu.answers, b.mu.redirects = nil, nil
	b.mu.unasked = unasked{}
}

// take moves everything that waits into l, whose own slices are empty and are
// used for what comes next. done says that the stream may end: nothing is in
// flight, nothing waits, nothing will come.
func (b *outbox) take(l *load) (done bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mu.open {
		return b.mu.ending
	}
	l.answers, b.mu.answers = b.mu.answers, l.answers[:0]
	l.redirects, b.mu.redirects = b.mu.redirects, l.redirects[:0]
	l.unasked = b.mu.unasked
	b.mu.unasked = unasked{epoch: l.unasked.epoch}
	return b.mu.ending && b.mu.ops == 0 && l.unasked.empty()
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
