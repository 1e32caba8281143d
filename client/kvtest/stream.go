package kvtest

import (
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

const (
	maxInFlightOps = 8192    // of a stream; beyond them it is not read from
	frameTarget    = 1 << 20 // at which a frame is full
	answerOverhead = 512
)

// stream is one client's Stream call. Answers share the bytes of what is stored, so
// what is in flight is bounded in number only.
type stream struct {
	server *Server
	rpc    grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]
	over   chan struct{} // closed by end
	once   sync.Once
	err    error // the call's status; set before over is closed
	wake   chan struct{}
	room   chan struct{}

	mu struct {
		sync.Mutex
		inFlight int
		answers  []*kvv1.Answer
		hello    *kvv1.ServerHello // to be sent
		mapped   *kvv1.ShardMap
		ending   bool // the client has said all
	}
}

// Stream implements the data API.
func (s *Server) Stream(rpc grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]) error {
	leave, err := enter(&s.streams, maxStreams, "streams")
	if err != nil {
		return wire.StatusFromError(err)
	}
	defer leave()
	st := &stream{server: s, rpc: rpc, over: make(chan struct{}), wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	// The handler must return for gRPC to free these from Recv and Send.
	s.running.Go(st.read)
	s.running.Go(st.write)
	select {
	case <-st.over:
		return st.err
	case <-rpc.Context().Done():
		st.end(nil)
		return status.FromContextError(rpc.Context().Err()).Err()
	case <-s.closing:
		st.end(nil)
		return wire.StatusFromError(stopping())
	}
}

// end ends the stream with a status, nil for a good end. The first call wins.
func (st *stream) end(err error) {
	st.once.Do(func() {
		st.err = err
		close(st.over)
	})
}

func (st *stream) read() {
	frame, err := st.rpc.Recv()
	var c caller
	if err == nil {
		if c, err = st.server.greet(frame.GetHello()); err == nil {
			st.welcome()
		}
	}
	for err == nil {
		ops := frame.GetOperations()
		if !st.admit(len(ops)) {
			return
		}
		c.lowestOpen = frame.GetLowestOpen()
		st.server.serve(ops, c, time.Now(), st)
		frame, err = st.rpc.Recv()
	}
	if !errors.Is(err, io.EOF) {
		st.end(err)
		return
	}
	st.mu.Lock()
	st.mu.ending = true
	st.mu.Unlock()
	signal(st.wake)
}

// greet returns who calls, or the status that refuses the stream.
func (s *Server) greet(hello *kvv1.ClientHello) (c caller, err error) {
	fault := func(kind kverr.Kind, format string, args ...any) (caller, error) {
		e := kverr.New(kind, format, args...)
		e.Node = nodeID
		return caller{}, wire.StatusFromError(e)
	}
	switch {
	case hello == nil:
		return fault(kverr.Invalid, "the first frame of a stream must hold a hello")
	case hello.GetFormat() != wireFormat:
		return fault(kverr.Format, "the client speaks wire format %d, this server format %d", hello.GetFormat(), wireFormat)
	case hello.GetClusterId() != "" && hello.GetClusterId() != s.cluster:
		return fault(kverr.WrongCluster, "this server is cluster %s, not %s", s.cluster, hello.GetClusterId())
	}
	switch id := hello.GetClientId(); len(id) {
	case 0:
	case len(c.client):
		c.client, c.named = [16]byte(id), true
	default:
		return fault(kverr.Invalid, "client_id has %d bytes; it must have 16, or none", len(id))
	}
	return c, nil
}

func (st *stream) welcome() {
	s := st.server
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.mapped = wire.MapToProto(s.mapped)
	st.mu.hello = &kvv1.ServerHello{
		Format: wireFormat, ClusterId: s.cluster, NodeId: nodeID, NowUs: s.clock.WallMicros(),
		MaxKeyBytes: MaxKeyBytes, MaxValueBytes: MaxValueBytes, MaxFrameBytes: MaxFrameBytes,
	}
	signal(st.wake)
}

// admit waits until there is room for a frame's operations; a frame alone always has.
func (st *stream) admit(ops int) bool {
	for {
		st.mu.Lock()
		fits := st.mu.inFlight == 0 || st.mu.inFlight+ops <= maxInFlightOps
		if fits {
			st.mu.inFlight += ops
		}
		st.mu.Unlock()
		if fits {
			return true
		}
		select {
		case <-st.room:
		case <-st.over:
			return false
		}
	}
}

// deliver implements sink.
func (st *stream) deliver(answers []*kvv1.Answer) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.answers = append(st.mu.answers, answers...)
	signal(st.wake)
}

// lose implements sink: the connection breaks, as the client sees it.
func (st *stream) lose() { st.end(status.Error(codes.Unavailable, errLost.Error())) }

// write sends what waits, together, until the stream is over.
func (st *stream) write() {
	for {
		st.mu.Lock()
		answers, frame := st.mu.answers, &kvv1.ServerFrame{Hello: st.mu.hello, Map: st.mu.mapped}
		st.mu.answers, st.mu.hello, st.mu.mapped = nil, nil, nil
		idle := len(answers) == 0 && frame.Hello == nil
		done := idle && st.mu.ending && st.mu.inFlight == 0
		st.mu.Unlock()
		if done {
			st.end(nil)
			return
		}
		if idle {
			select {
			case <-st.wake:
				continue
			case <-st.over:
				return
			}
		}
		if frame.Hello != nil {
			for _, sh := range st.server.shards {
				frame.Leaders = append(frame.Leaders, sh.leader())
			}
		}
		if !st.send(frame, answers) {
			return
		}
	}
}

// send sends answers in frames of about frameTarget bytes, the first of which has more
// to say.
func (st *stream) send(frame *kvv1.ServerFrame, answers []*kvv1.Answer) bool {
	for {
		n, bytes := 0, 0
		for n < len(answers) && (n == 0 || bytes+answerBytes(answers[n]) <= frameTarget) {
			bytes += answerBytes(answers[n])
			n++
		}
		frame.Answers = answers[:n]
		if err := st.rpc.Send(frame); err != nil {
			st.end(err)
			return false
		}
		st.mu.Lock()
		st.mu.inFlight -= n
		st.mu.Unlock()
		signal(st.room)
		if answers = answers[n:]; len(answers) == 0 {
			return true
		}
		frame = &kvv1.ServerFrame{}
	}
}

func answerBytes(a *kvv1.Answer) int {
	n := answerOverhead + len(a.GetValue()) + len(a.GetPrevious().GetValue())
	for _, l := range a.GetLeaves() {
		n += answerOverhead + len(l.GetValue()) + len(l.GetPrevious().GetValue())
	}
	return n
}
