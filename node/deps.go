package node

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/cluster/gossip"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/transport"
)

// Gossip is what the node needs of gossip; *gossip.Gossip and the in-memory one
// of node/nodetest are such.
type Gossip interface {
	// Members are the live nodes of the own cluster and of none.
	Members() []gossip.Member
	// Changed delivers a notice after Members changed; it has one reader.
	Changed() <-chan struct{}
	// Join contacts gossip addresses and returns how many answered.
	Join(addresses []string) (int, error)
	// Address is where others gossip to this node.
	Address() string
	SetCluster(id string) error
	SetEpoch(epoch uint64)
	// Leave says goodbye, for at most the timeout; Close follows.
	Leave(timeout time.Duration) error
	Close() error
}

// Deps is the world as the node sees it. All are required unless a default is
// named.
type Deps struct {
	FS     vfs.FS
	Clock  clock.Clock
	Random io.Reader
	// Listen opens the gRPC listener.
	Listen func(address string) (net.Listener, error)
	// Dial opens raw connections to other nodes.
	Dial peers.Dialer
	// StartGossip begins to gossip.
	StartGossip func(gossip.Options) (Gossip, error)
	// Fatal is told that the node must not go on (rule P10). In production it
	// ends the process; in tests it marks the node dead.
	Fatal func(error)
	// Logger; nil discards.
	Logger *slog.Logger
	// LogLevel is what Logger's handler asks; it can be changed while the node runs.
	// Nil: it cannot.
	LogLevel *slog.LevelVar
	// Version is this build's, for status.
	Version string
	// Tamper injects faults between nodes; nil in production.
	Tamper transport.Tamper
	// TuneStore changes the store's options before it opens, for tests and
	// measurements; nil leaves them.
	TuneStore func(*raftstore.Options)
}

func (d *Deps) validate() error {
	var faults []error
	for what, missing := range map[string]bool{
		"FS": d.FS == nil, "Clock": d.Clock == nil, "Random": d.Random == nil, "Listen": d.Listen == nil,
		"Dial": d.Dial == nil, "StartGossip": d.StartGossip == nil, "Fatal": d.Fatal == nil,
	} {
		if missing {
			faults = append(faults, kverr.New(kverr.Invalid, "node: Deps.%s is required", what))
		}
	}
	return errors.Join(faults...)
}
