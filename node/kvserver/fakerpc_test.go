package kvserver

import (
	"context"
	"io"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// fakeRPC is a Stream call without a network: Recv takes from in, Send calls
// out, and both end with the handler, as gRPC's do.
type fakeRPC struct {
	grpc.ServerStream
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *kvv1.ClientFrame
	out    func(*kvv1.ServerFrame) error
	ended  chan error
}

// serveFake starts a stream on s and says hello.
func serveFake(s *Server, out func(*kvv1.ServerFrame) error) *fakeRPC {
	f := &fakeRPC{in: make(chan *kvv1.ClientFrame), out: out, ended: make(chan error, 1)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	go func() {
		err := s.Stream(f)
		f.cancel()
		f.ended <- err
	}()
	f.in <- &kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: Format, ClientId: []byte("0123456789abcdef")}}
	return f
}

func (f *fakeRPC) Context() context.Context { return f.ctx }

func (f *fakeRPC) Recv() (*kvv1.ClientFrame, error) {
	select {
	case frame, ok := <-f.in:
		if !ok {
			return nil, io.EOF
		}
		return frame, nil
	case <-f.ctx.Done():
		return nil, f.ctx.Err()
	}
}

func (f *fakeRPC) Send(frame *kvv1.ServerFrame) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	return f.out(frame)
}
