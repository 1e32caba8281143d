package peers

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/node/doorway"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func node(id, address string) shardmap.Node {
	return shardmap.Node{ID: shardmap.NodeID(id), Address: address}
}

func TestBookTrustsGossipThenMapThenPlan(t *testing.T) {
	var b Book
	want := func(address string) {
		t.Helper()
		if n, _ := b.Find("a"); n.Address != address {
			t.Fatalf("found %q, want %q", n.Address, address)
		}
	}
	want("")
	b.Set(Plan, []shardmap.Node{node("a", "plan")})
	want("plan")
	b.Set(Gossip, []shardmap.Node{node("a", "gossip"), node("b", "")})
	b.Set(Map, []shardmap.Node{node("a", "map")})
	want("gossip")
	if _, ok := b.Find("b"); ok {
		t.Fatal("found a node without an address")
	}
	b.Set(Gossip, nil)
	want("map")
}

// network is addresses with servers behind them.
type network struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	dials     int
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.dials++
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	return l.DialContext(ctx)
}

// serve answers health checks at address for peers that knock.
func (n *network) serve(t *testing.T, address string) {
	l := bufconn.Listen(64 << 10)
	n.mu.Lock()
	n.listeners[address] = l
	n.mu.Unlock()
	door := doorway.Open(l, doorway.Limits{MaxClients: 10, MaxPeers: 10})
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(door.Peers())
	}()
	t.Cleanup(func() {
		server.Stop()
		if err := door.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}

func check(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}

func TestPoolKeepsOneConnectionPerNodeAndFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{listeners: make(map[string]*bufconn.Listener)}
		net.serve(t, "first:1")
		net.serve(t, "second:1")
		book := new(Book)
		pool := NewPool(Options{Book: book, Dial: net.dial, Extra: transport.DialOptions()})
		defer pool.Close()

		if _, err := pool.Conn(t.Context(), "a"); !errors.Is(err, kverr.Unavailable) {
			t.Fatalf("unknown address: %v", err)
		}
		book.Set(Gossip, []shardmap.Node{node("a", "first:1")})
		first, err := pool.Ready(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if again, err := pool.Conn(t.Context(), "a"); again != first || err != nil {
			t.Fatalf("another connection, %v", err)
		}
		book.Set(Gossip, []shardmap.Node{node("a", "second:1")})
		moved, err := pool.Ready(t.Context(), "a")
		if err != nil || moved == first {
			t.Fatalf("the old connection, %v", err)
		}
		if err := check(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		if net.dials != 2 {
			t.Fatalf("dialled %d times", net.dials)
		}
		seed, err := pool.Once("first:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(check(t.Context(), seed), seed.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReadyFailsFastAndWithinTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{listeners: make(map[string]*bufconn.Listener)}
		book := new(Book)
		pool := NewPool(Options{Book: book, Dial: net.dial, Extra: transport.DialOptions()})
		book.Set(Gossip, []shardmap.Node{node("a", "nobody:1"), node("b", "hangs:1")})
		began := time.Now()
		if _, err := pool.Ready(t.Context(), "a"); !errors.Is(err, kverr.Unavailable) || time.Since(began) > time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		hanging := bufconn.Listen(1) // accepts nothing
		net.listeners["hangs:1"] = hanging
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := pool.Ready(ctx, "b"); !errors.Is(err, kverr.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		pool.Close()
		if err := hanging.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Ready(t.Context(), "a"); !errors.Is(err, kverr.Closed) {
			t.Fatalf("after Close: %v", err)
		}
	})
}

// A node that was away a moment ago is there again.
func TestFreshDoesNotRestAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := &network{listeners: make(map[string]*bufconn.Listener)}
		book := new(Book)
		pool := NewPool(Options{Book: book, Dial: net.dial, Extra: transport.DialOptions()})
		defer pool.Close()
		book.Set(Gossip, []shardmap.Node{node("a", "away:1")})
		for range 2 {
			if _, _, err := pool.Fresh(t.Context(), "a"); !errors.Is(err, kverr.Unavailable) {
				t.Fatalf("nobody is there: %v", err)
			}
		}
		net.serve(t, "away:1")
		if _, err := pool.Ready(t.Context(), "a"); !errors.Is(err, kverr.Unavailable) {
			t.Fatalf("the connection did not rest, so this test shows nothing: %v", err)
		}
		conn, release, err := pool.Fresh(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		release()
		// The shared connection is no longer at rest either.
		synctest.Wait()
		if _, err := pool.Ready(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	})
}
