package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// wireFormat is the format this client speaks.
	wireFormat = 1
	// helloTimeout bounds connecting and the exchange of hellos.
	helloTimeout = 2 * time.Second
	// The wait between attempts to connect, which go on in the background.
	reconnectFirst = 20 * time.Millisecond
	reconnectLast  = 500 * time.Millisecond
	// soundSession is how long a session must last to count as a success: a node
	// that says hello and hangs up must not be called in a tight loop.
	soundSession = time.Second
	// maxServerFrame bounds what is received at once, in bytes.
	maxServerFrame = 64 << 20
	// bufferBytes is the size of the socket buffers.
	bufferBytes = 128 << 10
	// keepaliveTime and keepaliveTimeout find connections that died without a
	// word. The servers must allow pings this often.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
)

type stream = grpc.BidiStreamingClient[kvv1.ClientFrame, kvv1.ServerFrame]

// run keeps the connection up until it is closed.
func (n *conn) run() {
	failures := 0
	for {
		began := n.client.now()
		reached, err := n.session()
		if n.ctx.Err() != nil {
			return
		}
		if reached && n.client.now()-began >= soundSession {
			failures = 0
		}
		n.client.log.LogAttrs(n.ctx, slog.LevelDebug, "connection lost",
			slog.String("node", string(n.name())), slog.Any("cause", err))
		if reached && failures == 0 {
			// The node may be back at once, so calls may wait for this next try.
			failures++
			n.moveTo(phaseConnecting, err, eventUnsent, true)
			continue
		}
		n.moveTo(phaseDown, err, eventUnsent, true)
		timer := time.NewTimer(n.client.random.backoff(failures, reconnectFirst, reconnectLast))
		failures++
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// session connects, serves the stream until it ends, and says whether it ever
// got to exchanging hellos.
func (n *conn) session() (reached bool, err error) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	defer cancel(nil)
	address := n.nextAddress()
	cc, err := n.client.dial(address)
	if err != nil {
		return false, err
	}
	defer cc.Close()
	impatience := time.AfterFunc(helloTimeout, func() { cancel(errNoHello) })
	defer impatience.Stop()

	service := kvv1.NewKVClient(cc)
	st, err := service.Stream(ctx)
	if err != nil {
		return false, sessionError(ctx, address, err)
	}
	lane := n.client.numbers.lane()
	if err := st.Send(&kvv1.ClientFrame{Hello: n.client.hello(lane)}); err != nil && err != io.EOF {
		return false, sessionError(ctx, address, err)
	}
	// After io.EOF the reason comes from Recv.
	first, err := st.Recv()
	if err != nil {
		return false, sessionError(ctx, address, err)
	}
	if err := n.welcome(address, first); err != nil {
		return false, err
	}
	if !impatience.Stop() {
		return false, sessionError(ctx, address, errNoHello)
	}
	n.client.counters.connections.Add(1)
	defer n.client.counters.connections.Add(-1)
	n.ready(first.GetHello(), lane, service)

	written := make(chan struct{})
	go func() {
		defer close(written)
		n.write(ctx, st)
	}()
	err = n.read(st)
	cancel(nil)
	<-written
	return true, sessionError(ctx, address, err)
}

// nextAddress returns the address to try, and puts it last for the next time.
func (n *conn) nextAddress() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	address := n.addresses[0]
	if len(n.addresses) > 1 && n.inPhase(phaseDown) {
		n.addresses = append(n.addresses[1:len(n.addresses):len(n.addresses)], address)
	}
	return address
}

// ready opens the connection for sending.
func (n *conn) ready(h *kvv1.ServerHello, lane *lane, service kvv1.KVClient) {
	now := n.client.now()
	n.client.counters.connects.Add(1)
	n.client.log.LogAttrs(n.ctx, slog.LevelDebug, "connected", slog.String("node", h.GetNodeId()))
	n.mu.Lock()
	n.node = shardmap.NodeID(h.GetNodeId())
	n.known.Store(new(n.node))
	n.lane, n.service = lane, service
	n.maxFrame = defaultMaxFrame
	if m := h.GetMaxFrameBytes(); m > 0 {
		n.maxFrame = int(m)
	}
	n.lastHeard = now
	n.suspectUntil.Store(0)
	n.parked = false
	if !n.inPhase(phaseClosed) {
		n.enterLocked(phaseReady)
	}
	// Calls that came before there was a map can now go to the right node.
	var out ended
	for c := n.lines.of(0).queue.head; c != nil; {
		next := c.try.next
		if n.client.topology.knows(c.slot) {
			n.lines.remove(c)
			out.add(c, eventRerouted, nil)
		}
		c = next
	}
	n.mu.Unlock()
	out.deliver()
	n.client.reached()
}

// write sends what waits, frame by frame, until the session ends. It adds no
// delay: calls made while one frame is sent travel in the next.
func (n *conn) write(ctx context.Context, st stream) {
	for {
		frame := n.take()
		if frame == nil {
			select {
			case <-n.kick:
				// Let whoever is ready to call do so first: their operations travel in
				// the same frame. With nobody ready it costs nothing.
				runtime.Gosched()
				continue
			case <-ctx.Done():
				return
			}
		}
		if st.Send(frame) != nil {
			return // the reader learns why
		}
	}
}

func (n *conn) read(st stream) error {
	for {
		f, err := st.Recv()
		if err != nil {
			return err
		}
		n.receive(f)
	}
}

var errNoHello = kverr.New(kverr.Unavailable, "no hello within %v", helloTimeout)

// sessionError gives the end of a session a kind and a place. It does not wrap
// the cause: that holds context errors of the session's own, which a caller would
// take for those of the call.
func sessionError(ctx context.Context, address string, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		err = kverr.New(kverr.Unavailable, "it ended the stream")
	case errors.Is(context.Cause(ctx), errNoHello):
		err = errNoHello
	default:
		err = wire.ErrorFromStatus(err, wire.Unsent)
	}
	return kverr.New(kverr.KindOf(err), "node at %s: %v", address, err)
}

// dial prepares a connection; it is made by the first stream.
func (c *Client) dial(address string) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(c.cfg.credentials),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithReadBufferSize(bufferBytes),
		grpc.WithWriteBufferSize(bufferBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxServerFrame)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}
	if c.cfg.dialer != nil {
		opts = append(opts, grpc.WithContextDialer(c.cfg.dialer))
	}
	cc, err := grpc.NewClient("passthrough:///"+address, append(opts, c.cfg.dialOptions...)...)
	if err != nil {
		return nil, kverr.New(kverr.Invalid, "dialling %s: %w", address, err)
	}
	return cc, nil
}

func (c *Client) hello(l *lane) *kvv1.ClientHello {
	return &kvv1.ClientHello{
		Format: wireFormat, ClusterId: c.topology.cluster(), ClientId: l.id[:], MapEpoch: c.topology.epoch(),
	}
}
