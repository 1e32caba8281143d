package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// testCluster is stores on in-memory disks, joined by in-memory connections.
// It lives in one synctest bubble.
type testCluster struct {
	t     *testing.T
	nodes map[shardmap.NodeID]*testNode
	mu    sync.Mutex
	cut   map[shardmap.NodeID]bool // neither sends nor is sent to
	deaf  map[shardmap.NodeID]bool // as cut, but for confirm rounds
	drop  func(from, to shardmap.NodeID, m *peerv1.Message) bool
	slow  time.Duration // what every message takes
	mute  bool          // confirm rounds get lost
	seen  func(from, to shardmap.NodeID, m *peerv1.Message)
}

type testNode struct {
	cluster     *testCluster
	id          shardmap.NodeID
	fs          *vfs.MemFS
	wall        time.Duration // added to the wall clock
	store       *Store
	network     *transport.Network
	server      *grpc.Server
	conns       map[shardmap.NodeID]*grpc.ClientConn
	lis         *bufconn.Listener
	nonce       uint64
	fail        *failpoint.Set
	opts        func(*Options)
	lastOptions Options
	sync, apply hang // of the disk, where it is asked for
	mayDie      bool // Fatal is what the test wants
	died        chan error
}

func nodeID(i int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("%040x", i)) }

func newTestCluster(t *testing.T, n int) *testCluster {
	c := &testCluster{t: t, nodes: make(map[shardmap.NodeID]*testNode), cut: make(map[shardmap.NodeID]bool),
		deaf: make(map[shardmap.NodeID]bool)}
	for i := 1; i <= n; i++ {
		c.nodes[nodeID(i)] = &testNode{cluster: c, id: nodeID(i), fs: vfs.NewCrashableMem(), fail: new(failpoint.Set), died: make(chan error, 1)}
	}
	for _, node := range c.nodes {
		node.lis = bufconn.Listen(1 << 20)
	}
	for _, node := range c.nodes {
		node.start()
	}
	t.Cleanup(c.stop)
	return c
}

func (c *testCluster) stop() {
	for _, n := range c.nodes {
		n.stop()
	}
}

func (c *testCluster) lost(a, b shardmap.NodeID, m *peerv1.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drop != nil && c.drop(a, b, m) {
		return true
	}
	isRead := m.GetConfirm() != nil || m.GetConfirmResult() != nil
	return isRead && c.mute || c.cut[a] || c.cut[b] || !isRead && (c.deaf[a] || c.deaf[b])
}

func (c *testCluster) deafen(id shardmap.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaf[id] = true
}

// slowDown makes every message take some time: in a bubble what is on its way is
// otherwise never there to be disturbed.
func (c *testCluster) slowDown(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow = by
}

func (c *testCluster) slowness() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slow
}

// lose sets which messages are lost, beside those of nodes that are cut off.
func (c *testCluster) lose(drop func(from, to shardmap.NodeID, m *peerv1.Message) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop = drop
}

func (c *testCluster) isolate(id shardmap.NodeID, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[id] = cut
}

// shiftedClock is the bubble's clock with a wall clock that is wrong.
type shiftedClock struct {
	*clock.System
	node *testNode
}

func (s shiftedClock) WallMicros() uint64 {
	return s.System.WallMicros() + uint64(s.node.wall/time.Microsecond)
}

type peerService struct {
	peerv1.UnimplementedPeerServer
	network *transport.Network
	node    *testNode
}

func (p peerService) Exchange(s peerv1.Peer_ExchangeServer) error { return p.network.Serve(s) }

func (p peerService) SendSnapshot(s peerv1.Peer_SendSnapshotServer) error {
	return p.network.ServeSnapshot(cutStream{s, p.node})
}

// cutStream breaks when its receiving node is cut off.
type cutStream struct {
	peerv1.Peer_SendSnapshotServer
	node *testNode
}

func (s cutStream) Recv() (*peerv1.SnapshotChunk, error) {
	m, err := s.Peer_SendSnapshotServer.Recv()
	if err == nil && s.node.isCut() {
		return nil, status.Error(codes.Unavailable, "cut off")
	}
	return m, err
}

func (s cutStream) Send(m *peerv1.SnapshotAnswer) error {
	if s.node.isCut() {
		return status.Error(codes.Unavailable, "cut off")
	}
	return s.Peer_SendSnapshotServer.Send(m)
}

func (n *testNode) isCut() bool {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.cluster.cut[n.id]
}

func (n *testNode) start() {
	if err := n.tryStart(); err != nil {
		n.cluster.t.Fatalf("open store: %v", err)
	}
}

// tryStart is start without the claim that the store opens.
func (n *testNode) tryStart() error {
	c := n.cluster
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", n.id[38:])
	}
	n.conns = make(map[shardmap.NodeID]*grpc.ClientConn)
	for id, peer := range c.nodes {
		conn, err := grpc.NewClient("passthrough:///"+string(id), append(transport.DialOptions(),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return peer.listener().DialContext(ctx)
			}))...)
		if err != nil {
			c.t.Fatal(err)
		}
		n.conns[id] = conn
	}
	n.network = transport.New(transport.Options{
		Self: n.id, ClusterID: func() string { return "test" }, Logger: logger, HeartbeatTimeout: time.Second,
		Dial: func(_ context.Context, to shardmap.NodeID) (*grpc.ClientConn, error) { return n.conns[to], nil },
		Tamper: func(to shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
			if c.lost(n.id, to, m) {
				return
			}
			c.mu.Lock()
			seen := c.seen
			c.mu.Unlock()
			if seen != nil {
				seen(n.id, to, m)
			}
			if slow := c.slowness(); slow > 0 {
				time.AfterFunc(slow, func() { send(m) })
				return
			}
			send(m)
		},
	})
	n.nonce++
	opts := Options{
		Dir: "data", FS: n.fs, Self: n.id, Clock: shiftedClock{clock.NewVirtual(), n}, Nonce: n.nonce,
		Logger: logger, Network: n.network, MemTableBytes: 1 << 20, CacheBytes: 8 << 20,
		Failpoints: n.fail,
		BeforeSync: n.sync.wait, BeforeApply: func(shardmap.ShardID) { n.apply.wait() },
		Fatal: func(err error) {
			if !n.mayDie {
				c.t.Errorf("node %s: fatal: %v", n.id, err)
			}
			select {
			case n.died <- err:
			default:
			}
		},
	}
	if n.opts != nil {
		n.opts(&opts)
	}
	n.lastOptions = opts
	store, err := Open(opts)
	if err != nil {
		n.network.Close()
		for _, conn := range n.conns {
			conn.Close()
		}
		return err
	}
	n.store = store
	n.server = grpc.NewServer(transport.ServerOptions()...)
	peerv1.RegisterPeerServer(n.server, peerService{network: n.network, node: n})
	go n.server.Serve(n.listener())
	return nil
}

func (n *testNode) stop() {
	if n.store == nil {
		return
	}
	n.sync.end()
	n.apply.end()
	if err := n.store.Stop(context.Background()); err != nil && !n.store.dead.Load() {
		n.cluster.t.Errorf("stop node %s: %v", n.id, err)
	}
	n.network.Close()
	for _, conn := range n.conns {
		conn.Close()
	}
	n.server.Stop()
	n.store = nil
}

// crash stops the node and gives it back the disk as a power cut would leave it.
func (n *testNode) crash() {
	clone := n.fs.CrashClone(vfs.CrashCloneCfg{})
	n.stop()
	n.fs = clone
	n.listen()
}

// listen makes a node that is not running reachable; until it starts, those who
// dial it wait. A node that was only stopped refuses them.
func (n *testNode) listen() {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	n.lis = bufconn.Listen(1 << 20)
}

func (n *testNode) listener() *bufconn.Listener {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	return n.lis
}

// powerCut is a crash that a failpoint will cause.
type powerCut struct {
	node *testNode
	mu   sync.Mutex
	left *vfs.MemFS // what is left of the disk; nil before it struck
}

// cutPowerAt fences the node when it first comes to a failpoint, and keeps what the
// disk then held for sure, with a share of what it did not.
func (n *testNode) cutPowerAt(at failpoint.Name, unsyncedPercent int, seed uint64) *powerCut {
	p := &powerCut{node: n}
	n.fail.Hook(func(got failpoint.Name) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if got != at || p.left != nil {
			return
		}
		n.cluster.isolate(n.id, true)
		p.left = n.fs.CrashClone(vfs.CrashCloneCfg{
			UnsyncedDataPercent: unsyncedPercent, RNG: rand.New(rand.NewPCG(seed, 1)),
		})
	})
	return p
}

func (p *powerCut) struck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left != nil
}

// restart stops what has become of the node and starts it on what was left.
func (p *powerCut) restart() {
	n := p.node
	n.fail.Hook(nil)
	n.stop()
	n.fs = p.left
	n.listen()
	n.cluster.isolate(n.id, false)
	n.start()
}

// await lets virtual time pass until a condition holds.
func (c *testCluster) await(what string, limit time.Duration, holds func() bool) {
	c.t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// agree waits until all running replicas of a shard have the same state.
func (c *testCluster) agree(shard shardmap.ShardID) {
	c.t.Helper()
	c.await(fmt.Sprintf("shard %d: replicas agree", shard), time.Minute, func() bool {
		seen := make(map[[2]uint64]bool)
		for _, n := range c.nodes {
			g, ok := n.store.Group(shard)
			if !ok {
				return false
			}
			index, hash, err := g.Hash()
			if err != nil {
				return false
			}
			seen[[2]uint64{index, hash}] = true
		}
		return len(seen) == 1
	})
}

func record(shard shardmap.ShardID, arc shardmap.Arc, nodes ...int) shardmap.Record {
	rec := shardmap.Record{Shard: shard, Arc: arc, ArcEpoch: 1, MemberEpoch: 1}
	for i, n := range nodes {
		rec.Replicas = append(rec.Replicas, shardmap.Replica{
			ID: shardmap.ReplicaID(uint64(shard)*100 + uint64(i)), Node: nodeID(n), Role: shardmap.Voter,
		})
	}
	return rec
}

func (c *testCluster) create(records ...shardmap.Record) {
	for _, n := range c.nodes {
		if err := n.store.Create(context.Background(), records); err != nil {
			c.t.Fatalf("create on %s: %v", n.id, err)
		}
	}
}

// leader waits, in virtual time, for a ready leader of the shard.
func (c *testCluster) leader(shard shardmap.ShardID, except ...shardmap.NodeID) *Group {
	c.t.Helper()
	for range 20000 {
		for id, n := range c.nodes {
			if n.store == nil || len(except) > 0 && id == except[0] {
				continue
			}
			if g, ok := n.store.Group(shard); ok && g.Status().Ready {
				return g
			}
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("shard %d: no ready leader within 20 s", shard)
	return nil
}

func put(g *Group, key, value string) (state.Result, error) {
	type answer struct {
		results []state.Result
		err     error
	}
	ch := make(chan answer, 1)
	g.Propose(&Write{
		Ops:      []state.Op{{Kind: state.OpPut, Key: []byte(key), Value: []byte(value)}},
		Deadline: time.Now().Add(5 * time.Second),
		Done:     func(r []state.Result, _ uint64, err error) { ch <- answer{r, err} },
	})
	a := <-ch
	if a.err != nil {
		return state.Result{}, a.err
	}
	return a.results[0], nil
}

func get(g *Group, key string) (Value, error) {
	type answer struct {
		value Value
		err   error
	}
	ch := make(chan answer, 1)
	g.Get(&Read{Keys: [][]byte{[]byte(key)}, Deadline: time.Now().Add(5 * time.Second),
		Done: func(v []Value, _ uint64, err error) {
			if err != nil {
				ch <- answer{err: err}
				return
			}
			ch <- answer{value: v[0]}
		}})
	a := <-ch
	return a.value, a.err
}

func mustPut(t *testing.T, g *Group, key, value string) uint64 {
	t.Helper()
	r, err := put(g, key, value)
	if err != nil || r.Verdict != state.Applied {
		t.Fatalf("put %s=%s: %v, %v", key, value, r.Verdict, err)
	}
	return r.Version
}

func mustGet(t *testing.T, g *Group, key, want string) {
	t.Helper()
	v, err := get(g, key)
	if err != nil || !v.Found || string(v.Data) != want {
		t.Fatalf("get %s = %q (found %t), %v; want %q", key, v.Data, v.Found, err, want)
	}
}

// keyIn is some key of an arc.
func keyIn(arc shardmap.Arc) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key", i); arc.Contains(shardmap.SlotOf([]byte(key))) {
			return key
		}
	}
}

var wholeRing = shardmap.Arc{From: 0, To: shardmap.Slots}

func TestStoreWritesAndReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		start := time.Now()
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		if took := time.Since(start); took > 900*time.Millisecond {
			t.Errorf("a newborn shard waited %v for its leader; its first replica should have campaigned at once", took)
		}
		if g.store.opts.Self != nodeID(1) {
			t.Errorf("node %s leads; placement wanted the first replica's", g.store.opts.Self.Short())
		}
		v1 := mustPut(t, g, "a", "1")
		v2 := mustPut(t, g, "a", "2")
		if v2 <= v1 {
			t.Errorf("versions %d, %d do not rise", v1, v2)
		}
		mustGet(t, g, "a", "2")
		if v, err := get(g, "missing"); err != nil || v.Found {
			t.Errorf("missing key: %+v, %v", v, err)
		}
	})
}

func TestStoreSurvivesPowerCutOfAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		for i := range 50 {
			mustPut(t, g, fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
		for _, n := range c.nodes {
			n.crash()
		}
		for _, n := range c.nodes {
			n.start()
		}
		g = c.leader(2)
		for i := range 50 {
			mustGet(t, g, fmt.Sprint("k", i), fmt.Sprint("v", i))
		}
	})
}

func TestStoreRefusesWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		for id := range c.nodes {
			c.isolate(id, true)
		}
		start := time.Now()
		_, err := put(g, "a", "2")
		if kverr.KindOf(err) != kverr.OutcomeUnknown {
			t.Errorf("a write proposed without a quorum: %v; want outcome unknown", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("its caller waited %v", took)
		}
		time.Sleep(3 * time.Second)
		start = time.Now()
		_, err = put(g, "a", "3")
		if !errors.Is(err, kverr.Unavailable) {
			t.Errorf("later write: %v; want unavailable", err)
		}
		t.Log(err)
		if took := time.Since(start); took > 0 {
			t.Errorf("a shard without quorum kept its caller for %v", took)
		}
		for id := range c.nodes {
			c.isolate(id, false)
		}
		mustPut(t, c.leader(2), "a", "4")
	})
}

// A deposed leader must not answer a read from before its successor's writes,
// however long its own lease lasts (S4 is why VerifyLeader is not used).
func TestR3_IsolatedLeaderServesNoStaleRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		old := c.leader(2)
		mustPut(t, old, "a", "1")
		self := old.store.opts.Self
		c.isolate(self, true)
		done := make(chan struct{})
		go func() {
			defer close(done)
			next := c.leader(2, self)
			mustPut(t, next, "a", "2")
		}()
		// Readers at the old leader all through the change of leaders.
		for range 400 {
			select {
			case <-done:
				if v, err := get(old, "a"); err == nil && string(v.Data) == "1" {
					t.Fatal("the old leader served the old value after the new one was acknowledged")
				}
			default:
				ch := make(chan struct{})
				old.Get(&Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(10 * time.Millisecond),
					Done: func(_ []Value, _ uint64, err error) {
						if err == nil {
							t.Error("an isolated leader served a read")
						}
						close(ch)
					}})
				<-ch
				time.Sleep(10 * time.Millisecond)
			}
		}
		<-done
		c.isolate(self, false)
		mustGet(t, c.leader(2), "a", "2")
	})
}

// A leader cut off from everything but its confirm rounds learns of no later
// term by itself. VerifyLeader would count old acks here; ours asks for the term.
func TestS4_ADeposedLeaderThatCanStillAskServesNoStaleRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		for _, n := range c.nodes { // a paused or slow-clocked leader: its lease outlasts the others' patience
			if n.id != nodeID(1) {
				continue
			}
			n.stop()
			n.opts = func(o *Options) { o.ElectionTimeout = 30 * time.Second }
			n.start()
		}
		c.create(record(2, wholeRing, 1, 2, 3))
		old := c.leader(2)
		if old.store.opts.Self != nodeID(1) {
			t.Fatal("the test needs node 1 to lead")
		}
		mustPut(t, old, "a", "1")
		c.deafen(nodeID(1))
		mustPut(t, c.leader(2, nodeID(1)), "a", "2")
		if !old.Status().Ready {
			t.Fatal("the old leader has noticed; the scenario proves nothing")
		}
		ch := make(chan error, 1)
		old.Get(&Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(3 * time.Second),
			Done: func(_ []Value, _ uint64, err error) { ch <- err }})
		if err := <-ch; err == nil {
			t.Error("a deposed leader served a read")
		}
	})
}

func TestT1_AWrongClockDoesNotMoveShardTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.nodes[nodeID(2)].wall = 24 * time.Hour
		c.create(record(2, wholeRing, 2, 1, 3)) // the wrong clock's node leads first
		g := c.leader(2)
		version := mustPut(t, g, "a", "1")
		now := uint64(time.Now().UnixMicro())
		if version > now+uint64(time.Minute/time.Microsecond) {
			t.Errorf("version %d is a day ahead of %d: one clock decided", version, now)
		}
	})
}

// A new leader hears one right clock, its own, and one that is an hour behind: the
// agreed clock is the wrong one. Time goes on all the same, so that a deadline set now
// does not come early when the third clock is heard again.
func TestT1_TimeGoesOnWhileTheRightClocksAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.nodes[nodeID(3)].wall = -time.Hour
		c.create(record(2, wholeRing, 1, 2, 3))
		old := c.leader(2)
		if node := old.store.opts.Self; node == nodeID(3) {
			if err := old.TransferLeadership(t.Context(), nodeID(1)); err != nil {
				t.Fatal(err)
			}
			old = c.leader(2, node)
		}
		before := mustPut(t, old, "a", "1")
		const idle = 5 * time.Minute
		time.Sleep(idle)
		c.isolate(old.store.opts.Self, true)
		after := mustPut(t, c.leader(2, old.store.opts.Self), "a", "2")
		if passed := time.Duration(after-before) * time.Microsecond; passed < idle {
			t.Errorf("shard time went on by %v in %v", passed, idle)
		}
	})
}

// The same with a new leader that has just restarted: it does not know how long the
// shard was idle, but the voter with the wrong wall clock does.
func TestT1_AVoterTellsHowLongAShardWasIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.nodes[nodeID(3)].wall = -time.Hour
		c.lose(func(from, _ shardmap.NodeID, m *peerv1.Message) bool { // it votes, and is not elected
			return from == nodeID(3) && (m.GetVote() != nil || m.GetPreVote() != nil)
		})
		c.create(record(2, wholeRing, 1, 2, 3))
		if g := c.leader(2); g.store.opts.Self != nodeID(1) {
			if err := g.TransferLeadership(t.Context(), nodeID(1)); err != nil {
				t.Fatal(err)
			}
		}
		before := mustPut(t, c.leader(2, nodeID(2), nodeID(3)), "a", "1")
		const idle = 5 * time.Minute
		time.Sleep(idle)
		c.isolate(nodeID(1), true)
		c.nodes[nodeID(2)].crash()
		c.nodes[nodeID(2)].start()
		after := mustPut(t, c.leader(2, nodeID(1), nodeID(3)), "a", "2")
		if passed := time.Duration(after-before) * time.Microsecond; passed < idle {
			t.Errorf("shard time went on by %v in %v", passed, idle)
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		if err := g.TransferLeadership(context.Background(), nodeID(3)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		g = c.leader(2)
		if g.store.opts.Self != nodeID(3) {
			t.Errorf("node %s leads; want the one named", g.store.opts.Self.Short())
		}
		mustPut(t, g, "a", "2")
		mustGet(t, g, "a", "2")
	})
}

func TestReplicaHashesAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1, 2, 3), record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 2, 3, 1))
		for i := range 100 {
			shard := shardmap.ShardID(2)
			key := fmt.Sprint("k", i)
			if shardmap.SlotOf([]byte(key)) >= 8000 {
				shard = 3
			}
			mustPut(t, c.leader(shard), key, "v")
		}
		time.Sleep(2 * time.Second) // the last commit index reaches the followers
		for _, shard := range []shardmap.ShardID{2, 3} {
			seen := make(map[[2]uint64]bool)
			for _, n := range c.nodes {
				g, _ := n.store.Group(shard)
				index, hash, err := g.Hash()
				if err != nil {
					t.Fatal(err)
				}
				seen[[2]uint64{index, hash}] = true
			}
			if len(seen) != 1 {
				t.Errorf("shard %d: replicas differ: %v", shard, seen)
			}
		}
	})
}
