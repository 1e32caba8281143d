package client

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// topology is what the client knows of the cluster: its nodes, each with its one
// connection, and the route of every slot. All of it is told by the nodes, in
// hellos, unasked frames and refusals; nothing is ever polled. Looking up takes
// no lock.
type topology struct {
	client   *Client
	slots    [shardmap.Slots]atomic.Pointer[route]
	everyone atomic.Pointer[[]*conn] // seeds, then the other nodes
	mapEpoch atomic.Uint64           // of current
	turns    atomic.Uint64           // where reads begin to go round the replicas

	mu        sync.Mutex // taken before a connection's; never held while waiting
	clusterID string
	current   *shardmap.Map
	seeds     []*conn // in random order, so that clients spread
	nodes     map[shardmap.NodeID]*conn
	routes    map[shardmap.ShardID]*route
}

func (t *topology) init(c *Client, endpoints []string) {
	t.client, t.clusterID = c, c.cfg.clusterID
	t.nodes = make(map[shardmap.NodeID]*conn)
	t.routes = make(map[shardmap.ShardID]*route)
	for _, endpoint := range endpoints {
		at := int(c.random.below(uint64(len(t.seeds) + 1)))
		t.seeds = slices.Insert(t.seeds, at, newConn(c, "", endpoint))
	}
	t.listLocked()
}

func (t *topology) epoch() uint64 { return t.mapEpoch.Load() }

func (t *topology) cluster() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clusterID
}

// listLocked rebuilds everyone. REQUIRES: t.mu is held, or nobody else is there.
func (t *topology) listLocked() {
	all := slices.Clone(t.seeds)
	for _, n := range t.nodes {
		if !n.seed {
			all = append(all, n)
		}
	}
	t.everyone.Store(&all)
}

// welcome takes in a node that said hello, with its id and its cluster. The
// first cluster met is the client's for good.
func (t *topology) welcome(n *conn, node shardmap.NodeID, cluster string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cluster != "" && t.clusterID != "" && cluster != t.clusterID {
		return kverr.New(kverr.WrongCluster, "node %s belongs to cluster %s, and this client to %s: check the endpoints",
			node.Short(), cluster, t.clusterID)
	}
	if cluster != "" {
		t.clusterID = cluster
	}
	if n.seed {
		t.identifyLocked(n, node)
	}
	return nil
}

// identifyLocked notes which node answers at a seed's address. The seed becomes
// that node's connection unless it has one, so that a node has one stream.
func (t *topology) identifyLocked(n *conn, node shardmap.NodeID) {
	if t.nodes[node] == n {
		return
	}
	moved := false
	for id, other := range t.nodes {
		if other == n { // the address was given to another node
			delete(t.nodes, id)
			moved = true
		}
	}
	if t.nodes[node] == nil {
		t.nodes[node] = n
		moved = true
	}
	if moved {
		t.adoptNodesLocked(t.current) // the node that was here needs another connection
		for _, r := range t.routes {
			t.installLocked(t.routeLocked(r.record))
		}
	}
}

// adoptMap takes over a map that is newer than the one held. Records that a
// shard has told itself stay when they are newer than the map's.
func (t *topology) adoptMap(pb *kvv1.ShardMap) {
	if pb == nil || pb.GetEpoch() <= t.epoch() {
		return
	}
	m, err := wire.MapFromProto(pb)
	if err != nil {
		t.client.log.Debug("ignoring a shard map", slog.Any("cause", err))
		return
	}
	t.mu.Lock()
	if m.Epoch() <= t.epoch() || t.clusterID != "" && m.ClusterID() != t.clusterID {
		t.mu.Unlock()
		return
	}
	retired := t.adoptNodesLocked(m)
	for _, rec := range m.Records() {
		if old := t.routes[rec.Shard]; old != nil && newerRecord(old.record, rec) {
			rec = old.record
		}
		t.installLocked(t.routeLocked(rec))
	}
	t.pruneLocked(m)
	t.current = m
	t.mapEpoch.Store(m.Epoch())
	t.mu.Unlock()
	for _, n := range retired {
		n.close(errRetired)
	}
}

// adoptNodesLocked gives every node of the map a connection, not yet started,
// and returns those whose nodes are gone.
func (t *topology) adoptNodesLocked(m *shardmap.Map) (retired []*conn) {
	for _, node := range m.Nodes() {
		if n := t.nodes[node.ID]; n != nil {
			n.setAddress(node.Address)
			continue
		}
		t.nodes[node.ID] = newConn(t.client, node.ID, node.Address)
	}
	for id, n := range t.nodes {
		if _, ok := m.Node(id); !ok && !n.seed {
			delete(t.nodes, id)
			retired = append(retired, n)
		}
	}
	t.listLocked()
	return retired
}

// pruneLocked forgets shards that the map does not name and no slot follows.
func (t *topology) pruneLocked(m *shardmap.Map) {
	for id, r := range t.routes {
		if _, ok := m.Shard(id); ok {
			continue
		}
		followed := false
		for s := r.record.Arc.From; s < min(r.record.Arc.To, shardmap.Slots) && !followed; s++ {
			followed = t.slots[s].Load() == r
		}
		if !followed {
			delete(t.routes, id)
		}
	}
}

// adoptRecord takes over a record from a refusal, if it is news.
func (t *topology) adoptRecord(pb *kvv1.ShardRecord) {
	if pb == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	told := shardmap.Record{ArcEpoch: pb.GetArcEpoch(), MemberEpoch: pb.GetMemberEpoch()}
	if old := t.routes[shardmap.ShardID(pb.GetShard())]; old != nil && !newerRecord(told, old.record) {
		return // by far the most frequent: not even decoded
	}
	rec, err := wire.RecordFromProto(pb)
	if err != nil {
		t.client.log.Debug("ignoring a shard record", slog.Any("cause", err))
		return
	}
	t.installLocked(t.routeLocked(rec))
}

// move says that a shard is no longer led by the node that calls were sent to.
type move struct {
	from  *conn
	shard shardmap.ShardID
}

// adoptHint takes over a leader hint of a higher term, and adds to moved where
// the shard was thought to be led before.
func (t *topology) adoptHint(moved []move, pb *kvv1.LeaderHint) []move {
	if pb == nil {
		return moved
	}
	hint, err := wire.HintFromProto(pb)
	if err != nil {
		return moved // a hint without a node is no news
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.routes[hint.Shard]
	if r == nil {
		return moved
	}
	old := r.leader.Load()
	if old != nil && hint.Term <= old.term {
		return moved
	}
	fresh := &leadership{term: hint.Term, node: hint.Node, conn: t.nodes[hint.Node]}
	r.leader.Store(fresh)
	if old != nil && old.conn != nil && old.conn != fresh.conn {
		moved = append(moved, move{from: old.conn, shard: hint.Shard})
	}
	return moved
}

// closeAll ends every connection.
func (t *topology) closeAll() {
	t.mu.Lock()
	all := slices.Clone(t.seeds)
	for _, n := range t.nodes {
		all = append(all, n)
	}
	t.mu.Unlock()
	for _, n := range all {
		n.close(ErrClosed)
	}
}
