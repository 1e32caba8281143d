package doorway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// knock is what a peer's connection begins with: HTTP/2 begins with 'P', TLS
// with 0x16.
const knock = "RFN1"

const (
	knockTimeout = 5 * time.Second
	maxUndecided = 256
	backlog      = 64 // decided connections that wait to be accepted, per side
	// acceptPause keeps a listener that is out of file descriptors from spinning.
	acceptPause = 50 * time.Millisecond
)

// Knock tells the other side that a fresh connection is a node's.
func Knock(conn net.Conn) error {
	if _, err := io.WriteString(conn, knock); err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	return nil
}

// Limits bound the connections open at once on either side.
type Limits struct{ MaxClients, MaxPeers int }

// Door splits one listener into two. Create it with Open.
type Door struct {
	listener net.Listener
	clients  *side
	peers    *side
	closed   chan struct{}
	workers  sync.WaitGroup

	mu struct {
		sync.Mutex
		undecided map[net.Conn]struct{} // nil once closed
	}
}

// Open starts to accept from l, which belongs to the door from now on.
func Open(l net.Listener, limits Limits) *Door {
	d := &Door{listener: l, closed: make(chan struct{})}
	d.clients = newSide(d, limits.MaxClients)
	d.peers = newSide(d, limits.MaxPeers)
	d.mu.undecided = make(map[net.Conn]struct{})
	d.workers.Go(d.accept)
	return d
}

// Clients is the listener for everybody who does not knock.
func (d *Door) Clients() net.Listener { return d.clients }

// Peers is the listener for connections that began with Knock.
func (d *Door) Peers() net.Listener { return d.peers }

// Close closes the listener, the connections nobody has accepted yet and both
// sides. Accepted connections stay open. It may be called twice.
func (d *Door) Close() error {
	d.mu.Lock()
	undecided := d.mu.undecided
	d.mu.undecided = nil
	d.mu.Unlock()
	if undecided == nil {
		return nil
	}
	close(d.closed)
	err := d.listener.Close()
	for conn := range undecided {
		err = errors.Join(err, conn.Close())
	}
	d.workers.Wait()
	return errors.Join(err, d.clients.Close(), d.peers.Close())
}

func (d *Door) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			select {
			case <-d.closed:
				return
			case <-time.After(acceptPause):
				continue
			}
		}
		if !d.admit(conn) {
			_ = conn.Close() // nothing was said on it yet
			continue
		}
		d.workers.Go(func() { d.decide(conn) })
	}
}

func (d *Door) admit(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.undecided == nil || len(d.mu.undecided) >= maxUndecided {
		return false
	}
	d.mu.undecided[conn] = struct{}{}
	return true
}

// decide reads one byte, which tells the two apart, and then the rest of a knock.
func (d *Door) decide(conn net.Conn) {
	to, delivered := d.classify(conn)
	d.mu.Lock()
	open := d.mu.undecided != nil
	delete(d.mu.undecided, conn)
	d.mu.Unlock()
	if to == nil || !open || !to.offer(delivered) {
		_ = conn.Close() // the other side sees it; there is nobody else to tell
	}
}

func (d *Door) classify(conn net.Conn) (*side, net.Conn) {
	var first [len(knock)]byte
	if conn.SetReadDeadline(time.Now().Add(knockTimeout)) != nil {
		return nil, nil
	}
	if _, err := io.ReadFull(conn, first[:1]); err != nil {
		return nil, nil
	}
	to, delivered := d.clients, net.Conn(&begun{Conn: conn, first: first[:1]})
	if first[0] == knock[0] {
		if _, err := io.ReadFull(conn, first[1:]); err != nil || string(first[:]) != knock {
			return nil, nil
		}
		to, delivered = d.peers, conn
	}
	if conn.SetReadDeadline(time.Time{}) != nil {
		return nil, nil
	}
	return to, delivered
}

// begun is a connection whose first byte was read already. Reads are not
// concurrent, as with every net.Conn that carries a stream.
type begun struct {
	net.Conn
	first []byte
}

func (c *begun) Read(p []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}
