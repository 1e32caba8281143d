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

// frameCost is an upper bound of a call's bytes in a frame.
func frameCost(c *call) int { return operationOverhead + len(c.key) + len(c.value) + c.txnBytes }

// take builds the next frame from the lines: as much as fits the frame and the
// bounds of what may be in flight, from each line in turn. It returns nil when
// there is nothing to send, or nothing may be sent, and the writer is to wait for
// a kick.
//
// The frame has memory of its own, because gRPC's stats handlers may look at it
// after Send has returned.
func (n *conn) take() *kvv1.ClientFrame {
	n.mu.Lock()
	defer n.mu.Unlock()
	var chosen callQueue
	data := 0
	if n.inPhase(phaseReady) {
		chosen, data = n.chooseLocked()
	}
	count := chosen.count
	if count == 0 {
		n.parked = true
		return nil
	}
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
		c := chosen.pop()
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

// chooseLocked moves the calls of the next frame out of their lines and into
// flight, and says how many bytes their keys and values have. A line whose share is
// taken is passed over, so that its shard's trouble stays its own (P8). The first
// call always fits a frame: it was checked against the limits that the server named.
func (n *conn) chooseLocked() (chosen callQueue, data int) {
	size, ls := 0, &n.lines
	for passed := 0; passed < ls.waiting && chosen.count < maxFrameOperations; {
		l := ls.head
		c := l.queue.head
		cost := ls.cost(c)
		if ls.full(cost) || chosen.count > 0 && size+frameCost(c) > n.maxFrame {
			break
		}
		if ls.shareFull(l, cost) {
			ls.turn(l)
			passed++
			continue
		}
		passed = 0
		ls.turn(l)
		ls.remove(c)
		ls.charge(c, cost)
		chosen.push(c)
		size += frameCost(c)
		data += len(c.key) + len(c.value)
	}
	return chosen, data
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
