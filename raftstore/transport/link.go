package transport

import (
	"sync"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// link is one lane to one node: the RPCs that wait for answers, and what waits
// to be sent. Its goroutine (session.go) keeps a stream open while there is
// something to send.
type link struct {
	net  *Network
	node shardmap.NodeID
	lane peerv1.Lane
	out  *outbox
	// wanted, of capacity 1, asks for a stream on behalf of calls that leave
	// nothing in out: those that fail at once while there is none, and those
	// whose message a Tamper has.
	wanted chan struct{}

	mu struct { // taken before out.mu
		sync.Mutex
		state   linkState
		cause   error // why it is down or closed
		lastRPC uint64
		calls   map[uint64]*call
	}
}

type linkState uint8

const (
	linkCold   linkState = iota // never tried: nothing is known about the peer
	linkUp                      // hellos were exchanged
	linkDown                    // the stream broke or could not be opened
	linkClosed                  // the network is closed
)

func newLink(n *Network, node shardmap.NodeID, lane peerv1.Lane) *link {
	l := &link{net: n, node: node, lane: lane, wanted: make(chan struct{}, 1)}
	if lane == peerv1.Lane_LANE_LOG {
		l.out = newOutbox(logQueue, logQueueBytes)
	} else {
		l.out = newOutbox(controlQueue, controlQueueBytes)
	}
	l.mu.calls = make(map[uint64]*call)
	return l
}

// submit numbers the message and queues it. When the link is not up, connected
// is closed once it is. On an error the call is not finished and never will be.
func (l *link) submit(m *peerv1.Message, c *call) (connected <-chan struct{}, err error) {
	size := sizeOf(m)
	if size > MaxEnvelopeBytes {
		return nil, errTooLarge(size)
	}
	if connected, err = l.enter(m, c, size); err != nil {
		return nil, err
	}
	if tamper := l.net.opts.Tamper; tamper != nil {
		tamper(l.node, m, l.inject)
	}
	return connected, nil
}

// enter puts the call into the table and, unless a Tamper comes first, its
// message into the queue.
func (l *link) enter(m *peerv1.Message, c *call, size int) (connected <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.state != linkUp {
		signal(l.wanted)
		c.connected = make(chan struct{})
	}
	if l.mu.state == linkClosed || l.mu.state == linkDown && !c.patient {
		return nil, l.mu.cause
	}
	l.mu.lastRPC++
	m.Rpc, c.rpc = l.mu.lastRPC, l.mu.lastRPC
	if l.net.opts.Tamper == nil {
		if c.parcel = l.out.push(m, size); c.parcel == nil {
			return nil, errQueueFull(l.node)
		}
	}
	if c.expire > 0 {
		l.net.workers.Add(1) // closing needs the lock held here, so it waits for this
		c.timer = time.AfterFunc(c.expire, func() {
			defer l.net.workers.Done()
			if l.forget(c) {
				c.finish(nil, errLate(l.node, c.expire))
			}
		})
	}
	l.mu.calls[c.rpc] = c
	return c.connected, nil
}

// inject queues a message that a Tamper let go. Its call may be long gone, as
// that of a message late on a real network may be; a full queue loses it.
func (l *link) inject(m *peerv1.Message) { l.out.push(m, sizeOf(m)) }

// forget takes the call back, and its message if that still waits. It reports
// whether the caller must now finish the call.
func (l *link) forget(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.calls[c.rpc] != c {
		return false
	}
	l.removeLocked(c)
	return true
}

func (l *link) removeLocked(c *call) {
	delete(l.mu.calls, c.rpc)
	if c.parcel != nil {
		l.out.drop(c.parcel)
	}
	if c.timer != nil && c.timer.Stop() {
		l.net.workers.Done()
	}
}

// answered finishes the call that the answer belongs to. An answer that nobody
// waits for came too late, or twice.
func (l *link) answered(m *peerv1.Message) {
	l.mu.Lock()
	c := l.mu.calls[m.GetRpc()]
	if c != nil {
		l.removeLocked(c)
	}
	l.mu.Unlock()
	if c == nil {
		return
	}
	if err := refusalError(l.node, m); err != nil {
		c.finish(nil, err)
		return
	}
	c.finish(m, nil)
}

// leaving notes that messages are about to be sent: their calls end with the
// stream.
func (l *link) leaving(batch []*peerv1.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range batch {
		if c := l.mu.calls[m.GetRpc()]; c != nil {
			c.sent = true
		}
	}
}

func (l *link) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.state, l.mu.cause = linkUp, nil
	for _, c := range l.mu.calls {
		if c.connected != nil {
			close(c.connected)
			c.connected = nil
		}
	}
}

// down fails what was sent, since its answer can no longer come, and what will
// not wait. It reports whether the link was not down already.
func (l *link) down(cause error) bool {
	l.mu.Lock()
	changed := l.mu.state != linkDown
	l.mu.state, l.mu.cause = linkDown, errDown(l.node, cause)
	l.failLocked(func(c *call) bool { return c.sent || !c.patient })
	return changed
}

// close fails everything, now and later.
func (l *link) close() {
	l.mu.Lock()
	l.mu.state, l.mu.cause = linkClosed, errNetworkClosed()
	l.out.close()
	l.failLocked(func(*call) bool { return true })
}

// failLocked finishes the chosen calls with the link's cause. It unlocks first.
func (l *link) failLocked(which func(*call) bool) {
	var gone []*call
	for _, c := range l.mu.calls {
		if which(c) {
			l.removeLocked(c)
			gone = append(gone, c)
		}
	}
	cause := l.mu.cause
	l.mu.Unlock()
	for _, c := range gone {
		c.finish(nil, cause)
	}
}
