package doorway

import (
	"errors"
	"net"
	"sync"
)

// side is one of the two listeners. Closing it turns away what comes next; the
// door stays open for the other.
type side struct {
	door    *Door
	limit   int
	waiting chan net.Conn

	mu struct {
		sync.Mutex
		open   int // delivered and not closed yet
		closed bool
		done   chan struct{}
	}
}

var _ net.Listener = (*side)(nil)

func newSide(d *Door, limit int) *side {
	s := &side{door: d, limit: limit, waiting: make(chan net.Conn, backlog)}
	s.mu.done = make(chan struct{})
	return s
}

// offer hands a connection over, or reports that there is no room.
func (s *side) offer(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || s.mu.open >= s.limit {
		return false
	}
	select {
	case s.waiting <- &counted{Conn: conn, side: s}:
		s.mu.open++
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (s *side) Accept() (net.Conn, error) {
	select {
	case <-s.mu.done:
		return nil, net.ErrClosed
	case conn := <-s.waiting:
		return conn, nil
	}
}

// Close implements net.Listener. It may be called twice, since both a gRPC
// server and the door do.
func (s *side) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	close(s.mu.done)
	s.mu.Unlock()
	var err error
	for {
		select {
		case conn := <-s.waiting:
			err = errors.Join(err, conn.Close())
		default:
			return err
		}
	}
}

// Addr implements net.Listener.
func (s *side) Addr() net.Addr { return s.door.listener.Addr() }

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	side *side
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.side.mu.Lock()
		c.side.mu.open--
		c.side.mu.Unlock()
	})
	return c.Conn.Close()
}
