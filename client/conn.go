package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// attemptPatience is how long a node that says nothing at all is waited for
	// before another replica is asked. It catches nodes that are stopped or cut off
	// without their connections breaking.
	attemptPatience = 2 * time.Second
	// connectPatience is how long an attempt waits for a connection.
	connectPatience = 500 * time.Millisecond
	// suspicion is how long a node that let an attempt wait in vain is passed
	// over, unless it says something earlier.
	suspicion = time.Second
)

// phase is the state of a connection.
type phase int32

const (
	phaseIdle       phase = iota // nothing wanted it yet; takes calls
	phaseConnecting              // first try, or first after a break; takes calls
	phaseReady                   // a stream is open; takes calls
	phaseLeaving                 // the node said that it is going away
	phaseDown                    // not reachable; tried again in the background
	phaseClosed                  // for good
)

var (
	errLeaderMoved = errors.New("the shard's leader moved while the operation was under way")
	errSilent      = errors.New("no answer in time")
	errLeaving     = errors.New("the node is going away")
	errRetired     = errors.New("the node has left the cluster")
)

// conn is the client's one connection to one node: calls in line, a stream, and
// what was sent on it. Its goroutines are run, which connects and then reads, and
// beneath it write. A call given to submit comes back to its driver exactly
// once: through the driver's channel, or from withdraw or review.
type conn struct {
	client   *Client
	seed     bool            // named by the target; never retired
	endpoint string          // as first named, by the target or the map
	expect   shardmap.NodeID // who must answer; empty: anybody (a seed)
	kick     chan struct{}   // wakes the writer
	ctx      context.Context // ends with the connection, never carries a call's
	cancel   context.CancelFunc

	// For readers without the lock; written under it.
	phase        atomic.Int32
	suspectUntil atomic.Int64                    // instant
	known        atomic.Pointer[shardmap.NodeID] // node, once it has answered
	pace         atomic.Int64                    // running mean of its time to answer reads, in ns; 0: none yet

	mu        sync.Mutex
	node      shardmap.NodeID // who answered; empty before the first hello
	addresses []string        // where it may be reached, the next to try first
	cause     error           // of the last failure
	lines     lines
	pending   map[uint64]*call // sent, by id
	nextID    uint64
	parked    bool // the writer sleeps until kicked
	lane      *lane
	maxFrame  int
	lastHeard instant
	service   kvv1.KVClient // for streams beside that of calls; good while ready
	changed   chan struct{} // closed when the phase changes
}

func newConn(c *Client, expect shardmap.NodeID, address string) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	n := &conn{
		client: c, seed: expect == "", endpoint: address, expect: expect, node: expect, addresses: []string{address},
		kick: make(chan struct{}, 1), ctx: ctx, cancel: cancel,
		pending: make(map[uint64]*call), maxFrame: defaultMaxFrame, changed: make(chan struct{}),
	}
	n.lines.init()
	return n
}

// enterLocked changes the phase.
func (n *conn) enterLocked(p phase) {
	n.phase.Store(int32(p))
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *conn) inPhase(p phase) bool { return phase(n.phase.Load()) == p }

// open reports whether the connection takes calls.
func (n *conn) open() bool { return phase(n.phase.Load()) <= phaseReady }

// usable reports whether it takes calls and there is hope that it answers.
func (n *conn) usable(now instant) bool { return n.open() && instant(n.suspectUntil.Load()) <= now }

// start connects if nothing has yet.
func (n *conn) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inPhase(phaseIdle) {
		n.startLocked()
	}
}

func (n *conn) startLocked() {
	if !n.client.spawn(n.run) {
		n.cause = ErrClosed
		n.enterLocked(phaseClosed)
		return
	}
	n.enterLocked(phaseConnecting)
}

func (n *conn) wakeWriterLocked() {
	if n.parked {
		n.parked = false
		select {
		case n.kick <- struct{}{}:
		default:
		}
	}
}

// moveTo changes the phase and returns the queued calls, and with all the sent
// ones too, to their drivers.
func (n *conn) moveTo(p phase, cause error, queued event, all bool) {
	n.mu.Lock()
	if n.inPhase(phaseClosed) {
		p, cause = phaseClosed, n.cause
	}
	n.enterLocked(p)
	n.cause = cause
	var out ended
	for l := n.lines.head; l != nil; l = n.lines.head {
		c := l.queue.head
		n.lines.remove(c)
		out.add(c, queued, cause)
	}
	if all {
		for _, c := range n.pending {
			n.lines.discharge(c)
			out.add(c, eventBroken, cause)
		}
		clear(n.pending)
		n.lines.forget()
	}
	n.wakeWriterLocked()
	n.mu.Unlock()
	out.deliver()
}

// close ends the connection for good; its goroutines end soon after.
func (n *conn) close(cause error) {
	n.moveTo(phaseClosed, cause, eventUnsent, true)
	n.cancel()
}

// setAddress makes the address that the map gives known.
func (n *conn) setAddress(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case slices.Contains(n.addresses, address):
	case n.seed:
		// What the user wrote stays: it may be the only name reachable from here.
		n.addresses = []string{n.endpoint, address}
	default:
		n.addresses = []string{address}
	}
}

// name is the node's id, empty while unknown.
func (n *conn) name() shardmap.NodeID {
	if n == nil {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node
}

// lastCause is why the node could not be reached last time, if so.
func (n *conn) lastCause() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cause
}
