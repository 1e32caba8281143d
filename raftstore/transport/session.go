package transport

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// run keeps a stream open as long as there is something to send, and tries
// again, ever more slowly up to once a second, while there is and it fails.
func (l *link) run() {
	defer l.close()
	pause := newPause(l.net.opts.Self, l.node, l.lane)
	for l.awaitDemand() {
		start := time.Now()
		opened, err := l.session()
		if l.net.ctx.Err() != nil {
			return
		}
		if l.down(wire.ErrorFromStatus(err, wire.Unsent)) {
			l.net.opts.Logger.Warn("no stream to peer", "peer", l.node, "lane", l.lane.String(), "err", err)
		}
		if opened {
			pause.reset()
		}
		if !pause.sleep(l.net.ctx, start) {
			return
		}
	}
}

// awaitDemand waits for something to send; false when the network closes.
func (l *link) awaitDemand() bool {
	for l.out.empty() {
		select {
		case <-l.out.ready:
		case <-l.wanted:
			return true
		case <-l.net.ctx.Done():
			return false
		}
	}
	return l.net.ctx.Err() == nil
}

// session is the life of one stream. opened tells that hellos were exchanged.
func (l *link) session() (opened bool, err error) {
	ctx, cancel := context.WithCancel(l.net.ctx)
	defer cancel()
	stream, err := l.open(ctx, cancel)
	if err != nil {
		return false, err
	}
	l.up()
	l.net.opts.Logger.Info("stream to peer is up", "peer", l.node, "lane", l.lane.String())
	var sending sync.WaitGroup
	sending.Go(func() {
		defer cancel() // ends the receiving below
		sendAll(ctx, l.out, stream, l.leaving)
	})
	err = l.receive(stream)
	cancel()
	sending.Wait()
	return true, err
}

// open dials, opens the stream and exchanges hellos, all within openTimeout.
func (l *link) open(ctx context.Context, cancel context.CancelFunc) (peerv1.Peer_ExchangeClient, error) {
	late := time.AfterFunc(openTimeout, cancel)
	stream, err := l.greet(ctx)
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	return stream, err
}

func (l *link) greet(ctx context.Context) (peerv1.Peer_ExchangeClient, error) {
	hello, err := l.net.hello(l.node, l.lane)
	if err != nil {
		return nil, err
	}
	conn, err := l.net.opts.Dial(ctx, l.node)
	if err != nil {
		return nil, err
	}
	// Waiting for a ready connection makes us hear of it at once; a stream that
	// fails fast would be tried again only after our own pause.
	stream, err := peerv1.NewPeerClient(conn).Exchange(ctx,
		grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(MaxEnvelopeBytes))
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&peerv1.Envelope{Hello: hello}); err != nil {
		if _, cause := stream.Recv(); cause != nil { // says why, unless an answer came before the end
			err = cause
		}
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return stream, l.net.checkHello(first.GetHello(), l.node, l.lane)
}

func (l *link) receive(stream peerv1.Peer_ExchangeClient) error {
	for {
		env, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, m := range env.GetMessages() {
			l.answered(m)
		}
	}
}

// envelopeSender is either end of an Exchange stream.
type envelopeSender interface {
	Send(*peerv1.Envelope) error
}

// sendAll puts what waits into as few envelopes as it can, until ctx ends or the
// stream breaks. Before it takes what waits it lets every goroutine run that
// could send something too: that is all the coalescing there is, it makes
// envelopes of 20 to 40 messages from 64 callers, and it adds no delay. leaving
// hears of each batch before it is sent.
func sendAll(ctx context.Context, out *outbox, stream envelopeSender, leaving func([]*peerv1.Message)) error {
	for {
		for {
			batch := out.take(batchBytes)
			if batch == nil {
				break
			}
			leaving(batch)
			if err := stream.Send(&peerv1.Envelope{Messages: batch}); err != nil {
				return err
			}
		}
		select {
		case <-out.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		runtime.Gosched()
	}
}

// pause spaces out attempts to reach one peer.
type pause struct {
	spread *rand.Rand
	next   time.Duration
}

const (
	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// newPause spreads pairs of nodes over time. It needs no randomness for that,
// only to differ from pair to pair.
func newPause(self, peer shardmap.NodeID, lane peerv1.Lane) *pause {
	h := fnv.New64a()
	_, _ = h.Write([]byte(self))
	_, _ = h.Write([]byte{'>'})
	_, _ = h.Write([]byte(peer))
	return &pause{spread: rand.New(rand.NewPCG(h.Sum64(), uint64(lane))), next: firstPause}
}

func (p *pause) reset() { p.next = firstPause }

// sleep lets between half and all of a time pass since the last attempt began.
// The time doubles. It answers false when ctx ends.
func (p *pause) sleep(ctx context.Context, since time.Time) bool {
	wait := p.next/2 + time.Duration(p.spread.Int64N(int64(p.next/2)))
	p.next = min(2*p.next, maxPause)
	timer := time.NewTimer(time.Until(since.Add(wait)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
