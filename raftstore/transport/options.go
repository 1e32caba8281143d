package transport

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Format is the number of the wire format that a Hello carries.
const Format = 1

// MaxEnvelopeBytes is the largest envelope that is sent. A message that does
// not fit is refused to its caller, since it would break the stream for all
// groups on it. A group's entries must therefore stay well below.
const MaxEnvelopeBytes = 16 << 20

const (
	// batchBytes is where a sender stops packing messages into one envelope.
	batchBytes = 1 << 20
	// appendBytes is where one AppendEntries stops taking entries. Raft bounds
	// them by count only: 64 entries of 256 KiB would hold the stream, and their
	// own deadline, for 16 MiB.
	appendBytes = 1 << 20
	// consumerDepth is how many RPCs wait for one raft main loop.
	consumerDepth = 16

	controlQueue      = 4096 // messages that wait for one control stream
	controlQueueBytes = 4 << 20
	logQueue          = 4096
	logQueueBytes     = 32 << 20
	answerQueue       = 8192 // answers that wait for one stream
	answerQueueBytes  = 8 << 20

	// openTimeout bounds dialling, opening the stream and the exchange of
	// hellos; a peer that is stopped but whose kernel accepts is found by it.
	openTimeout = 3 * time.Second
	// appendPatience is how long an append waits for a peer that is down. After
	// each append that fails raft sleeps, twice as long each time, up to 10.24 s,
	// and nothing wakes it when the peer is back. If appends took a second to
	// fail, an outage of 20 s would earn the peer a sleep of 5 s; with this
	// patience it takes almost two minutes. It is also no longer than what raft's
	// own sleep makes others wait for the goroutine that replicates.
	appendPatience = 10 * time.Second

	// offerPatience is how long a snapshot is offered again to a peer that is down
	// or busy, for the same reason.
	offerPatience = 10 * time.Second
	// raftPatience is how long a received snapshot waits for a raft that takes
	// none: its main loop may wait for a disk.
	raftPatience = 10 * time.Second
)

// Tamper sees every message before it is queued, requests and answers alike,
// and decides its fate: it calls send now, later, twice or never. It is called
// from the goroutine that sends, so it must not block; m must not be changed.
// send may be called from any goroutine, and does nothing once the stream of an
// answer, or the Network, is closed.
type Tamper func(to shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message))

// Options configure a Network.
type Options struct {
	// Self is this node. Required.
	Self shardmap.NodeID
	// ClusterID is asked for at every hello; empty while the node belongs to no
	// cluster, and then no stream is opened or accepted. Required.
	ClusterID func() string
	// Dial returns a connection to a node's current address, made with
	// DialOptions. It is called for every attempt, for each lane; the connection
	// stays the caller's, who may return the same one each time. Required.
	Dial func(ctx context.Context, node shardmap.NodeID) (*grpc.ClientConn, error)
	// Logger hears of streams that come up or break. Default: nobody.
	Logger *slog.Logger
	// HeartbeatTimeout is raft's; it is the deadline of every RPC without
	// entries. Default 1 s.
	HeartbeatTimeout time.Duration
	// MaxSnapshotsOut is how many snapshots this node sends at a time; others wait.
	// Default 2.
	MaxSnapshotsOut int
	// SnapshotStall is how long a snapshot's transfer may make no progress before
	// it is given up. It does not bound the whole. Default 10 s.
	SnapshotStall time.Duration
	// Tamper injects faults. Nil in production. It does not see snapshots.
	Tamper Tamper
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HeartbeatTimeout == 0 {
		o.HeartbeatTimeout = time.Second
	}
	if o.MaxSnapshotsOut == 0 {
		o.MaxSnapshotsOut = 2
	}
	if o.SnapshotStall == 0 {
		o.SnapshotStall = 10 * time.Second
	}
	return o
}

// The connection is the only thing that notices a peer that vanished without a
// word, and gRPC's own defaults would let it take minutes.
const (
	keepaliveTime    = 10 * time.Second // the shortest gRPC lets a client ask for
	keepaliveTimeout = 3 * time.Second
	redialMaxDelay   = time.Second
	dialTimeout      = 2 * time.Second
)

// DialOptions are what the streams need of a connection between nodes;
// credentials are the owner's.
func DialOptions() []grpc.DialOption {
	slower := backoff.DefaultConfig
	slower.BaseDelay, slower.MaxDelay = 50*time.Millisecond, redialMaxDelay
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: slower, MinConnectTimeout: dialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}
}

// ServerOptions are what the streams need of a node's gRPC server.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxEnvelopeBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: keepaliveTime / 2, PermitWithoutStream: true,
		}),
	}
}
