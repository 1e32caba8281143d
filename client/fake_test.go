package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	opGet    = kvv1.OperationKind_OPERATION_KIND_GET
	opPut    = kvv1.OperationKind_OPERATION_KIND_PUT
	opDelete = kvv1.OperationKind_OPERATION_KIND_DELETE
	opAdd    = kvv1.OperationKind_OPERATION_KIND_ADD
	opExpire = kvv1.OperationKind_OPERATION_KIND_EXPIRE
	opTxn    = kvv1.OperationKind_OPERATION_KIND_TXN
)

// world is an in-memory network of scripted nodes, for use in one bubble.
type world struct {
	t     *testing.T
	nodes []*fakeNode // n1 is nodes[0]

	mu *sync.Mutex
	m  *shardmap.Map
}

// fakeNode speaks the wire contract and leaves every decision to its script.
type fakeNode struct {
	world *world
	id    shardmap.NodeID
	addr  string

	mu       sync.Mutex
	server   *grpc.Server // nil while down
	lis      *bufconn.Listener
	hole     bool          // connections to it hang
	frozen   chan struct{} // closed when it goes on; nil while it runs
	sessions map[*fakeSession]bool
	frames   []*kvv1.ClientFrame // received, hellos too

	// first makes the first frame; nil: a plain hello with the world's map.
	first func() *kvv1.ServerFrame
	// serve is called for each operation; nil means no answer (yet).
	serve func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer
	// scan and watch serve the streams of their own; nil: there are none.
	scan  func(n *fakeNode, r *kvv1.ScanRequest, st grpc.ServerStreamingServer[kvv1.ScanPage]) error
	watch func(n *fakeNode, r *kvv1.WatchRequest, st grpc.ServerStreamingServer[kvv1.WatchFrame]) error
}

// fakeSession is one stream as the node sees it.
type fakeSession struct {
	node  *fakeNode
	hello *kvv1.ClientHello
	frame *kvv1.ClientFrame // being served; for scripts
	mu    sync.Mutex
	st    grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]
	end   chan error
}

// newWorld starts n nodes; every one holds a replica of shard 2, which owns all
// slots, and answers success.
func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, mu: new(sync.Mutex)}
	for i := 1; i <= n; i++ {
		node := &fakeNode{world: w, id: nodeID(i), addr: fmt.Sprintf("n%d:7400", i)}
		node.serve = func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return success(op) }
		w.nodes = append(w.nodes, node)
		node.up()
	}
	w.setMap(1, w.record(2, 0, shardmap.Slots, 1))
	t.Cleanup(func() {
		for _, node := range w.nodes {
			node.thaw()
			node.down()
		}
	})
	return w
}

// record makes a record with a replica on every node.
func (w *world) record(shard shardmap.ShardID, from, to shardmap.Slot, epoch uint64) shardmap.Record {
	rec := shardmap.Record{Shard: shard, Arc: shardmap.Arc{From: from, To: to}, ArcEpoch: epoch, MemberEpoch: 1}
	for i, node := range w.nodes {
		id := shardmap.ReplicaID(uint64(shard)*100 + uint64(i) + 1)
		rec.Replicas = append(rec.Replicas, shardmap.Replica{ID: id, Node: node.id, Role: shardmap.Voter})
	}
	return rec
}

func (w *world) setMap(epoch uint64, records ...shardmap.Record) {
	spec := shardmap.MapSpec{Epoch: epoch, ClusterID: "test", ReplicationFactor: len(w.nodes), Records: records}
	for _, node := range w.nodes {
		spec.Nodes = append(spec.Nodes, shardmap.Node{ID: node.id, Address: node.addr})
	}
	m, err := shardmap.NewMap(spec)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.m = m
}

func (w *world) theMap() *shardmap.Map {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.m
}

func (w *world) dial(ctx context.Context, address string) (net.Conn, error) {
	for _, node := range w.nodes {
		node.mu.Lock()
		lis, hole, here := node.lis, node.hole, node.addr == address
		node.mu.Unlock()
		if !here {
			continue
		}
		if hole {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if lis == nil {
			return nil, errors.New("connection refused")
		}
		return lis.DialContext(ctx)
	}
	return nil, fmt.Errorf("no such host %q", address)
}

// open opens a client of n1, or of the target given by an option's caller.
func (w *world) open(target string, opts ...Option) *Client {
	w.t.Helper()
	c, err := Open(context.Background(), target, append([]Option{WithDialer(w.dial), WithClock(clock.NewVirtual())}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (n *fakeNode) up(opts ...grpc.ServerOption) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lis = bufconn.Listen(1 << 20)
	n.server = grpc.NewServer(append(opts,
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2}))...)
	n.sessions = make(map[*fakeSession]bool)
	kvv1.RegisterKVServer(n.server, &fakeService{node: n})
	go func(s *grpc.Server, l net.Listener) { _ = s.Serve(l) }(n.server, n.lis)
}

// move gives the node, which must be down, another address.
func (n *fakeNode) move(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = addr
}

// down breaks all connections and refuses new ones.
func (n *fakeNode) down() {
	n.mu.Lock()
	server := n.server
	n.server, n.lis = nil, nil
	n.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

// setHole makes connecting to the node hang.
func (n *fakeNode) setHole() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hole = true
}

// freeze makes the node read and answer nothing more, as SIGSTOP does.
func (n *fakeNode) freeze() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen == nil {
		n.frozen = make(chan struct{})
	}
}

func (n *fakeNode) thaw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen != nil {
		close(n.frozen)
		n.frozen = nil
	}
}

func (n *fakeNode) waitThawed() {
	n.mu.Lock()
	frozen := n.frozen
	n.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

// script replaces what the node does with operations.
func (n *fakeNode) script(serve func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serve = serve
}

// operations returns what the node has received.
func (n *fakeNode) operations() (ops []*kvv1.Operation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.frames {
		ops = append(ops, f.GetOperations()...)
	}
	return ops
}

func (n *fakeNode) received() []*kvv1.ClientFrame {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*kvv1.ClientFrame(nil), n.frames...)
}

// push sends an unasked frame on every stream of the node.
func (n *fakeNode) push(f *kvv1.ServerFrame) {
	n.mu.Lock()
	var all []*fakeSession
	for s := range n.sessions {
		all = append(all, s)
	}
	n.mu.Unlock()
	for _, s := range all {
		s.send(f)
	}
}

// helloFrame is what a sound node says first.
func (n *fakeNode) helloFrame() *kvv1.ServerFrame {
	return &kvv1.ServerFrame{Map: wire.MapToProto(n.world.theMap()), Hello: &kvv1.ServerHello{
		Format: wireFormat, ClusterId: "test", NodeId: string(n.id), NowUs: uint64(time.Now().UnixMicro()),
	}}
}

type fakeService struct {
	kvv1.UnimplementedKVServer
	node *fakeNode
}

func (f *fakeService) Stream(st grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]) error {
	n := f.node
	n.waitThawed()
	opening, err := st.Recv()
	if err != nil {
		return err
	}
	s := &fakeSession{node: n, hello: opening.GetHello(), st: st, end: make(chan error, 1)}
	first := n.helloFrame()
	if n.first != nil {
		first = n.first()
	}
	s.send(first)
	n.mu.Lock()
	n.sessions[s] = true
	n.frames = append(n.frames, opening)
	n.mu.Unlock()
	go s.read()
	err = <-s.end
	n.mu.Lock()
	delete(n.sessions, s)
	n.mu.Unlock()
	return err
}

func (f *fakeService) Scan(r *kvv1.ScanRequest, st grpc.ServerStreamingServer[kvv1.ScanPage]) error {
	f.node.waitThawed()
	if f.node.scan == nil {
		return f.UnimplementedKVServer.Scan(r, st)
	}
	return f.node.scan(f.node, r, st)
}

func (f *fakeService) Watch(r *kvv1.WatchRequest, st grpc.ServerStreamingServer[kvv1.WatchFrame]) error {
	f.node.waitThawed()
	if f.node.watch == nil {
		return f.UnimplementedKVServer.Watch(r, st)
	}
	return f.node.watch(f.node, r, st)
}

func (s *fakeSession) read() {
	for {
		frame, err := s.st.Recv()
		if err != nil {
			s.finish(err)
			return
		}
		s.node.waitThawed()
		s.node.mu.Lock()
		s.node.frames = append(s.node.frames, frame)
		serve := s.node.serve
		s.node.mu.Unlock()
		s.frame = frame
		out := &kvv1.ServerFrame{}
		for _, op := range frame.GetOperations() {
			if a := serve(s, op); a != nil {
				out.Answers = append(out.Answers, a)
			}
		}
		if len(out.GetAnswers()) > 0 {
			s.send(out)
		}
	}
}

// finish ends the stream.
func (s *fakeSession) finish(err error) {
	select {
	case s.end <- err:
	default:
	}
}

func (s *fakeSession) send(f *kvv1.ServerFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.st.Send(f)
}

func success(op *kvv1.Operation) *kvv1.Answer {
	return &kvv1.Answer{Id: op.GetId(), Found: true, Value: []byte("v:" + string(op.GetKey())), Version: 7, ShardVersion: 7}
}

func refusal(op *kvv1.Operation, kind kvv1.ErrorKind) *kvv1.Answer {
	return &kvv1.Answer{Id: op.GetId(), Error: &kvv1.Error{Kind: kind, Message: kind.String(), Shard: 2}}
}

// notLeader refuses with a hint, or without one when leader is nil.
func notLeader(op *kvv1.Operation, term uint64, leader *fakeNode) *kvv1.Answer {
	a := refusal(op, kvv1.ErrorKind_ERROR_KIND_NOT_LEADER)
	if leader != nil {
		a.Leader = &kvv1.LeaderHint{Shard: 2, Term: term, NodeId: string(leader.id)}
	}
	return a
}

// always makes a script that gives every operation the same refusal.
func always(kind kvv1.ErrorKind) func(*fakeSession, *kvv1.Operation) *kvv1.Answer {
	return func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return refusal(op, kind) }
}

// silent is the script of a node that never answers.
func silent(*fakeSession, *kvv1.Operation) *kvv1.Answer { return nil }

// bubble runs a test with virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
