package kvserver

import (
	"context"
	"errors"
	"log/slog"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

// Shards is what the node knows of shards, its own and others'. Safe for
// concurrent use.
type Shards interface {
	// Map is the newest map the node holds; nil while it has none.
	Map() *shardmap.Map
	// Group is the local replica of a shard.
	Group(shardmap.ShardID) (Group, bool)
	// LocalFor is the local replica whose own record covers the slot.
	LocalFor(shardmap.Slot) (Group, bool)
}

// Group is the local replica of one shard, as *raftstore.Group is.
type Group interface {
	Propose(*raftstore.Write)
	Get(*raftstore.Read)
	// Admits says whether the disk has room for an operation of this kind.
	Admits(state.OpKind) error
	// Record is the shard's record as last applied here.
	Record() shardmap.Record
	// Leader is the leader as this replica sees it, false while it knows none.
	Leader() (shardmap.LeaderHint, bool)
	// View is one moment of the shard, for scans.
	View(context.Context, raftstore.ReadSpec) (View, error)
	// Watch begins after a version, or after all that was acknowledged before the call.
	Watch(ctx context.Context, after uint64, now bool) (Watch, error)
}

// Watch is a position in the changes of a shard, as *raftstore.Watch is.
type Watch interface {
	Ready() <-chan struct{}
	Take(most int) ([][]state.Change, error)
	UpTo() uint64
	Record() shardmap.Record
	// Confirm delivers nil once the replica is known to have all that was acknowledged
	// age ago.
	Confirm(age, limit time.Duration) <-chan error
}

// View is one moment of a shard's replica, as *raftstore.View is.
type View interface {
	Info() raftstore.ViewInfo
	// Use gives the cursor to fn, which waits for nobody. An error of kind Unavailable
	// says that another view may serve.
	Use(fn func(scan.Cursor) error) error
	Close()
}

// Peers reaches other nodes.
type Peers interface {
	// Forward has node serve op, once, without forwarding it further. An error
	// of kind Unavailable promises that op never left this node (there was no
	// connection to send it on). Other kinds mean what they say; an error without
	// a kind leaves the outcome open.
	Forward(ctx context.Context, node shardmap.NodeID, op *kvv1.Operation) (*kvv1.Answer, error)
}

// Verb is what an operation does to its key, for Options.Authorize.
type Verb string

// The verbs.
const (
	VerbGet    Verb = "get"
	VerbPut    Verb = "put"
	VerbDelete Verb = "delete"
	VerbAdd    Verb = "add"
	VerbExpire Verb = "expire"
	VerbTxn    Verb = "txn" // is asked for by its leaves
	VerbScan   Verb = "scan"
	VerbWatch  Verb = "watch"
)

// Times of the server that need no knob.
const (
	// DefaultTimeLeft is the time of an operation that names none.
	DefaultTimeLeft = 10 * time.Second
	// MaxTimeLeft is the longest time an operation gets. A caller that waits
	// longer repeats; one that died does not hold memory for longer.
	MaxTimeLeft = time.Minute
)

// Options configure a Server. Zero means the default where one is named.
type Options struct {
	// ClusterID is the id of the cluster this node belongs to, empty while it
	// belongs to none.
	ClusterID func() string
	Self      shardmap.NodeID
	Shards    Shards
	// Peers may be nil: then nothing is forwarded.
	Peers Peers
	Clock clock.Clock
	// Limits bound what clients may ask for and hold here.
	Limits Limits
	// StallTimeout is how long a client may leave one frame (about 1 MiB) in our
	// hands, or take to say hello, before its stream is cut. Default 30 s. It
	// bounds how long a dead client holds its window; shorter cuts slow links.
	StallTimeout time.Duration
	// Authorize is passed by every leaf operation before it is routed: on the
	// node that took it and, if forwarded, on the leader. It must not block. Nil
	// allows everything.
	Authorize func(ctx context.Context, verb Verb, key []byte) error
	// AuthorizeRange is the same for what concerns all keys of [from, to); an empty to
	// has no bound. Nil allows everything.
	AuthorizeRange func(ctx context.Context, verb Verb, from, to []byte) error
	// Logger defaults to none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	setDefault(&o.StallTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate lists all faults at once.
func (o Options) validate() error {
	var faults []error
	demand := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, kverr.New(kverr.Invalid, "kvserver: "+format, args...))
		}
	}
	demand(o.ClusterID != nil, "ClusterID is required")
	demand(o.Self != "", "Self, this node's id, is required")
	demand(o.Shards != nil, "Shards is required")
	demand(o.Clock != nil, "Clock is required")
	demand(o.StallTimeout > 0, "StallTimeout must be above 0, not %s", o.StallTimeout)
	o.Limits.validate(demand)
	return errors.Join(faults...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
