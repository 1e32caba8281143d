package transport

import (
	"context"
	"time"

	"google.golang.org/grpc"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
)

// transfer is one attempt: one stream. Its own goroutine receives the answers.
type transfer struct {
	o        *outgoing
	conn     *grpc.ClientConn
	ctx      context.Context
	cancel   context.CancelCauseFunc
	stream   grpc.BidiStreamingClient[peerv1.SnapshotChunk, peerv1.SnapshotAnswer]
	stall    *time.Timer   // cancels; started again by every progress
	admitted chan struct{} // closed by receive
	news     chan struct{} // capacity 1: an answer came
	over     chan struct{} // closed by receive when result and err are final
	result   *peerv1.InstallSnapshotResult
	err      error
}

func newTransfer(o *outgoing, conn *grpc.ClientConn) *transfer {
	return &transfer{o: o, conn: conn, admitted: make(chan struct{}), news: make(chan struct{}, 1), over: make(chan struct{})}
}

func (t *transfer) wasAdmitted() bool {
	select {
	case <-t.admitted:
		return true
	default:
		return false
	}
}

func (t *transfer) run() (*peerv1.InstallSnapshotResult, error) {
	t.ctx, t.cancel = context.WithCancelCause(t.o.ctx)
	defer t.cancel(nil)
	limit := t.o.g.net.opts.SnapshotStall
	t.stall = time.AfterFunc(limit, func() { t.cancel(errStalled(t.o.node, limit)) })
	defer t.stall.Stop()
	if err := t.open(); err != nil {
		return nil, t.because(err)
	}
	defer func() { // answers are received until the stream ends
		t.cancel(nil)
		<-t.over
	}()
	go t.receive()
	if !t.await(t.admitted) {
		return t.outcome()
	}
	if err := t.o.view.Stream(t.ctx, t); err != nil {
		select {
		case <-t.over: // the receiver knew it first, and why
		default:
			return nil, t.because(err)
		}
		return t.outcome()
	}
	t.await(nil)
	return t.outcome()
}

// open makes the stream and sends the offer.
func (t *transfer) open() error {
	hello, err := t.o.g.net.hello(t.o.node, peerv1.Lane_LANE_BULK)
	if err != nil {
		return err
	}
	t.stream, err = peerv1.NewPeerClient(t.conn).SendSnapshot(t.ctx)
	if err != nil {
		return wire.ErrorFromStatus(err, wire.Unsent)
	}
	t.o.offer.Hello = hello
	// When this fails, receive hears why.
	_ = t.stream.Send(&peerv1.SnapshotChunk{Offer: t.o.offer})
	return nil
}

// receive takes answers until the last one, or until the stream breaks.
func (t *transfer) receive() {
	defer close(t.over)
	for {
		a, err := t.stream.Recv()
		switch {
		case err != nil:
			t.err = wire.ErrorFromStatus(err, wire.Unsent)
		case a.GetRefusal() != peerv1.Refusal_REFUSAL_NONE:
			t.err = errSnapshotRefused(t.o.node, t.o.g.id, a)
		case a.GetResult() != nil:
			t.result = a.GetResult()
		default:
			if !t.wasAdmitted() {
				close(t.admitted)
			}
			signal(t.news)
			continue
		}
		return
	}
}

// await waits for a channel, or with nil for the end, as long as the receiver
// gives signs of life. It answers false at the end.
func (t *transfer) await(c <-chan struct{}) bool {
	limit := t.o.g.net.opts.SnapshotStall
	t.stall.Reset(limit)
	for {
		select {
		case <-c:
			return true
		case <-t.over:
			return false
		case <-t.news:
			t.stall.Reset(limit)
		}
	}
}

// outcome is what receive found. It waits for it.
func (t *transfer) outcome() (*peerv1.InstallSnapshotResult, error) {
	<-t.over
	if t.err != nil {
		return nil, t.because(t.err)
	}
	return t.result, nil
}

// because prefers the cause for which the transfer was cancelled to what the
// cancelled calls say.
func (t *transfer) because(err error) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	return err
}

// Chunk implements SnapshotSink.
func (t *transfer) Chunk(data []byte, crc uint32) error {
	t.o.g.net.counts.bytesSent.Add(uint64(len(data)))
	return t.push(&peerv1.SnapshotChunk{Data: data, Crc: crc})
}

// EndFile implements SnapshotSink.
func (t *transfer) EndFile(bytes, sum uint64) error {
	return t.push(&peerv1.SnapshotChunk{FileEnd: &peerv1.SnapshotFileEnd{Bytes: bytes, Sum: sum}})
}

// End implements SnapshotSink.
func (t *transfer) End(files, bytes, sum uint64) error {
	return t.push(&peerv1.SnapshotChunk{End: &peerv1.SnapshotEnd{Files: files, Bytes: bytes, Sum: sum}})
}

// push sends a step. gRPC takes it when the receiver has taken enough of what was
// sent before; it keeps no reference to it.
func (t *transfer) push(m *peerv1.SnapshotChunk) error {
	t.stall.Reset(t.o.g.net.opts.SnapshotStall)
	defer t.stall.Stop()
	err := t.stream.Send(m)
	if err == nil {
		return nil
	}
	<-t.over // io.EOF says nothing: receive hears why
	return t.because(t.err)
}
