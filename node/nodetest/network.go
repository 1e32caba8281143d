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
	mu        sync.Mutex
	listeners map[string]*listener // by address
	cut       map[link]bool
	healed    chan struct{} // closed at the next change of cut
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
		conns: make(map[*conn]struct{}),
	}
}

// listen opens a node's listener.
func (n *Network) listen(node int, address string) net.Listener {
	l := &listener{Listener: bufconn.Listen(bufferBytes), node: node}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
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
		c := &conn{Conn: raw, network: n, out: link{from, l.node}, gone: make(chan struct{})}
		n.mu.Lock()
		n.conns[c] = struct{}{}
		n.mu.Unlock()
		return c, nil
	}
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
	defer n.mu.Unlock()
	for _, l := range links {
		n.cut[l] = cut
	}
	close(n.healed)
	n.healed = make(chan struct{})
}

// open reports whether nothing is cut between two nodes.
func (n *Network) open(a, b int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[link{a, b}] && !n.cut[link{b, a}]
}

// sever breaks all connections of a node, both ways, and stops its listening.
// When it returns no further byte leaves the node.
func (n *Network) sever(node int) {
	n.mu.Lock()
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

// conn is the dialling end of a connection; both directions pass through it.
type conn struct {
	net.Conn
	network *Network
	out     link
	once    sync.Once
	gone    chan struct{}
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.network.pass(c.out, c.gone); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
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
