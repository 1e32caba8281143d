package kvserver

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// stream is one client's Stream call.
type stream struct {
	server *Server
	rpc    kvv1.KV_StreamServer
	box    outbox
	caller caller // the reader's alone
	plan   plan   // the reader's alone

	over  chan struct{} // closed by end
	once  sync.Once
	err   error        // the call's status; set before over is closed
	parts atomic.Int32 // goroutines that still use the stream
}

// Stream implements kvv1.KVServer.
func (s *Server) Stream(rpc kvv1.KV_StreamServer) error {
	st := &stream{server: s, rpc: rpc, over: make(chan struct{})}
	st.box.init(s)
	if err := s.enterStream(st); err != nil {
		return wire.StatusFromError(err)
	}
	st.parts.Store(3)
	defer st.leave()
	hello := time.AfterFunc(s.opts.StallTimeout, func() {
		st.end(s.fault(kverr.Deadline, "no hello within %s of opening the stream", s.opts.StallTimeout))
	})
	defer hello.Stop()
	go st.read(hello)
	go st.write()
	return st.supervise()
}

// supervise waits for the end of the stream. Its return, as the handler's, is
// what frees the reader from Recv and the writer from Send.
func (st *stream) supervise() error {
	defer st.box.close()
	draining := st.server.draining
	for {
		select {
		case <-st.over:
			return st.err
		case <-draining:
			draining = nil
			st.box.finish()
		case <-st.rpc.Context().Done():
			st.end(status.FromContextError(st.rpc.Context().Err()).Err())
		case <-st.server.life.Done():
			st.end(wire.StatusFromError(st.server.stopping()))
		}
	}
}

// end ends the stream with a status, nil for a good end. The first call wins.
func (st *stream) end(err error) {
	st.once.Do(func() {
		st.err = err
		close(st.over)
	})
}

// leave is called by each of the stream's goroutines as its last act.
func (st *stream) leave() {
	if st.parts.Add(-1) == 0 {
		st.server.leaveStream(st)
	}
}

// read takes frames in until the client closes its side or the stream is over.
func (st *stream) read(helloTimer *time.Timer) {
	defer st.leave()
	frame, err := st.rpc.Recv()
	if err == nil {
		helloTimer.Stop()
		err = st.greet(frame.GetHello())
	}
	for err == nil {
		if !st.serve(frame) {
			return
		}
		frame, err = st.rpc.Recv()
	}
	if errors.Is(err, io.EOF) {
		st.box.finish() // what is in flight is still answered
		return
	}
	st.end(err) // a frame over the limit, too: gRPC has told the client already
}

// greet answers the hello, or returns the status that refuses the stream.
func (st *stream) greet(hello *kvv1.ClientHello) error {
	s := st.server
	cluster := s.opts.ClusterID()
	switch {
	case hello == nil:
		return s.fault(kverr.Invalid, "the first frame of a stream must hold a hello")
	case hello.Format != Format:
		return s.fault(kverr.Format, "the client speaks wire format %d, this node format %d; upgrade the older of the two",
			hello.Format, Format)
	case cluster == "":
		return s.fault(kverr.NotInitialized, "this node belongs to no cluster yet; run `kvctl cluster init`")
	case hello.ClusterId != "" && hello.ClusterId != cluster:
		return s.fault(kverr.WrongCluster, "this node belongs to cluster %s, not %s; check the endpoints",
			cluster, hello.ClusterId)
	}
	switch len(hello.ClientId) {
	case 0:
	case len(st.caller.client):
		st.caller.client, st.caller.named = [16]byte(hello.ClientId), true
	default:
		return s.fault(kverr.Invalid, "client_id has %d bytes; it must have 16, or none", len(hello.ClientId))
	}
	shardMap, epoch := s.newestMap()
	st.box.greet(&kvv1.ServerHello{
		Format:        Format,
		ClusterId:     cluster,
		NodeId:        string(s.opts.Self),
		NowUs:         s.opts.Clock.WallMicros(),
		MaxKeyBytes:   uint32(s.limits.MaxKeyBytes),
		MaxValueBytes: uint32(s.limits.MaxValueBytes),
		MaxFrameBytes: uint32(s.limits.MaxFrameBytes),
	}, shardMap, epoch, hello.MapEpoch, s.leaders())
	return nil
}

// serve hands one frame over, in parts when it is longer than a batch may be. It
// returns false when the stream was over before all was admitted.
func (st *stream) serve(frame *kvv1.ClientFrame) bool {
	s := st.server
	arrived := time.Now() // time left runs from here, whatever admission takes
	s.counters.frames.Add(1)
	s.counters.operations.Add(uint64(len(frame.Operations)))
	st.caller.lowestOpen = frame.LowestOpen
	for ops := frame.Operations; len(ops) > 0; {
		n := min(len(ops), s.limits.MaxOpsPerFrame)
		in := part{ops: ops[:n], caller: &st.caller, arrived: arrived, estimate: st.box.readEstimate(), sink: st}
		s.sort(st.rpc.Context(), &st.plan, in)
		if !st.pass(in) {
			return false
		}
		ops = ops[n:]
	}
	return true
}

// pass hands over what the plan holds, as there is room for it.
func (st *stream) pass(in part) bool {
	p := &st.plan
	defer p.reset()
	for {
		waits := st.box.admit(p, in)
		st.server.dispatch(p, in)
		if !waits {
			return true
		}
		if !st.awaitRoom(p.due()) {
			return false
		}
		p.expire(in)
	}
}

// awaitRoom waits until there may be room, or the time has come to refuse.
func (st *stream) awaitRoom(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-st.box.room:
	case <-timer.C:
	case <-st.over:
		return false
	}
	return true
}
