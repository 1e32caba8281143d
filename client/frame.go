package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

const (
	// maxFrameOperations bounds a frame beside its bytes.
	maxFrameOperations = 1024
	// operationOverhead is the most that an operation takes on the wire beside
	// its key, value and transaction: fourteen numbers of up to 12 bytes, an 18-byte
	// id, seven small ones, and the lengths.
	operationOverhead = 240
)

// operationCost is an upper bound of a call's bytes in a frame.
func operationCost(c *call) int {
	return operationOverhead + len(c.key) + len(c.value) + c.txnBytes
}

// take builds the next frame from the head of the queue: as much as fits the
// frame and the bounds of what may be in flight, in order. It returns nil when
// there is nothing to send, or nothing may be sent, and the writer is to wait for
// a kick.
//
// The frame has memory of its own, because gRPC's stats handlers may look at it
// after Send has returned.
func (n *conn) take() *kvv1.ClientFrame {
	n.mu.Lock()
	defer n.mu.Unlock()
	count, size, data := n.measureLocked()
	if count == 0 || !n.inPhase(phaseReady) {
		n.parked = true
		return nil
	}
	n.bytes += size
	n.client.counters.frames.Add(1)
	n.client.counters.operations.Add(uint64(count))
	b := frameBuilder{operations: make([]kvv1.Operation, count), data: make([]byte, 0, data), now: n.client.now()}
	if n.client.cache != nil {
		b.boot = n.client.cache.boot()
	}
	frame := &kvv1.ClientFrame{Operations: make([]*kvv1.Operation, count)}
	numbers := n.client.numbers
	numbers.mu.Lock()
	for i := range count {
		c := n.queue.pop()
		n.nextID++
		c.try.id, c.try.stage, c.try.at, c.try.boot = n.nextID, stageSent, b.now, b.boot
		n.pending[c.try.id] = c
		if c.attempts++; c.attempts > 1 {
			n.client.counters.retries.Add(1)
		}
		if c.isWrite() && c.identity == identityNumbered && c.ticket.lane == nil {
			c.ticket = numbers.openLocked()
			c.notAfter = n.client.shardTime.expiry(c.deadline - b.now)
		}
		frame.Operations[i] = b.add(i, c, n.lane)
	}
	frame.LowestOpen = n.lane.lowest.Load()
	numbers.mu.Unlock()
	return frame
}

// measureLocked says how many calls the next frame takes, what they cost, and
// the bytes of their keys and values. The first call always fits a frame: it was
// checked against the limits that the server named.
func (n *conn) measureLocked() (count, size, data int) {
	for c := n.queue.head; c != nil && count < maxFrameOperations; c = c.try.next {
		cost := operationCost(c)
		inFlight := len(n.pending) + count
		full := inFlight >= maxInFlight || n.bytes+size+cost > maxInFlightBytes
		if full && inFlight > 0 || size+cost > n.maxFrame && count > 0 {
			break
		}
		count++
		size += cost
		data += len(c.key) + len(c.value)
	}
	return count, size, data
}

// frameBuilder fills the operations of one frame.
type frameBuilder struct {
	operations []kvv1.Operation
	data       []byte // all keys and values
	now        instant
	boot       time.Duration
}

func (b *frameBuilder) add(i int, c *call, own *lane) *kvv1.Operation {
	op := &b.operations[i]
	op.Id = c.try.id
	op.Kind = verbs[c.verb].kind
	op.Key = b.copy(c.key)
	op.Shard, op.ArcEpoch = uint64(c.try.shard), c.try.arcEpoch
	op.TimeLeftUs = max(1, micros(c.deadline-b.now)) // 0 would mean the node's default
	if !c.isWrite() {
		op.KeysOnly = c.verb == verbTTL || c.keysOnly
		op.Level, op.MinVersion, op.MaxAgeUs = c.level, c.minVersion, c.maxAge
		op.AnyReplica, op.IfNotVersion = c.replicas != replicaLeader, c.knownVersion
		return op
	}
	op.Value = b.copy(c.value)
	op.Condition, op.IfVersion = c.condition, c.ifVersion
	op.Expiry, op.TtlUs = c.expiry, c.ttl
	op.Delta, op.Txn, op.WantPrevious = c.delta, c.txn, c.previous
	switch c.identity {
	case identityNumbered:
		op.Number, op.NotAfterUs = c.ticket.number, c.notAfter
		if l := c.ticket.lane; l != own {
			op.ClientId, op.LowestOpen = l.id[:], l.lowest.Load()
		}
	case identityGiven:
		// Its client id has this one number, never closed by us: only the
		// application knows when it will not repeat.
		op.ClientId, op.Number, op.LowestOpen, op.NotAfterUs = b.copy(c.given.client[:]), 1, 1, c.given.notAfter
	}
	return op
}

func (b *frameBuilder) copy(p []byte) []byte {
	from := len(b.data)
	b.data = append(b.data, p...)
	return b.data[from:len(b.data):len(b.data)]
}
