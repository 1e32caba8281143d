package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/formation"
	"github.com/ringfort/ringfort/node/identity"
	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// Node is one server. Its methods may be called once Started is closed.
type Node struct {
	cfg       config.Config
	deps      Deps
	log       *slog.Logger
	serverTLS *tls.Config // nil without TLS
	peerCreds credentials.TransportCredentials

	self      shardmap.Node // complete once started
	startedAt time.Duration // by Clock.Mono
	started   chan struct{}
	stopping  atomic.Bool
	failed    chan error // capacity 1: why the node must stop by itself
	loops     sync.WaitGroup
	stopLoops context.CancelFunc

	dir     *identity.Dir
	member  *formation.Member
	book    *peers.Book
	pool    *peers.Pool
	rpc     rpc
	network *transport.Network
	store   atomic.Pointer[raftstore.Store] // nil until it is open
	kv      *kvserver.Server
	gossip  Gossip
	servers *servers
	admin   *admin // nil when there is no admin listener
	seeds   *seeds
	maps    *mapHolder
	level   logLevel

	changed     broadcast     // membership or leadership of the system shard
	applied     chan struct{} // capacity 1: the system shard has applied something
	fetchWanted chan struct{} // capacity 1: somebody shows a newer map
}

// New checks the configuration and reads the credentials it names. It opens and
// starts nothing.
func New(cfg config.Config, deps Deps) (*Node, error) {
	if err := deps.validate(); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	server, peer, err := loadCredentials(&cfg)
	if err != nil {
		return nil, err
	}
	return &Node{
		cfg: cfg, deps: deps, log: deps.Logger,
		serverTLS: server, peerCreds: peer,
		started:     make(chan struct{}),
		failed:      make(chan error, 1),
		applied:     make(chan struct{}, 1),
		fetchWanted: make(chan struct{}, 1),
		book:        new(peers.Book),
	}, nil
}

// ErrCrash as the cause of Run's context makes the node stop without any grace,
// as a crash would, but with everything closed: for tests, and after Fatal.
var ErrCrash = errors.New("crash")

// Run starts the node, serves until ctx ends, and stops. The error is nil after a
// stop that was asked for. It can be called once.
func (n *Node) Run(ctx context.Context) error {
	if err := n.start(ctx); err != nil {
		return err
	}
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-n.failed:
		n.log.Error("the node stops", "error", failure)
	}
	return errors.Join(failure, n.stop(errors.Is(context.Cause(ctx), ErrCrash)))
}

// fail makes Run end with err; the first one counts.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// Started is closed when the node answers.
func (n *Node) Started() <-chan struct{} { return n.started }

// Self is this node's entry.
func (n *Node) Self() shardmap.Node { return n.self }

// Map is the newest shard map the node holds, nil while there is none.
func (n *Node) Map() *shardmap.Map { return n.maps.Map() }

// Store is the node's replicas, for tests and measurements.
func (n *Node) Store() *raftstore.Store { return n.store.Load() }

// clusterID is the cluster this node has started in; empty for none.
func (n *Node) clusterID() string { return n.dir.Identity().Cluster }

// wireClusterID is the cluster whose messages between replicas are let through:
// from the moment a plan is accepted, since the members start one after another.
func (n *Node) wireClusterID() string {
	if id := n.clusterID(); id != "" {
		return id
	}
	return n.dir.Plan().GetClusterId()
}

func (n *Node) group(id shardmap.ShardID) (*raftstore.Group, bool) {
	store := n.store.Load()
	if store == nil {
		return nil, false
	}
	return store.Group(id)
}

// nonce draws what tells this process's proposals from its predecessor's (L6).
func nonce(random io.Reader) (uint64, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, kverr.New(kverr.Internal, "draw a nonce: %w", err)
		}
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v, nil
		}
	}
}
