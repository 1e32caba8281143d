package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/cluster/gossip"
	"github.com/ringfort/ringfort/node/formation"
	"github.com/ringfort/ringfort/node/identity"
	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// fullDiskPatience is how long a log that met a full disk waits for space: less than
// after what a disk that hangs ends the process.
const fullDiskPatience = 10 * time.Second

// start does the steps of the package comment in order. A step that fails undoes
// the earlier ones.
func (n *Node) start(ctx context.Context) (err error) {
	n.startedAt = n.deps.Clock.Mono()
	if n.dir, err = identity.Open(n.deps.FS, n.cfg.DataDir, n.deps.Random); err != nil {
		return err
	}
	listener, err := n.deps.Listen(n.cfg.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", n.cfg.Listen, addressInUse(err, "--listen")), n.dir.Close())
	}
	n.describe(listener)
	if err := n.openAdmin(); err != nil {
		return errors.Join(err, listener.Close(), n.dir.Close())
	}
	n.connect()
	if err := n.openStore(); err != nil {
		n.network.Close()
		n.pool.Close()
		return errors.Join(err, n.admin.close(), listener.Close(), n.dir.Close())
	}
	if err := n.openGossip(); err != nil {
		stop, cancel := context.WithTimeout(context.Background(), n.cfg.StopTimeout)
		defer cancel()
		err = errors.Join(err, n.store.Load().Stop(stop))
		n.network.Close()
		n.pool.Close()
		return errors.Join(err, n.admin.close(), listener.Close(), n.dir.Close())
	}
	n.openServers(listener, serverCredentials(n.serverTLS))
	n.startLoops(ctx)
	n.log.Info("node started", "id", n.self.ID, "cluster", n.clusterID(), "phase", n.phase(),
		"address", n.self.Address, "gossip", n.self.Gossip, "admin", n.admin.addr(), "data_dir", n.cfg.DataDir)
	close(n.started)
	return nil
}

// describe settles who this node is and where it is reached.
func (n *Node) describe(listener net.Listener) {
	n.self = shardmap.Node{
		ID: n.dir.Identity().Node, Name: n.cfg.Name, Zone: n.cfg.Zone, Address: n.cfg.Advertise, Gossip: n.cfg.AdvertiseGossip,
	}
	if n.self.Address == "" {
		n.self.Address = listener.Addr().String() // the port may have been 0
	}
	n.maps = &mapHolder{cluster: n.clusterID, logger: n.log}
	stored, err := n.dir.LoadMap()
	if err != nil {
		n.log.Warn("going on without the stored map", "error", err)
	}
	if stored == nil {
		return
	}
	m, err := wire.MapFromProto(stored)
	if err != nil {
		n.log.Warn("going on without the stored map", "error", err)
		return
	}
	n.maps.offer(m)
	n.book.Set(peers.Map, m.Nodes()) // the groups dial before the loops run
}

// connect makes everything that speaks to other nodes; nothing is dialled yet.
func (n *Node) connect() {
	n.pool = peers.NewPool(peers.Options{
		Book: n.book, Dial: n.deps.Dial, Credentials: n.peerCreds, Extra: transport.DialOptions(),
	})
	n.rpc = rpc{pool: n.pool, self: n.self.ID}
	n.network = transport.New(transport.Options{
		Self: n.self.ID, ClusterID: n.wireClusterID, Dial: n.pool.Conn, Logger: n.log,
		HeartbeatTimeout: n.cfg.ElectionTimeout, Tamper: n.deps.Tamper,
	})
	n.seeds = &seeds{
		addresses: n.cfg.Join, self: n.self.ID, pool: n.pool, logger: n.log,
		gossip:  n.joinGossip,
		answers: make(map[string]seedAnswer),
	}
	n.member = formation.NewMember(n.self.ID, n.dir, formation.Hooks{
		Cluster:  n.clusterID,
		Accepted: n.accepted,
		Born: func(ctx context.Context, rec shardmap.Record) error {
			return n.store.Load().Create(ctx, []shardmap.Record{rec})
		},
		Started: n.startedIn,
	})
	if plan := n.dir.Plan(); plan != nil {
		n.book.Set(peers.Plan, planNodes(plan))
	}
}

func (n *Node) joinGossip(addresses []string) {
	if _, err := n.gossip.Join(addresses); err != nil {
		n.log.Debug("joining gossip", "addresses", addresses, "error", err)
	}
}

func (n *Node) accepted(plan *peerv1.Plan) {
	n.log.Info("accepted a plan", "cluster", plan.GetClusterId(), "nodes", len(plan.GetNodes()))
	n.book.Set(peers.Plan, planNodes(plan))
	n.changed.fire()
}

func (n *Node) startedIn(cluster string) {
	n.log.Info("member of a cluster", "cluster", cluster)
	if err := n.gossip.SetCluster(cluster); err != nil {
		n.log.Error("gossiping the cluster id", "error", err)
	}
	nudge(n.applied)
	nudge(n.fetchWanted)
	n.changed.fire()
}

func planNodes(plan *peerv1.Plan) []shardmap.Node {
	var nodes []shardmap.Node
	for _, info := range plan.GetNodes() {
		if node, err := wire.NodeFromProto(info); err == nil { // it was validated when accepted
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// openStore starts the groups that are on disk, and the server of the data API,
// which leads to them.
func (n *Node) openStore() error {
	var err error
	if n.kv, err = kvserver.New(n.kvOptions()); err != nil {
		return err
	}
	id, err := nonce(n.deps.Random)
	if err != nil {
		return err
	}
	options := raftstore.Options{
		Dir: n.dir.StoreDir(), FS: n.deps.FS, Self: n.self.ID, Name: n.self.Name, Clock: n.deps.Clock, Nonce: id, Logger: n.log,
		Network: n.network, ElectionTimeout: n.cfg.ElectionTimeout, SyncPacing: n.cfg.SyncPacing,
		EntriesInFlight: n.cfg.EntriesInFlight,
		MaxLogBytes:     n.cfg.MaxLogBytes, LogBytesPerShard: n.cfg.LogBytesPerShard, FlushInterval: n.cfg.FlushInterval,
		Fatal:  n.deps.Fatal,
		Events: raftstore.Events{Leader: n.leader, Applied: func(shardmap.ShardID) { nudge(n.applied) }},
	}
	options.MaxNodeQueuedBytes = n.cfg.MaxClientMemory / 2 // the rest is there for shards that get on
	options.LowSpaceBytes, options.BallastBytes = n.cfg.LowSpace, n.cfg.BallastSize
	options.FullDiskPatience = fullDiskPatience
	if options.SnapshotBytesPerSecond = n.cfg.SnapshotRate; n.cfg.SnapshotRate == 0 {
		options.SnapshotBytesPerSecond = -1
	}
	if n.deps.TuneStore != nil {
		n.deps.TuneStore(&options)
	}
	store, err := raftstore.Open(options)
	if err != nil {
		return err
	}
	n.store.Store(store)
	return nil
}

func (n *Node) kvOptions() kvserver.Options {
	return kvserver.Options{
		ClusterID: n.clusterID, Self: n.self.ID, Shards: dataShards{n}, Peers: forwarder{n}, Clock: n.deps.Clock,
		Limits: kvserver.Limits{MaxKeyBytes: n.cfg.MaxKeyBytes, MaxValueBytes: n.cfg.MaxValueBytes, MaxHeldBytes: n.cfg.MaxClientMemory},
		Logger: n.log,
	}
}

// leader is called from the stores' goroutines and must not block.
func (n *Node) leader(hint shardmap.LeaderHint) {
	n.kv.PushLeader(hint)
	if hint.Shard == shardmap.SystemShard {
		n.changed.fire()
	}
}

func (n *Node) openGossip() error {
	var err error
	n.gossip, err = n.deps.StartGossip(gossip.Options{
		Listen: n.cfg.GossipListen, Advertise: n.cfg.AdvertiseGossip, Self: n.self, Cluster: n.clusterID(),
		Run: n.deps.Clock.WallMicros(), Logger: n.log,
		Seeds: func(context.Context) []string { return n.gossipSeeds() },
	})
	if err != nil {
		return addressInUse(err, "--gossip-listen")
	}
	if n.self.Gossip == "" {
		n.self.Gossip = n.gossip.Address()
	}
	return nil
}

// gossipSeeds is everybody worth gossiping with: who dead nodes were forgotten
// by would otherwise never be called again.
func (n *Node) gossipSeeds() []string {
	seeds := n.seeds.gossipAddresses()
	for _, node := range n.maps.Map().Nodes() {
		if node.ID != n.self.ID && node.Gossip != "" {
			seeds = append(seeds, node.Gossip)
		}
	}
	return seeds
}

// startLoops starts what runs until the node stops. ctx carries values only: a
// stop ends the loops in its own order.
func (n *Node) startLoops(ctx context.Context) {
	ctx, n.stopLoops = context.WithCancel(context.WithoutCancel(ctx))
	nudge(n.applied)
	for _, loop := range []func(context.Context){n.follow, n.listen, n.fetch, n.publish, n.reconcile, n.found, n.enrol} {
		n.loops.Go(func() { loop(ctx) })
	}
	n.resume(ctx)
}

// resume makes good what a crash left half done: the replica of a plan's system
// record was born and its node died before it knew that it had started (F1d).
func (n *Node) resume(ctx context.Context) {
	plan := n.dir.Plan()
	if plan == nil || n.clusterID() != "" {
		return
	}
	if _, born := n.group(shardmap.SystemShard); !born {
		return
	}
	n.loops.Go(func() {
		if err := n.member.Start(ctx, plan.GetClusterId()); err != nil && ctx.Err() == nil {
			n.log.Warn("resuming the start in a cluster", "cluster", plan.GetClusterId(), "error", err)
		}
	})
}

// addressInUse says what to do about an address that another process has.
func addressInUse(err error, flag string) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w: stop the program that listens there (ss -lntup shows it), or choose another %s", err, flag)
}
