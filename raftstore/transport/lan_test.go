package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testGroup = 7

// lan is a few nodes in one process, connected by in-memory connections. All of
// it works in a synctest bubble.
type lan struct {
	t     testing.TB
	nodes []*testNode

	mu    sync.Mutex
	conns map[[2]shardmap.NodeID]*grpc.ClientConn
}

type testNode struct {
	lan     *lan
	id      shardmap.NodeID
	cluster atomic.Value // string
	opts    Options
	net     *Network
	wrap    func(net.Conn) net.Conn // of connections to this node, may be nil

	mu     sync.Mutex
	lis    *bufconn.Listener
	server *grpc.Server
}

type peerServer struct {
	peerv1.UnimplementedPeerServer
	serve     func(peerv1.Peer_ExchangeServer) error
	snapshots func(peerv1.Peer_SendSnapshotServer) error
}

func (s *peerServer) Exchange(stream peerv1.Peer_ExchangeServer) error { return s.serve(stream) }

func (s *peerServer) SendSnapshot(stream peerv1.Peer_SendSnapshotServer) error {
	return s.snapshots(stream)
}

func nodeName(i int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("n%d", i+1)) }

// newLAN starts n nodes of one cluster. change may alter a node before it starts.
func newLAN(t testing.TB, n int, change func(i int, x *testNode)) *lan {
	l := &lan{t: t, conns: make(map[[2]shardmap.NodeID]*grpc.ClientConn)}
	for i := range n {
		x := &testNode{lan: l, id: nodeName(i)}
		x.cluster.Store("c1")
		x.opts = Options{
			Self:      x.id,
			ClusterID: func() string { return x.cluster.Load().(string) },
			Dial:      func(_ context.Context, to shardmap.NodeID) (*grpc.ClientConn, error) { return l.conn(x.id, to) },
		}
		if change != nil {
			change(i, x)
		}
		l.nodes = append(l.nodes, x)
		x.start()
	}
	return l
}

func (l *lan) node(id shardmap.NodeID) *testNode {
	for _, x := range l.nodes {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (l *lan) conn(from, to shardmap.NodeID) (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.conns[[2]shardmap.NodeID{from, to}]; c != nil {
		return c, nil
	}
	target := l.node(to)
	if target == nil {
		return nil, fmt.Errorf("no address of node %s", to)
	}
	opts := append(DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return target.dial(ctx) }))
	c, err := grpc.NewClient("passthrough:///"+string(to), opts...)
	if err == nil {
		l.conns[[2]shardmap.NodeID{from, to}] = c
	}
	return c, err
}

func (l *lan) close() {
	for _, x := range l.nodes {
		x.net.Close()
	}
	for _, c := range l.conns {
		_ = c.Close()
	}
	for _, x := range l.nodes {
		x.stopServer()
	}
}

func (x *testNode) start() {
	x.net = New(x.opts)
	x.startServer()
}

func (x *testNode) startServer() { x.startServerWith(x.net.Serve) }

func (x *testNode) startServerWith(serve func(peerv1.Peer_ExchangeServer) error) {
	lis := bufconn.Listen(256 << 10)
	server := grpc.NewServer(ServerOptions()...)
	peerv1.RegisterPeerServer(server, &peerServer{serve: serve, snapshots: x.net.ServeSnapshot})
	go func() { _ = server.Serve(lis) }()
	x.mu.Lock()
	x.lis, x.server = lis, server
	x.mu.Unlock()
}

// stopServer makes the node unreachable; its own streams to others live on.
func (x *testNode) stopServer() {
	x.mu.Lock()
	server := x.server
	x.lis, x.server = nil, nil
	x.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

func (x *testNode) dial(ctx context.Context) (net.Conn, error) {
	x.mu.Lock()
	lis := x.lis
	x.mu.Unlock()
	if lis == nil {
		return nil, errors.New("connection refused")
	}
	c, err := lis.DialContext(ctx)
	if err == nil && x.wrap != nil {
		c = x.wrap(c)
	}
	return c, err
}

// group registers a replica; its id is the node's number.
func (x *testNode) group(id uint64) *Group {
	x.lan.t.Helper()
	g, err := x.net.Group(id, x.replica())
	if err != nil {
		x.lan.t.Fatalf("group %d on %s: %v", id, x.id, err)
	}
	return g
}

func (x *testNode) replica() shardmap.ReplicaID {
	var n uint64
	_, _ = fmt.Sscanf(string(x.id), "n%d", &n)
	return shardmap.ReplicaID(100 + n)
}

func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for waited := time.Duration(0); !ok(); waited += 5 * time.Millisecond {
		if waited > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
