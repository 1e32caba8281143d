package transport

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

func TestHello_Mismatch(t *testing.T) {
	good := func() *peerv1.Hello {
		return &peerv1.Hello{Format: Format, ClusterId: "c1", FromNode: "n1", ToNode: "n2", Lane: peerv1.Lane_LANE_LOG}
	}
	for _, c := range []struct {
		name string
		bend func(h *peerv1.Hello)
		code codes.Code
		kind kverr.Kind
	}{
		{"other cluster", func(h *peerv1.Hello) { h.ClusterId = "c2" }, codes.FailedPrecondition, kverr.WrongCluster},
		{"no cluster", func(h *peerv1.Hello) { h.ClusterId = "" }, codes.FailedPrecondition, kverr.WrongCluster},
		{"newer format", func(h *peerv1.Hello) { h.Format++ }, codes.Unimplemented, kverr.Format},
		{"unknown lane", func(h *peerv1.Hello) { h.Lane = 9 }, codes.Unimplemented, kverr.Format},
		{"bulk lane", func(h *peerv1.Hello) { h.Lane = peerv1.Lane_LANE_BULK }, codes.Unimplemented, kverr.Format},
		{"other node", func(h *peerv1.Hello) { h.ToNode = "n9" }, codes.Unavailable, kverr.Unavailable},
		{"nobody", func(h *peerv1.Hello) { h.FromNode = "" }, codes.InvalidArgument, kverr.Invalid},
		{"itself", func(h *peerv1.Hello) { h.FromNode = "n2" }, codes.InvalidArgument, kverr.Invalid},
		{"none", nil, codes.Unimplemented, kverr.Format},
		{"neither has a cluster", func(h *peerv1.Hello) { h.ClusterId = "" }, codes.FailedPrecondition, kverr.NotInitialized},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t, 2, nil)
				defer l.close()
				if c.kind == kverr.NotInitialized {
					l.nodes[1].cluster.Store("")
					if _, err := l.nodes[1].net.hello("n1", peerv1.Lane_LANE_LOG); kverr.KindOf(err) != c.kind {
						t.Errorf("own hello: %v", err)
					}
				}
				h := good()
				if c.bend != nil {
					c.bend(h)
				} else {
					h = nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				conn, err := l.conn("n1", "n2")
				if err != nil {
					t.Fatal(err)
				}
				stream, err := peerv1.NewPeerClient(conn).Exchange(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.Send(&peerv1.Envelope{Hello: h}); err != nil {
					t.Fatal(err)
				}
				_, err = stream.Recv()
				st := status.Convert(err)
				if st.Code() != c.code || len(st.Details()) != 1 {
					t.Fatalf("got %v", err)
				}
				if got := st.Details()[0].(*kvv1.Error).GetKind(); got != kvv1.ErrorKind(c.kind) {
					t.Errorf("kind %s, expected %s", got, c.kind)
				}
			})
		})
	}
}

// TestHello_SilentClient: a stream without a hello does not stay open.
func TestHello_SilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 2, nil)
		defer l.close()
		conn, err := l.conn("n1", "n2")
		if err != nil {
			t.Fatal(err)
		}
		stream, err := peerv1.NewPeerClient(conn).Exchange(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || time.Since(start) != openTimeout {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
	})
}

// TestHello_ClusterComesLater: a node that belongs to no cluster yet opens and
// accepts nothing, and all is well once it does.
func TestHello_ClusterComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, func(i int, x *testNode) {
			if i == 1 {
				x.cluster.Store("")
			}
		})
		defer l.close()
		go answerAll(b)
		done := make(chan error, 1)
		go func() { done <- probe(a, b) }()
		time.Sleep(2 * time.Second)
		l.nodes[1].cluster.Store("c1")
		start := time.Now()
		if err := <-done; err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}
