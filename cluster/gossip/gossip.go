package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// label keeps other users of memberlist on the same network apart.
const label = "ringfort"

// Options configure a Gossip.
type Options struct {
	// Listen is the host:port to bind, TCP and UDP; port 0 picks a free one.
	Listen string
	// Advertise is the host:port others reach it at; empty means Listen. A host
	// name is resolved once, at the start.
	Advertise string
	// Self is what the node says about itself. Self.Gossip is ignored.
	Self shardmap.Node
	// Cluster is the cluster the node belongs to; empty for none yet.
	Cluster string
	// Run must rise with every start of the node's process (its wall clock will
	// do: a lower one is only shadowed until the old run is known to be dead).
	Run uint64
	// Seeds returns gossip addresses worth joining. It is called at the start and
	// every Timing.Rejoin by one goroutine; it may block until ctx ends.
	Seeds func(ctx context.Context) []string
	// Logger; nil discards.
	Logger *slog.Logger
	Timing Timing
}

// Timing holds the protocol's periods; zero fields take the default.
type Timing struct {
	Probe        time.Duration // one member is probed per period; default 1 s
	ProbeTimeout time.Duration // default 500 ms
	Spread       time.Duration // broadcasts leave once per period; default 200 ms
	PushPull     time.Duration // whole state exchanged with one member; default 30 s
	Rejoin       time.Duration // seeds are joined again; default 10 s
	Dial         time.Duration // bound on one TCP exchange; default 2 s
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		into *time.Duration
		def  time.Duration
	}{
		{&t.Probe, time.Second}, {&t.ProbeTimeout, 500 * time.Millisecond}, {&t.Spread, 200 * time.Millisecond},
		{&t.PushPull, 30 * time.Second}, {&t.Rejoin, 10 * time.Second}, {&t.Dial, 2 * time.Second},
	} {
		if *f.into <= 0 {
			*f.into = f.def
		}
	}
	return t
}

// reclaimAfter lets a name that died be taken over from another address. Our
// names are new with every run, so this matters only when the clock that
// numbers runs stood still.
const reclaimAfter = 10 * time.Second

// Gossip is a running member. Safe for concurrent use.
type Gossip struct {
	view    *view
	del     *delegate
	list    *memberlist.Memberlist
	address string
	options Options
	logger  *slog.Logger

	reannounce chan struct{} // metadata changed; one pending notice
	stop       context.CancelFunc
	done       chan struct{} // closed when the worker returned
	stopOnce   sync.Once

	mu   sync.Mutex
	self meta
}

// Start binds the address, begins to gossip and joins the seeds in the
// background. An address in use is reported as an error wrapping
// syscall.EADDRINUSE.
func Start(o Options) (*Gossip, error) {
	o.Timing = o.Timing.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	self := meta{
		node: o.Self.ID, run: o.Run, cluster: o.Cluster,
		name: o.Self.Name, address: o.Self.Address, zone: o.Self.Zone,
	}
	if err := self.validate(); err != nil {
		return nil, kverr.New(kverr.Invalid, "gossip: %w", err)
	}
	config, err := o.memberlistConfig()
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		view:       newView(o.Cluster),
		options:    o,
		logger:     o.Logger,
		reannounce: make(chan struct{}, 1),
		done:       make(chan struct{}),
		self:       self,
	}
	g.del = &delegate{
		view:   g.view,
		queue:  &memberlist.TransmitLimitedQueue{NumNodes: g.view.size, RetransmitMult: config.RetransmitMult},
		self:   g.selfMeta,
		logger: o.Logger,
	}
	config.Name = fmt.Sprintf("%s-%016x", self.node, self.run)
	config.Delegate, config.Events, config.Alive, config.Ping = g.del, g.del, g.del, g.del
	if g.list, err = memberlist.Create(config); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	g.address = g.list.LocalNode().Address()
	ctx, cancel := context.WithCancel(context.Background())
	g.stop = cancel
	go g.work(ctx)
	return g, nil
}

func (o *Options) memberlistConfig() (*memberlist.Config, error) {
	host, port, err := splitAddress(o.Listen)
	if err != nil {
		return nil, kverr.New(kverr.Invalid, "gossip: listen address %q: %w", o.Listen, err)
	}
	if err := probeBind(o.Listen); err != nil {
		return nil, fmt.Errorf("gossip: cannot listen on %s: %w", o.Listen, err)
	}
	config := memberlist.DefaultLANConfig()
	config.BindAddr, config.BindPort, config.AdvertisePort = host, port, port
	if o.Advertise != "" {
		ip, port, err := resolve(o.Advertise)
		if err != nil {
			return nil, kverr.New(kverr.Invalid, "gossip: advertised address %q: %w", o.Advertise, err)
		}
		config.AdvertiseAddr, config.AdvertisePort = ip, port
	}
	config.Label = label
	config.Logger = newLogger(o.Logger)
	config.ProbeInterval, config.ProbeTimeout = o.Timing.Probe, o.Timing.ProbeTimeout
	config.GossipInterval, config.PushPullInterval = o.Timing.Spread, o.Timing.PushPull
	config.TCPTimeout = o.Timing.Dial
	config.DeadNodeReclaimTime = reclaimAfter
	// Packets are tiny: compressing them only burns time.
	config.EnableCompression = false
	return config, nil
}

// Members returns the live nodes of our cluster and of none, the own node among
// them, by node id.
func (g *Gossip) Members() []Member { return g.view.list() }

// Changed delivers one notice for any number of changes of Members since the
// last one was taken. It has one reader.
func (g *Gossip) Changed() <-chan struct{} { return g.view.changed }

// Address is the host:port that others are told to gossip to.
func (g *Gossip) Address() string { return g.address }

// SetEpoch tells the others how new a map this node holds. Lower values than
// before are ignored. It does not block.
func (g *Gossip) SetEpoch(epoch uint64) {
	for _, r := range g.view.learn([]epochReport{{node: g.selfMeta().node, epoch: epoch}}) {
		g.del.announce(r)
	}
}

// SetCluster tells the others that this node now belongs to a cluster, and
// hides the nodes of every other. It does not block.
func (g *Gossip) SetCluster(id string) error {
	g.mu.Lock()
	changed := g.self
	changed.cluster = id
	if err := changed.validate(); err != nil {
		g.mu.Unlock()
		return kverr.New(kverr.Invalid, "gossip: %w", err)
	}
	g.self = changed
	g.mu.Unlock()
	g.view.setCluster(id)
	select {
	case g.reannounce <- struct{}{}:
	default:
	}
	return nil
}

func (g *Gossip) selfMeta() meta {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.self
}

// Join contacts addresses and returns how many answered. It blocks for up to
// Timing.Dial each.
func (g *Gossip) Join(addresses []string) (int, error) { return g.list.Join(addresses) }

// Leave tells the others that the node goes on purpose and waits until one of
// them has been told, or for the timeout. Call Close afterwards.
func (g *Gossip) Leave(timeout time.Duration) error {
	// The worker must be gone first: announcing metadata after a leave may block
	// for ever inside memberlist.
	g.stopWorker()
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

// Close stops gossiping and frees the address. Without Leave before it the
// others see a crash. It may be called twice.
func (g *Gossip) Close() error {
	g.stopWorker()
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	return nil
}

func (g *Gossip) stopWorker() {
	g.stopOnce.Do(g.stop)
	<-g.done
}

// probeBind exists for its error: memberlist flattens the cause to text.
func probeBind(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return errors.Join(p.Close(), l.Close())
}

func splitAddress(address string) (host string, port int, err error) {
	host, digits, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return host, int(n), err
}

// resolve exists because memberlist takes only an IP address to advertise.
func resolve(address string) (ip string, port int, err error) {
	host, port, err := splitAddress(address)
	if err != nil {
		return "", 0, err
	}
	a, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return "", 0, err
	}
	return a.String(), port, nil
}
