package nodetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/test/bufconn"
)

// Outside is the end of connections that belong to no node: clients.
const Outside = -1

// bufferBytes is what a connection takes before its reader must read.
const bufferBytes = 256 << 10

// Network joins nodes and clients by in-memory connections. Nodes are numbers
// from 0. Safe for concurrent use.
type Network struct {
	changed func() // called after every change of what is cut

	mu        sync.Mutex
	listeners map[string]*listener // by address
	cut       map[link]bool
	healed    chan struct{} // closed at the next change of cut
	fenced    map[int]bool  // nodes that may not dial
	conns     map[*conn]struct{}
}

type link struct{ from, to int }

type listener struct {
	*bufconn.Listener
	node int
}

func newNetwork() *Network {
	return &Network{
		listeners: make(map[string]*listener), cut: make(map[link]bool), healed: make(chan struct{}),
		fenced: make(map[int]bool), conns: make(map[*conn]struct{}),
	}
}

// listen opens a node's listener.
func (n *Network) listen(node int, address string) net.Listener {
	l := &listener{Listener: bufconn.Listen(bufferBytes), node: node}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
	n.fenced[node] = false
	return l
}

// dialer opens connections as seen from one node, or from Outside.
func (n *Network) dialer(from int) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[address]
		n.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("dial %s: nobody listens", address)
		}
		if err := n.pass(link{from, l.node}, ctx.Done()); err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, ctx.Err())
		}
		raw, err := l.DialContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", address, err)
		}
		c := newConn(raw, n, link{from, l.node})
		if !n.admit(c) {
			return nil, errors.Join(fmt.Errorf("dial %s: the node is fenced", address), c.Close())
		}
		return c, nil
	}
}

// admit counts a new connection in, unless one of its ends was severed meanwhile.
func (n *Network) admit(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fenced[c.out.from] || n.fenced[c.out.to] {
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

var errGone = errors.New("connection severed")

// pass waits until bytes may travel a link.
func (n *Network) pass(l link, gone <-chan struct{}) error {
	for {
		n.mu.Lock()
		cut, healed := n.cut[l], n.healed
		n.mu.Unlock()
		select {
		case <-gone:
			return errGone
		default:
		}
		if !cut {
			return nil
		}
		select {
		case <-healed:
		case <-gone:
			return errGone
		}
	}
}

// Cut stops what travels from one node to another; the way back stays open.
// Connections stay up and bytes wait, as with lost packets.
func (n *Network) Cut(from, to int) { n.set(true, link{from, to}) }

// Heal undoes Cut.
func (n *Network) Heal(from, to int) { n.set(false, link{from, to}) }

// CutBoth and HealBoth work in both directions.
func (n *Network) CutBoth(a, b int) { n.set(true, link{a, b}, link{b, a}) }

// HealBoth undoes CutBoth.
func (n *Network) HealBoth(a, b int) { n.set(false, link{a, b}, link{b, a}) }

func (n *Network) set(cut bool, links ...link) {
	n.mu.Lock()
	for _, l := range links {
		n.cut[l] = cut
	}
	close(n.healed)
	n.healed = make(chan struct{})
	n.mu.Unlock()
	n.changed()
}

// open reports whether nothing is cut between two nodes.
func (n *Network) open(a, b int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[link{a, b}] && !n.cut[link{b, a}]
}

// sever breaks all connections of a node and keeps it from making new ones until
// it listens again. When it returns no further byte leaves the node.
func (n *Network) sever(node int) {
	n.mu.Lock()
	n.fenced[node] = true
	var doomed []*conn
	for c := range n.conns {
		if c.out.from == node || c.out.to == node {
			doomed = append(doomed, c)
		}
	}
	for address, l := range n.listeners {
		if l.node == node {
			delete(n.listeners, address)
		}
	}
	n.mu.Unlock()
	for _, c := range doomed {
		_ = c.Close() // in memory: it cannot fail
	}
}

// sendBufferBytes is what a connection accepts while its link is cut, as a
// kernel would: gRPC closes no transport whose writer hangs, and opens streams on
// it in a loop meanwhile.
const sendBufferBytes = 4 << 20

// close ends every connection that is left: one may have been dialled while its
// node was being severed.
func (n *Network) close() {
	n.mu.Lock()
	left := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		left = append(left, c)
	}
	n.mu.Unlock()
	for _, c := range left {
		_ = c.Close() // in memory: it cannot fail
	}
}

// conn is the dialling end of a connection; both directions pass through it.
// Writes are buffered and carried over by a goroutine, which Close ends.
type conn struct {
	net.Conn
	network *Network
	out     link
	once    sync.Once
	gone    chan struct{}
	queued  chan struct{} // capacity 1: there is something to carry
	room    chan struct{} // capacity 1: something was carried

	mu     sync.Mutex
	buffer []byte
	broken error // of a write that was accepted earlier
}

func newConn(raw net.Conn, n *Network, out link) *conn {
	c := &conn{
		Conn: raw, network: n, out: out, gone: make(chan struct{}),
		queued: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	go c.carry()
	return c
}

func (c *conn) Write(p []byte) (int, error) {
	for {
		c.mu.Lock()
		if c.broken != nil {
			defer c.mu.Unlock()
			return 0, c.broken
		}
		if len(c.buffer) < sendBufferBytes {
			c.buffer = append(c.buffer, p...)
			c.mu.Unlock()
			signal(c.queued)
			return len(p), nil
		}
		c.mu.Unlock()
		select {
		case <-c.room:
		case <-c.gone:
			return 0, errGone
		}
	}
}

// carry takes what was written over the link while that is open.
func (c *conn) carry() {
	for {
		select {
		case <-c.queued:
		case <-c.gone:
			return
		}
		if c.network.pass(c.out, c.gone) != nil {
			return
		}
		c.mu.Lock()
		data := c.buffer
		c.buffer = nil
		c.mu.Unlock()
		signal(c.room)
		if _, err := c.Conn.Write(data); err != nil {
			c.mu.Lock()
			c.broken = err
			c.mu.Unlock()
			return
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		return n, err
	}
	if err := c.network.pass(link{c.out.to, c.out.from}, c.gone); err != nil {
		return 0, err
	}
	return n, nil
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.gone)
		c.network.mu.Lock()
		delete(c.network.conns, c)
		c.network.mu.Unlock()
	})
	return c.Conn.Close()
}
