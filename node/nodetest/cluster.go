package nodetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/transport"
)

// Options of a cluster. Zero fields take the default.
type Options struct {
	Nodes             int // default 3
	Shards            int // data shards; default 2
	ReplicationFactor int // default min(3, Nodes)
	Seed              uint64
	// Configure changes a node's configuration before its first life.
	Configure func(index int, c *config.Config)
	// Tune changes a node's store options, in each of its lives; caches are small
	// unless it says otherwise.
	Tune func(index int, o *raftstore.Options)
	// Tamper makes the fault injection of one node's outgoing messages.
	Tamper func(index int) transport.Tamper
	// WrapDisk puts something between a node and its disk, in each of its lives.
	WrapDisk func(index int, disk vfs.FS) vfs.FS
	// Clock makes a node's clock; default: the bubble's time.
	Clock  func(index int) clock.Clock
	Logger *slog.Logger
	// LogLevel is what can be changed while nodes run; nil: it cannot.
	LogLevel *slog.LevelVar
}

// pollEvery is how often waiting looks again. In a bubble it costs no time.
const pollEvery = 20 * time.Millisecond

// Cluster is some nodes and what joins them.
type Cluster struct {
	Network *Network
	Servers []*Server

	tb      testing.TB
	options Options
	hub     *hub
}

// New returns a cluster whose nodes are down, and stops what runs at the end of
// the test.
func New(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	setDefault(&o.Nodes, 3)
	setDefault(&o.Shards, 2)
	setDefault(&o.ReplicationFactor, min(3, o.Nodes))
	if o.Clock == nil {
		o.Clock = func(int) clock.Clock { return clock.NewVirtual() }
	}
	c := &Cluster{Network: newNetwork(), tb: tb, options: o}
	c.hub = newHub(c.Network)
	for i := range o.Nodes {
		c.add(i)
	}
	tb.Cleanup(c.Close)
	return c
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

// Add makes one more node, which is down.
func (c *Cluster) Add() *Server { return c.add(len(c.Servers)) }

func (c *Cluster) add(i int) *Server {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%d/%d", c.options.Seed, i))
	name := fmt.Sprintf("n%d", i+1)
	s := &Server{
		Index: i, Name: name, cluster: c, random: rand.NewChaCha8(seed), clock: c.options.Clock(i), disk: vfs.NewCrashableMem(),
		cfg: config.Config{
			Name: name, DataDir: "/data", ElectionTimeout: time.Second, MaxKeyBytes: 4096, MaxValueBytes: 1 << 20,
			StopTimeout: 10 * time.Second,
		},
	}
	s.Move(name+".test:7401", name+".test:7501")
	if c.options.Configure != nil {
		c.options.Configure(i, &s.cfg)
	}
	c.Servers = append(c.Servers, s)
	return s
}

// Start returns a formed cluster that serves every key.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c := New(tb, o)
	for _, s := range c.Servers {
		if err := s.Start(); err != nil {
			tb.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		_, err := c.Init(ctx, 0)
		if err == nil {
			break
		}
		// Gossip may not have told everybody about everybody yet.
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil {
			tb.Fatal(err)
		}
		time.Sleep(pollEvery)
	}
	if err := c.AwaitLeaders(ctx); err != nil {
		tb.Fatal(err)
	}
	return c
}

// Init asks one node to form the cluster.
func (c *Cluster) Init(ctx context.Context, through int) (*adminv1.InitResponse, error) {
	conn := c.Conn(through)
	defer func() { _ = conn.Close() }() // it fails only when closed already
	return adminv1.NewAdminClient(conn).Init(ctx, &adminv1.InitRequest{
		Shards: uint32(c.options.Shards), ReplicationFactor: uint32(c.options.ReplicationFactor),
	})
}

// Dial opens a raw connection as a client, for the client library's dialer.
func (c *Cluster) Dial(ctx context.Context, address string) (net.Conn, error) {
	return c.Network.dialer(Outside)(ctx, address)
}

// Conn opens a client's gRPC connection to a node; the caller closes it.
func (c *Cluster) Conn(index int) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///"+c.Servers[index].Address(),
		append(transport.DialOptions(),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(c.Dial))...)
	if err != nil {
		panic("nodetest: " + err.Error()) // the options are constant
	}
	return conn
}

// AwaitLeaders waits until all running nodes hold the same map, every shard of it
// has a leader among them that serves, and every replica that belongs on them is
// there.
func (c *Cluster) AwaitLeaders(ctx context.Context) error {
	return c.await(ctx, c.unserved)
}

func (c *Cluster) await(ctx context.Context, missing func() []string) error {
	for {
		what := missing()
		if len(what) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("still missing: %s", strings.Join(what, "; ")), ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// unserved says what AwaitLeaders still waits for.
func (c *Cluster) unserved() (missing []string) {
	var epoch uint64
	for _, s := range c.Servers {
		if s.Up() {
			epoch = max(epoch, s.Node().Map().Epoch())
		}
	}
	led := make(map[string]bool)
	var wanted []string
	for _, s := range c.Servers {
		if !s.Up() {
			continue
		}
		m := s.Node().Map()
		if m.Epoch() != epoch || !m.Complete() {
			missing = append(missing, fmt.Sprintf("%s has map %d of %d", s.Name, m.Epoch(), epoch))
			continue
		}
		for _, rec := range m.Records() {
			name := fmt.Sprintf("leader of shard %d", rec.Shard)
			wanted = append(wanted, name)
			g, here := s.Node().Store().Group(rec.Shard)
			if _, belongs := rec.On(s.Node().Self().ID); belongs && !here {
				missing = append(missing, fmt.Sprintf("replica of shard %d on %s", rec.Shard, s.Name))
			}
			if here && g.Status().Ready {
				led[name] = true
			}
		}
	}
	for _, name := range wanted {
		if !led[name] {
			missing = append(missing, name)
		}
	}
	return missing
}

// Close stops what runs, all at once and without grace.
func (c *Cluster) Close() {
	for _, s := range c.Servers {
		s.Crash(0, nil)
	}
	c.Network.close()
}
