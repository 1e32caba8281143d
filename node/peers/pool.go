package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/doorway"
	"github.com/ringfort/ringfort/shardmap"
)

// Dialer opens a raw connection to host:port.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Options configure a Pool.
type Options struct {
	Book *Book
	// Dial opens raw connections; the pool knocks on them.
	Dial Dialer
	// Credentials default to none.
	Credentials credentials.TransportCredentials
	// Extra are further options of every connection.
	Extra []grpc.DialOption
}

// Pool keeps one connection per node. Safe for concurrent use.
type Pool struct {
	options Options

	mu     sync.Mutex
	closed bool
	conns  map[shardmap.NodeID]entry
}

type entry struct {
	address string
	conn    *grpc.ClientConn
}

// NewPool returns an empty pool. Connections are made when they are used.
func NewPool(o Options) *Pool {
	if o.Credentials == nil {
		o.Credentials = insecure.NewCredentials()
	}
	return &Pool{options: o, conns: make(map[shardmap.NodeID]entry)}
}

// Conn returns the connection to a node at its current address. It is shared and
// may not be connected yet. An unknown address is of kind Unavailable.
func (p *Pool) Conn(_ context.Context, id shardmap.NodeID) (*grpc.ClientConn, error) {
	node, ok := p.options.Book.Find(id)
	if !ok {
		return nil, &kverr.Error{Kind: kverr.Unavailable, Node: string(id),
			Message: fmt.Sprintf("no address of node %s is known", id.Short())}
	}
	conn, stale, err := p.swap(id, node.Address)
	if stale != nil {
		_ = stale.Close() // it fails only when closed already
	}
	return conn, err
}

// swap returns the connection to address, and the one it replaces.
func (p *Pool) swap(id shardmap.NodeID, address string) (conn, stale *grpc.ClientConn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, errClosed()
	}
	held := p.conns[id]
	if held.conn != nil && held.address == address {
		return held.conn, nil, nil
	}
	if conn, err = p.open(address); err != nil {
		return nil, nil, err
	}
	p.conns[id] = entry{address, conn}
	return conn, held.conn, nil
}

// Ready returns the node's connection once it is connected, or an error of kind
// Unavailable as soon as it cannot be. Whatever is sent on it afterwards may
// have reached the node; nothing has before.
func (p *Pool) Ready(ctx context.Context, id shardmap.NodeID) (*grpc.ClientConn, error) {
	conn, err := p.Conn(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := ready(ctx, id, conn); err != nil {
		return nil, err
	}
	return conn, nil
}

// ready waits until conn is connected or its attempt has failed.
func ready(ctx context.Context, id shardmap.NodeID, conn *grpc.ClientConn) error {
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure, connectivity.Shutdown:
			return notConnected(id, nil)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return notConnected(id, ctx.Err())
		}
	}
}

// Fresh is Ready for somebody who asks how things are now. After a failed attempt
// a connection rests before its next one, and Ready says so though the node may be
// back; Fresh then makes an attempt of its own. The caller calls release when done.
func (p *Pool) Fresh(ctx context.Context, id shardmap.NodeID) (conn *grpc.ClientConn, release func(), err error) {
	conn, err = p.Ready(ctx, id)
	if err == nil {
		return conn, func() {}, nil
	}
	node, ok := p.options.Book.Find(id)
	if !ok || ctx.Err() != nil {
		return nil, nil, err
	}
	conn, onceErr := p.Once(node.Address)
	if onceErr != nil {
		return nil, nil, onceErr
	}
	release = func() { _ = conn.Close() } // it fails only when closed already
	if err := ready(ctx, id, conn); err != nil {
		release()
		return nil, nil, err
	}
	p.wake(id)
	return conn, release, nil
}

// wake ends the rest of a node's connection, for the node is there.
func (p *Pool) wake(id shardmap.NodeID) {
	p.mu.Lock()
	held := p.conns[id]
	p.mu.Unlock()
	if held.conn != nil {
		held.conn.ResetConnectBackoff()
	}
}

func notConnected(id shardmap.NodeID, cause error) error {
	return &kverr.Error{Kind: kverr.Unavailable, Node: string(id), Err: cause,
		Message: fmt.Sprintf("node %s cannot be connected to", id.Short())}
}

// Once opens a connection to an address of which the node is not known, such as
// a seed's. The caller closes it.
func (p *Pool) Once(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return nil, errClosed()
	}
	return p.open(address)
}

// open makes a connection that dials when it is first used.
func (p *Pool) open(address string) (*grpc.ClientConn, error) {
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(p.options.Credentials),
		grpc.WithContextDialer(p.dial),
		// Idleness would close connections that streams need at once when a
		// quiet shard wakes up.
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
	}, p.options.Extra...)
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, kverr.New(kverr.Internal, "connect to %s: %w", address, err)
	}
	return conn, nil
}

func (p *Pool) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := p.options.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := doorway.Knock(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Close closes all connections. What is under way on them fails.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for _, e := range conns {
		_ = e.conn.Close() // it fails only when closed already
	}
}

func errClosed() error { return kverr.New(kverr.Closed, "the node's connections are closed") }
