package node

import (
	"context"

	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// dataShards is what clients' operations may see of this node's shards.
type dataShards struct{ n *Node }

var _ kvserver.Shards = dataShards{}

// Map implements kvserver.Shards.
func (s dataShards) Map() *shardmap.Map { return s.n.maps.Map() }

// Group implements kvserver.Shards. N3: an operation that names the system shard
// finds nothing, whatever arc epoch it claims.
func (s dataShards) Group(id shardmap.ShardID) (kvserver.Group, bool) {
	if id == shardmap.SystemShard {
		return nil, false
	}
	g, ok := s.n.group(id)
	return dataGroup{g}, ok
}

// LocalFor implements kvserver.Shards. The map only says where to look first; the
// group's own record decides.
func (s dataShards) LocalFor(slot shardmap.Slot) (kvserver.Group, bool) {
	if rec, ok := s.Map().Lookup(slot); ok && rec.Shard != shardmap.SystemShard {
		if g, ok := s.n.group(rec.Shard); ok && g.Record().Arc.Contains(slot) {
			return dataGroup{g}, true
		}
	}
	store := s.n.store.Load()
	if store == nil {
		return nil, false
	}
	for _, g := range store.Groups() {
		if g.Shard() != shardmap.SystemShard && g.Record().Arc.Contains(slot) {
			return dataGroup{g}, true
		}
	}
	return nil, false
}

// dataGroup is a replica as clients' operations use it.
type dataGroup struct{ *raftstore.Group }

// View implements kvserver.Group.
func (g dataGroup) View(ctx context.Context, spec raftstore.ReadSpec) (kvserver.View, error) {
	v, err := g.Group.View(ctx, spec)
	if err != nil {
		return nil, err // without a typed nil
	}
	return v, nil
}

// Watch implements kvserver.Group.
func (g dataGroup) Watch(ctx context.Context, after uint64, now bool) (kvserver.Watch, error) {
	w, err := g.Group.Watch(ctx, after, now)
	if err != nil {
		return nil, err // without a typed nil
	}
	return w, nil
}
