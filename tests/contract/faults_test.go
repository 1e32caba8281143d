package contract

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/cluster/local"
)

const (
	askPatience = 2 * time.Second  // for a question to a node, or a transfer
	upPatience  = 60 * time.Second // for a killed node to be back
)

// faults is the trouble of one run.
type faults struct {
	t       *testing.T
	cluster *local.Cluster
	lines   lines

	kills, moves atomic.Int64
	mu           struct {
		sync.Mutex
		killed chan struct{} // closed at the next kill
	}
}

// start goes on until the function that it returns is called; after that all nodes
// run.
func (f *faults) start(t *testing.T, c *local.Cluster, seed uint64) (stop func()) {
	f.t, f.cluster = t, c
	ctx, cancel := context.WithCancel(t.Context())
	var strands sync.WaitGroup
	strands.Go(func() { f.killNodes(ctx, random(seed, 1)) })
	strands.Go(func() { f.moveAndCut(ctx, random(seed, 2)) })
	return func() { cancel(); strands.Wait() }
}

// killNodes kills one node after the other and starts it again.
func (f *faults) killNodes(ctx context.Context, r *rand.Rand) {
	names, err := f.cluster.Names()
	if err != nil {
		f.t.Error(err)
		return
	}
	for pause(ctx, between(r, 200*time.Millisecond, 2*time.Second)) {
		// Begun is brought to its end, whatever ctx says: nobody else starts the node.
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), upPatience)
		err := f.cluster.Kill(whole, names[r.IntN(len(names))])
		f.count()
		pause(ctx, between(r, 0, 1500*time.Millisecond))
		if err == nil {
			_, err = f.cluster.Up(whole, config())
		}
		cancel()
		if err != nil {
			f.t.Errorf("kill and start again: %v", err)
			return
		}
	}
}

func (f *faults) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kills.Add(1)
	if f.mu.killed != nil {
		close(f.mu.killed)
	}
	f.mu.killed = nil
}

// due is how many kills must have been before a part of the load is begun: all of
// them before its last part.
func due(begun, of, kills int64) int64 { return min(kills, begun*(kills+1)/of) }

// await makes load wait for the trouble that belongs to it.
func (f *faults) await(ctx context.Context, kills int64) {
	for {
		f.mu.Lock()
		if f.mu.killed == nil {
			f.mu.killed = make(chan struct{})
		}
		killed := f.mu.killed
		f.mu.Unlock()
		if f.kills.Load() >= kills {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-killed:
		}
	}
}

// moveAndCut hands leaderships around and loses answers.
func (f *faults) moveAndCut(ctx context.Context, r *rand.Rand) {
	for pause(ctx, between(r, 50*time.Millisecond, 400*time.Millisecond)) {
		if r.IntN(3) > 0 {
			f.lines.cut(r)
		} else if f.move(ctx, r) == nil {
			f.moves.Add(1)
		}
	}
}

// move hands a leadership to another node. It fails where the nodes concerned are
// down.
func (f *faults) move(ctx context.Context, r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	endpoints, err := f.cluster.Endpoints()
	if err != nil {
		return err
	}
	var status *adminv1.ClusterStatusResponse
	if err := ask(endpoints[r.IntN(len(endpoints))], func(admin adminv1.AdminClient) (err error) {
		status, err = admin.ClusterStatus(ctx, &adminv1.ClusterStatusRequest{})
		return err
	}); err != nil {
		return err
	}
	shard := status.GetShards()[r.IntN(len(status.GetShards()))]
	for _, n := range status.GetNodes() {
		if n.GetNode().GetId() == shard.GetLeaderNode() {
			return ask(n.GetNode().GetAddress(), func(admin adminv1.AdminClient) error {
				_, err := admin.TransferLeader(ctx, &adminv1.TransferLeaderRequest{Shard: shard.GetRecord().GetShard()})
				return err
			})
		}
	}
	return errors.New("no leader")
}

func ask(address string, question func(adminv1.AdminClient) error) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	return question(adminv1.NewAdminClient(conn))
}

// lines are the connections of the run's clients.
type lines struct {
	lost atomic.Int64 // with an answer
	mu   struct {
		sync.Mutex
		open map[*line]struct{}
	}
}

// dial is for client.WithDialer.
func (l *lines) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	n := &line{Conn: conn, all: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.open == nil {
		l.mu.open = map[*line]struct{}{}
	}
	l.mu.open[n] = struct{}{}
	return n, nil
}

// cut dooms every other connection.
func (l *lines) cut(r *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.mu.open {
		if r.IntN(2) == 0 {
			n.doomed.Store(true)
		}
	}
}

// line breaks, once doomed, when the next bytes come in: what was sent has arrived,
// and what came back is lost.
type line struct {
	net.Conn
	all    *lines
	doomed atomic.Bool
}

func (n *line) Read(b []byte) (int, error) {
	got, err := n.Conn.Read(b)
	if got == 0 || !n.doomed.Load() {
		return got, err
	}
	n.all.lost.Add(1)
	if tcp, ok := n.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the node sees a reset
	}
	n.Close()
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: errors.Join(syscall.ECONNRESET, io.ErrUnexpectedEOF)}
}

func (n *line) Close() error {
	n.all.mu.Lock()
	delete(n.all.mu.open, n)
	n.all.mu.Unlock()
	return n.Conn.Close()
}
