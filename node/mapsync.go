package node

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/node/registry"
	"github.com/ringfort/ringfort/shardmap"
)

// fetchEvery is the period of anti-entropy, jittered to once or twice as much:
// how late a node learns of a new map when both its own replica of the system
// shard and gossip fail to tell.
const fetchEvery = time.Second

// follow rebuilds the map whenever the local replica of the system shard has
// applied something.
func (n *Node) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.applied:
		}
		system, ok := n.systemShard()
		if !ok {
			continue
		}
		m, err := registry.Build(system.group.ScanLocal)
		if err != nil {
			n.log.Error("the system shard's contents make no map", "error", err)
			continue
		}
		n.maps.offer(m)
	}
}

// listen keeps addresses up to date and asks for a map when gossip shows a newer
// one.
func (n *Node) listen(ctx context.Context) {
	for {
		var nodes []shardmap.Node
		for _, m := range n.gossip.Members() {
			nodes = append(nodes, m.Node)
			if m.Cluster == n.clusterID() && m.Epoch > n.maps.Map().Epoch() {
				nudge(n.fetchWanted)
			}
		}
		n.book.Set(peers.Gossip, nodes)
		select {
		case <-ctx.Done():
			return
		case <-n.gossip.Changed():
		}
	}
}

// fetch asks other nodes for newer maps, one at a time: when gossip shows one,
// and now and then anyway.
func (n *Node) fetch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.fetchWanted:
		case <-time.After(fetchEvery + rand.N(fetchEvery)):
		}
		cluster := n.clusterID()
		if cluster == "" {
			continue
		}
		id, ok := n.mapSource(cluster)
		if !ok {
			continue
		}
		m, err := n.rpc.fetchMap(ctx, id, cluster, n.maps.Map().Epoch())
		if err != nil {
			n.log.Debug("asking for the map", "node", id.Short(), "error", err)
			continue
		}
		n.maps.offer(m)
	}
}

// mapSource picks whom to ask: one of those who show a higher epoch than ours,
// else anybody of the cluster. It draws lots, so that a node that cannot be
// reached does not keep us from the others.
func (n *Node) mapSource(cluster string) (shardmap.NodeID, bool) {
	var newer, others []shardmap.NodeID
	held := n.maps.Map()
	for _, m := range n.gossip.Members() {
		switch {
		case m.ID == n.self.ID || m.Cluster != cluster:
		case m.Epoch > held.Epoch():
			newer = append(newer, m.ID)
		default:
			others = append(others, m.ID)
		}
	}
	if len(newer) == 0 && len(others) == 0 {
		for _, node := range held.Nodes() {
			if node.ID != n.self.ID {
				others = append(others, node.ID)
			}
		}
	}
	for _, from := range [][]shardmap.NodeID{newer, others} {
		if len(from) > 0 {
			return from[rand.N(len(from))], true
		}
	}
	return "", false
}

// publish passes every new map on: to clients, gossip, the address book and the
// stored copy.
func (n *Node) publish(ctx context.Context) {
	stored := n.maps.Map().Epoch() // it came from the disk
	for {
		changed := n.maps.changed.next()
		if m := n.maps.Map(); m != nil {
			n.book.Set(peers.Map, m.Nodes())
			n.kv.PushMap(m)
			n.gossip.SetEpoch(m.Epoch())
			if m.Epoch() > stored {
				// A hint for the next start: losing it costs a moment, not data.
				if err := n.dir.SaveMap(wire.MapToProto(m)); err != nil {
					n.log.Warn("storing a copy of the map", "error", err)
				}
				stored = m.Epoch()
				n.log.Info("new shard map", "epoch", m.Epoch(), "shards", len(m.Records()), "nodes", len(m.Nodes()))
			}
			n.setServing()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
