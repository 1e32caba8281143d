package kvserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cluster = "c1"

// nodeID is a valid node id that shows its number.
func nodeID(n int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("%040x", n)) }

var self = nodeID(1)

// Two data shards, split in the middle of the ring; "foo" (12182) is in the
// upper one, "bar" (5061) in the lower one.
var (
	lower = shardmap.Record{Shard: 2, Arc: shardmap.Arc{From: 0, To: 8192}, ArcEpoch: 5, MemberEpoch: 1, Replicas: replicas(10)}
	upper = shardmap.Record{Shard: 3, Arc: shardmap.Arc{From: 8192, To: 16384}, ArcEpoch: 5, MemberEpoch: 1, Replicas: replicas(20)}
)

func replicas(first shardmap.ReplicaID) []shardmap.Replica {
	var rs []shardmap.Replica
	for n := range 3 {
		rs = append(rs, shardmap.Replica{ID: first + shardmap.ReplicaID(n), Node: nodeID(n + 1), Role: shardmap.Voter})
	}
	return rs
}

func testMap(t testing.TB, epoch uint64, records ...shardmap.Record) *shardmap.Map {
	t.Helper()
	spec := shardmap.MapSpec{Epoch: epoch, ClusterID: cluster, ReplicationFactor: 3, Records: records}
	for n := range 3 {
		spec.Nodes = append(spec.Nodes, shardmap.Node{ID: nodeID(n + 1), Name: fmt.Sprintf("n%d", n+1)})
	}
	m, err := shardmap.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fakeGroup completes everything at once against a plain map, unless it is told
// to hold calls or to answer otherwise.
type fakeGroup struct {
	mu      sync.Mutex
	record  shardmap.Record
	leader  shardmap.LeaderHint
	data    map[string]raftstore.Value
	version uint64

	noPuts    error // what Admits answers
	noDeletes error

	onWrite func(*raftstore.Write) // replaces the default; runs without the lock
	onRead  func(*raftstore.Read)
	onView  func(raftstore.ReadSpec) error
	views   atomic.Int64
	log     []state.Change // of all writes
	floor   uint64
	appends chan struct{} // closed and replaced at each change
	cutOff  error         // what Confirm delivers
	onTake  func()        // before a watch takes; runs without the lock
	writes  []int         // operations per Write
	reads   []int         // keys per Read
}

func newFakeGroup(rec shardmap.Record) *fakeGroup {
	return &fakeGroup{
		record: rec,
		leader: shardmap.LeaderHint{Shard: rec.Shard, Term: 7, Node: self},
		data:   make(map[string]raftstore.Value),
	}
}

func (g *fakeGroup) Propose(w *raftstore.Write) {
	g.mu.Lock()
	g.writes = append(g.writes, len(w.Ops))
	hook := g.onWrite
	g.mu.Unlock()
	if hook != nil {
		hook(w)
		return
	}
	g.apply(w)
}

func (g *fakeGroup) apply(w *raftstore.Write) {
	g.mu.Lock()
	g.version++
	version := g.version
	results := make([]state.Result, len(w.Ops))
	for i, op := range w.Ops {
		results[i] = state.Result{Verdict: state.Applied, Version: version}
		delete(g.data, string(op.Key))
		if op.Kind == state.OpPut {
			g.data[string(op.Key)] = raftstore.Value{Found: true, Version: version, Data: append([]byte(nil), op.Value...)}
		}
	}
	g.mu.Unlock()
	w.Done(results, version, nil)
}

func (g *fakeGroup) Admits(kind state.OpKind) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if kind == state.OpDelete {
		return g.noDeletes
	}
	return g.noPuts
}

func (g *fakeGroup) Get(r *raftstore.Read) {
	g.mu.Lock()
	g.reads = append(g.reads, len(r.Keys))
	hook := g.onRead
	g.mu.Unlock()
	if hook != nil {
		hook(r)
		return
	}
	g.mu.Lock()
	values := make([]raftstore.Value, len(r.Keys))
	for i, key := range r.Keys {
		values[i] = g.data[string(key)]
	}
	version := g.version
	g.mu.Unlock()
	r.Served = raftstore.ByLeader
	if r.Level != raftstore.Linearizable {
		r.Served = raftstore.ByReplica
	}
	r.Done(values, version, nil)
}

func (g *fakeGroup) Record() shardmap.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.record
}

func (g *fakeGroup) Leader() (shardmap.LeaderHint, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leader, g.leader.Node != ""
}

// set changes the group under its lock.
func (g *fakeGroup) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// refuseAll makes the group answer everything with err.
func (g *fakeGroup) refuseAll(err error) {
	g.set(func() {
		g.onWrite = func(w *raftstore.Write) { w.Done(nil, 0, err) }
		g.onRead = func(r *raftstore.Read) { r.Done(nil, 0, err) }
	})
}

// serveAll undoes refuseAll.
func (g *fakeGroup) serveAll() { g.set(func() { g.onWrite, g.onRead = nil, nil }) }

func (g *fakeGroup) calls() (writes, reads []int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]int(nil), g.writes...), append([]int(nil), g.reads...)
}

// fakeShards is a node's view.
type fakeShards struct {
	mu     sync.Mutex
	m      *shardmap.Map
	groups map[shardmap.ShardID]*fakeGroup
}

func (f *fakeShards) Map() *shardmap.Map {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m
}

func (f *fakeShards) Group(id shardmap.ShardID) (Group, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.groups[id]
	return g, ok
}

func (f *fakeShards) LocalFor(slot shardmap.Slot) (Group, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.groups {
		if g.Record().Arc.Contains(slot) {
			return g, true
		}
	}
	return nil, false
}

// fakePeers forwards to a function.
type fakePeers func(ctx context.Context, node shardmap.NodeID, op *kvv1.Operation) (*kvv1.Answer, error)

func (f fakePeers) Forward(ctx context.Context, node shardmap.NodeID, op *kvv1.Operation) (*kvv1.Answer, error) {
	return f(ctx, node, op)
}

// env is one server over bufconn with two local groups.
type env struct {
	t            testing.TB
	opts         Options
	server       *Server
	shards       *fakeShards
	lower, upper *fakeGroup
	client       kvv1.KVClient
}

// inBubble runs a test in a synctest bubble against a server; change, if any,
// adjusts the options first.
func inBubble(t *testing.T, change func(*Options), test func(*env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, change)
		test(e)
	})
}

func newEnv(t testing.TB, change func(*Options)) *env {
	t.Helper()
	e := &env{t: t, lower: newFakeGroup(lower), upper: newFakeGroup(upper)}
	e.shards = &fakeShards{
		m:      testMap(t, 1, lower, upper),
		groups: map[shardmap.ShardID]*fakeGroup{2: e.lower, 3: e.upper},
	}
	e.opts = Options{
		ClusterID: func() string { return cluster },
		Self:      self,
		Shards:    e.shards,
		Clock:     clock.NewVirtual(),
	}
	if change != nil {
		change(&e.opts)
	}
	var err error
	if e.server, err = New(e.opts); err != nil {
		t.Fatal(err)
	}
	e.listen()
	return e
}

func (e *env) listen() {
	listener := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(e.server.Limits().MaxFrameBytes))
	kvv1.RegisterKVServer(srv, e.server)
	go srv.Serve(listener)
	conn, err := grpc.NewClient("passthrough:bufconn",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		e.t.Fatal(err)
	}
	e.client = kvv1.NewKVClient(conn)
	e.t.Cleanup(func() {
		conn.Close()
		srv.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.server.Close(ctx); err != nil {
			e.t.Errorf("close: %v", err)
		}
		if held := e.server.HeldBytes(); held != 0 {
			e.t.Errorf("%d bytes are charged to nobody at the end", held)
		}
	})
}

// conn is one client stream.
type conn struct {
	e      *env
	rpc    grpc.BidiStreamingClient[kvv1.ClientFrame, kvv1.ServerFrame]
	cancel context.CancelFunc
	first  *kvv1.ServerFrame
	frames []*kvv1.ServerFrame // all after the first
}

// dial opens a stream without saying anything.
func (e *env) dial() *conn {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e.t.Cleanup(cancel)
	rpc, err := e.client.Stream(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	return &conn{e: e, rpc: rpc, cancel: cancel}
}

// open opens a stream and exchanges hellos.
func (e *env) open() *conn {
	e.t.Helper()
	c := e.dial()
	c.send(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: Format, ClientId: []byte("0123456789abcdef")}})
	c.first = c.recv()
	if c.first.Hello == nil {
		e.t.Fatalf("the first frame has no hello: %v", c.first)
	}
	return c
}

func (c *conn) send(f *kvv1.ClientFrame) {
	c.e.t.Helper()
	if err := c.rpc.Send(f); err != nil {
		c.e.t.Fatalf("send: %v", err)
	}
}

func (c *conn) ops(ops ...*kvv1.Operation) {
	c.e.t.Helper()
	c.send(&kvv1.ClientFrame{Operations: ops})
}

func (c *conn) recv() *kvv1.ServerFrame {
	c.e.t.Helper()
	f, err := c.rpc.Recv()
	if err != nil {
		c.e.t.Fatalf("recv: %v", err)
	}
	return f
}

// answers receives until n answers have come.
func (c *conn) answers(n int) map[uint64]*kvv1.Answer {
	c.e.t.Helper()
	got := make(map[uint64]*kvv1.Answer)
	for len(got) < n {
		f := c.recv()
		c.frames = append(c.frames, f)
		for _, a := range f.Answers {
			if got[a.Id] != nil {
				c.e.t.Fatalf("operation %d was answered twice", a.Id)
			}
			got[a.Id] = a
		}
	}
	return got
}

// do sends operations and returns their answers by id.
func (c *conn) do(ops ...*kvv1.Operation) map[uint64]*kvv1.Answer {
	c.e.t.Helper()
	c.ops(ops...)
	return c.answers(len(ops))
}

// end receives until the stream ends, and returns its status.
func (c *conn) end() error {
	c.e.t.Helper()
	for {
		f, err := c.rpc.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		c.frames = append(c.frames, f)
	}
}

func get(id uint64, key string) *kvv1.Operation {
	return &kvv1.Operation{Id: id, Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: []byte(key)}
}

func put(id uint64, key, value string) *kvv1.Operation {
	return &kvv1.Operation{Id: id, Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: []byte(key), Value: []byte(value)}
}

func del(id uint64, key string) *kvv1.Operation {
	return &kvv1.Operation{Id: id, Kind: kvv1.OperationKind_OPERATION_KIND_DELETE, Key: []byte(key)}
}

// routed addresses an operation.
func routed(op *kvv1.Operation, shard, arcEpoch uint64) *kvv1.Operation {
	op.Shard, op.ArcEpoch = shard, arcEpoch
	return op
}

func kindIn(a *kvv1.Answer) kverr.Kind { return kverr.Kind(a.GetError().GetKind()) }

func wantKind(t testing.TB, a *kvv1.Answer, want kverr.Kind, message string) {
	t.Helper()
	if a == nil {
		t.Fatalf("no answer; want %v", want)
	}
	if kindIn(a) != want || !strings.Contains(a.GetError().GetMessage(), message) {
		t.Errorf("answer %d: %v %q; want %v with %q", a.Id, kindIn(a), a.GetError().GetMessage(), want, message)
	}
}
