package kvtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/kvop"
	"github.com/ringfort/ringfort/shardmap"
)

// The limits of a server, which are a node's defaults.
const (
	MaxKeyBytes   = 4096    // of a key
	MaxValueBytes = 1 << 20 // of a value
	MaxFrameBytes = 4 << 20 // of what a client sends at a time
)

// How many of each a server has in progress at most, as a node by default; beyond them
// callers are refused as overloaded.
const (
	maxStreams = 1024
	maxCalls   = 4096
	maxScans   = 64
	maxWatches = 4096
)

// The defaults of options.
const (
	DefaultShards  = 3
	DefaultHistory = 10_000
)

const (
	address  = "kvtest:7400"
	nodeID   = "00000000000000000000000000000000000074e5"
	wireSize = 1 << 20 // of the pipe between a client and the server

	// wireFormat is the version of kv.v1 that is spoken.
	wireFormat = 1
)

// Server is a cluster of one node in memory. It is safe for concurrent use.
type Server struct {
	kvv1.UnimplementedKVServer
	t       testing.TB
	cfg     config
	clock   shardClock
	cluster string
	shards  []*shard // by arc
	mapped  *shardmap.Map
	limits  kvop.Limits
	faults  faults

	streams, calls, scans, watches atomic.Int64 // in progress

	listener *bufconn.Listener
	grpc     *grpc.Server
	closing  chan struct{} // closed when the calls have ended
	running  sync.WaitGroup
}

type config struct {
	shards  int
	history int
	virtual bool
}

// Option configures a Server.
type Option func(*config)

// WithShards divides the slots over n shards, from 1 to 64; the default is
// DefaultShards. Each has its own versions, and scans and watches of many slots ask
// all of them. (A scan by key holds a stream for each, and a node has room for 64.)
func WithShards(n int) Option { return func(c *config) { c.shards = n } }

// WithWatchHistory bounds what each shard remembers for those who watch: the changes of
// its newest n versions, at least 1. It never remembers more than 4 MiB of them. The
// default is DefaultHistory. A watch from before that is ErrCompacted, or a Reset.
func WithWatchHistory(n int) Option { return func(c *config) { c.history = n } }

// WithVirtualTime has shard time stand still but for Advance. It begins at
// 2000-01-01 00:00:00 UTC, as in a bubble of testing/synctest. It is the time of
// deadlines, of request ids and of the age of what clients cache; timeouts, pauses and
// Delay go by package time as ever.
func WithVirtualTime() Option { return func(c *config) { c.virtual = true } }

// servers numbers the clusters of a process, so that a token of one is not taken for
// another's.
var servers atomic.Uint64

// NewServer starts a server. When the test ends it closes the server and waits for all
// its goroutines; in a bubble of testing/synctest it is a server of the bubble.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	cfg := config{shards: DefaultShards, history: DefaultHistory}
	for _, opt := range opts {
		opt(&cfg)
	}
	if cfg.shards < 1 || cfg.shards > maxScans || cfg.history < 1 {
		t.Fatalf("kvtest: %d shards that remember %d versions", cfg.shards, cfg.history)
	}
	s := &Server{
		t: t, cfg: cfg, clock: realClock{time.Now()}, cluster: fmt.Sprintf("kvtest-%d", servers.Add(1)),
		limits:   kvop.Limits{MaxKeyBytes: MaxKeyBytes, MaxValueBytes: MaxValueBytes},
		listener: bufconn.Listen(wireSize), closing: make(chan struct{}),
	}
	if cfg.virtual {
		s.clock = new(virtualClock)
	}
	if err := s.place(); err != nil {
		t.Fatalf("kvtest: %v", err)
	}
	s.start()
	t.Cleanup(s.close)
	return s
}

// place makes the shards and the map that names them.
func (s *Server) place() (err error) {
	spec := shardmap.MapSpec{
		Epoch: 1, ClusterID: s.cluster, ReplicationFactor: 1,
		Nodes: []shardmap.Node{{ID: nodeID, Name: "kvtest", Address: address}},
	}
	for i, arc := range shardmap.Arcs(s.cfg.shards) {
		id := shardmap.SystemShard + 1 + shardmap.ShardID(i)
		record := shardmap.Record{
			Shard: id, Arc: arc, ArcEpoch: 1, MemberEpoch: 1,
			Replicas: []shardmap.Replica{{ID: shardmap.ReplicaID(id), Node: nodeID, Role: shardmap.Voter}},
		}
		sh, err := newShard(s, record)
		if err != nil {
			return err
		}
		s.shards, spec.Records = append(s.shards, sh), append(spec.Records, record)
	}
	s.mapped, err = shardmap.NewMap(spec)
	return err
}

func (s *Server) start() {
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxFrameBytes), grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	kvv1.RegisterKVServer(s.grpc, s)
	s.running.Go(func() { _ = s.grpc.Serve(s.listener) }) // ends by Stop, or the listener's end
	for _, sh := range s.shards {
		s.running.Go(sh.run)
	}
}

func (s *Server) close() {
	close(s.closing)
	s.grpc.Stop()
	s.running.Wait()
	_ = s.listener.Close() // of memory: there is nothing to fail
}

func (s *Server) virtual() bool { return s.cfg.virtual }

// Client opens a client of the server. It is closed when the test ends, if the test has
// not done so before. Options of the test's come after the server's own.
func (s *Server) Client(opts ...client.Option) *client.Client {
	s.t.Helper()
	opts = append([]client.Option{client.WithDialer(s.Dial), client.WithClock(s.clock)}, opts...)
	c, err := client.Open(context.Background(), s.Target(), opts...)
	if err != nil {
		s.t.Fatalf("kvtest: %v", err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Target is what client.Open is to be given by code that opens a client of its own,
// together with client.WithDialer(s.Dial), and, in a bubble or with virtual time,
// client.WithClock(s.Clock()).
func (s *Server) Target() string { return "kv://" + address }

// Dial connects to the server, whatever the address.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return s.listener.DialContext(ctx)
}

// Clock is the clock of the shards and of the server's clients: virtual, or package
// time, which is the bubble's in a bubble.
func (s *Server) Clock() client.Clock { return s.clock }

// Now is the shards' time, by which deadlines come.
func (s *Server) Now() time.Time { return time.UnixMicro(int64(s.clock.WallMicros())).UTC() }

// Advance moves virtual time, in whole microseconds. When it returns, the expiry of
// every key whose deadline has come was applied, and is on its way to those who watch.
func (s *Server) Advance(d time.Duration) {
	s.t.Helper()
	c, ok := s.clock.(*virtualClock)
	if !ok || d < 0 || d%time.Microsecond != 0 {
		s.t.Fatalf("kvtest: Advance(%v): it takes WithVirtualTime, and whole microseconds", d)
	}
	c.passed.Add(d.Microseconds())
	for _, sh := range s.shards {
		if err := sh.ask(sh.sweep); err != nil {
			s.t.Fatalf("kvtest: Advance: %v", err)
		}
	}
}

// shardOf is the shard that has a slot.
func (s *Server) shardOf(slot shardmap.Slot) *shard {
	record, _ := s.mapped.Lookup(slot)
	return s.byID(record.Shard)
}

// byID is nil for a shard that there is not.
func (s *Server) byID(id shardmap.ShardID) *shard {
	if i := int(id) - int(shardmap.SystemShard) - 1; i >= 0 && i < len(s.shards) {
		return s.shards[i]
	}
	return nil
}

// enter counts something in progress, which ends with leave, or refuses it.
func enter(progress *atomic.Int64, most int64, what string) (leave func(), err error) {
	leave = func() { progress.Add(-1) }
	if progress.Add(1) <= most {
		return leave, nil
	}
	leave()
	const busyRetry = 100 * time.Millisecond
	e := kverr.New(kverr.Overloaded, "this node has %d %s in progress, its limit; try again shortly", most, what)
	e.Node, e.RetryAfter = nodeID, busyRetry
	return nil, e
}

var errTimeOver = kverr.New(kverr.Deadline, "the caller's time ran out before the work began")

func stopping() error {
	return &kverr.Error{Kind: kverr.Unavailable, Node: nodeID, Message: "the test server is closed"}
}

var errLost = errors.New("the test broke the connection before the answer")
