package transport

import (
	"sync"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
)

// outbox is what waits for the sender of one stream, bounded by count and by
// bytes. When it is full, push says so and keeps nothing.
type outbox struct {
	maxCount, maxBytes int
	ready              chan struct{} // capacity 1: something may wait

	mu struct {
		sync.Mutex
		waiting []*parcel // dropped parcels stay until compaction, without message
		live    int
		bytes   int
		closed  bool
	}
}

// parcel is one message in an outbox. Its message is nil once it was taken or
// dropped.
type parcel struct {
	message *peerv1.Message
	size    int
}

func newOutbox(maxCount, maxBytes int) *outbox {
	return &outbox{maxCount: maxCount, maxBytes: maxBytes, ready: make(chan struct{}, 1)}
}

// push queues a message of the given size, or answers nil when the outbox is
// full or closed.
func (o *outbox) push(m *peerv1.Message, size int) *parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	// One message larger than the whole outbox may still wait alone.
	if o.mu.closed || o.mu.live >= o.maxCount || o.mu.live > 0 && o.mu.bytes+size > o.maxBytes {
		return nil
	}
	p := &parcel{message: m, size: size}
	o.mu.waiting = append(o.mu.waiting, p)
	o.mu.live++
	o.mu.bytes += size
	signal(o.ready)
	return p
}

// drop forgets a parcel that nobody waits for any more. Otherwise a peer that
// stalls would be sent, when it is back, everything that was given up meanwhile.
func (o *outbox) drop(p *parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.message == nil {
		return
	}
	o.releaseLocked(p)
	if dead := len(o.mu.waiting) - o.mu.live; dead > 16 && dead > o.mu.live {
		o.compactLocked()
	}
}

func (o *outbox) releaseLocked(p *parcel) *peerv1.Message {
	m := p.message
	p.message = nil
	o.mu.live--
	o.mu.bytes -= p.size
	return m
}

func (o *outbox) compactLocked() {
	kept := o.mu.waiting[:0]
	for _, p := range o.mu.waiting {
		if p.message != nil {
			kept = append(kept, p)
		}
	}
	clear(o.mu.waiting[len(kept):])
	o.mu.waiting = kept
}

// take removes what waits, oldest first, up to about maxBytes and at least one
// message. It answers nil when nothing waits.
func (o *outbox) take(maxBytes int) []*peerv1.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.live == 0 {
		o.compactLocked()
		return nil
	}
	batch := make([]*peerv1.Message, 0, o.mu.live)
	bytes, n := 0, 0
	for _, p := range o.mu.waiting {
		if p.message != nil {
			if len(batch) > 0 && bytes+p.size > maxBytes {
				break
			}
			bytes += p.size
			batch = append(batch, o.releaseLocked(p))
		}
		n++
	}
	rest := copy(o.mu.waiting, o.mu.waiting[n:])
	clear(o.mu.waiting[rest:])
	o.mu.waiting = o.mu.waiting[:rest]
	return batch
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.live == 0
}

// close drops everything; later pushes are refused.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.closed = true
	for _, p := range o.mu.waiting {
		p.message = nil
	}
	o.mu.waiting, o.mu.live, o.mu.bytes = nil, 0, 0
}

// signal wakes whoever waits on a channel of capacity 1, now or later.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sizeOf is the room a message takes in an envelope. Its RPC number, tag and
// length may still be missing.
func sizeOf(m *peerv1.Message) int { return proto.Size(m) + 16 }
