package transport

import (
	"context"
	"sync"
	"sync/atomic"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// Network carries the messages of all groups of one node. Safe for concurrent
// use.
type Network struct {
	opts      Options
	ctx       context.Context // background; ends with Close
	cancel    context.CancelFunc
	workers   sync.WaitGroup
	confirm   atomic.Pointer[ConfirmFunc]
	readIndex atomic.Pointer[ReadIndexFunc]
	entries   atomic.Pointer[EntriesFunc]
	admit     atomic.Pointer[AdmitSnapshot]
	turns     chan struct{} // one token for each snapshot being sent
	counts    snapshotCounts

	mu struct {
		sync.RWMutex
		closed  bool
		links   map[linkKey]*link
		groups  map[uint64]*Group
		retired map[member]struct{}
	}
}

type linkKey struct {
	node shardmap.NodeID
	lane peerv1.Lane
}

// member is one replica of one group.
type member struct {
	group   uint64
	replica shardmap.ReplicaID
}

// New returns a network without groups. It opens no stream before there is
// something to send.
func New(opts Options) *Network {
	n := &Network{opts: opts.withDefaults()}
	n.turns = make(chan struct{}, n.opts.MaxSnapshotsOut)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.mu.links = make(map[linkKey]*link)
	n.mu.groups = make(map[uint64]*Group)
	n.mu.retired = make(map[member]struct{})
	return n
}

// Close ends all groups and streams, fails what waits, and waits for every
// goroutine. Streams being served end with a status. It may be called twice.
func (n *Network) Close() {
	n.mu.Lock()
	n.mu.closed = true
	groups := make([]*Group, 0, len(n.mu.groups))
	for _, g := range n.mu.groups {
		groups = append(groups, g)
	}
	n.mu.Unlock()
	for _, g := range groups {
		_ = g.Close() // never fails
	}
	n.cancel()
	n.workers.Wait()
}

// Group registers the replica of a group that lives on this node. It is an
// error when a replica of the group is registered already, when this one was
// retired, and when the network is closed.
func (n *Network) Group(group uint64, replica shardmap.ReplicaID) (*Group, error) {
	g := newGroup(n, group, replica)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed {
		return nil, errNetworkClosed()
	}
	if _, retired := n.mu.retired[member{group, replica}]; retired {
		return nil, kverr.New(kverr.Conflict, "replica %d of group %d is retired", replica, group)
	}
	if other, ok := n.mu.groups[group]; ok {
		return nil, kverr.New(kverr.Conflict, "group %d already has replica %d here, cannot add %d",
			group, other.replica, replica)
	}
	n.mu.groups[group] = g
	n.workers.Go(g.respond)
	return g, nil
}

// Retire refuses messages for a replica, and its registration, as long as this
// Network lives. A Group that is registered stays so until it is closed.
func (n *Network) Retire(group uint64, replica shardmap.ReplicaID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.retired[member{group, replica}] = struct{}{}
}

func (n *Network) unregister(g *Group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.groups[g.id] == g {
		delete(n.mu.groups, g.id)
	}
}

// receiver is the group that a message for this replica goes to, or nil.
func (n *Network) receiver(group uint64, replica shardmap.ReplicaID) *Group {
	n.mu.RLock()
	defer n.mu.RUnlock()
	g := n.mu.groups[group]
	if g == nil || g.replica != replica {
		return nil
	}
	if _, retired := n.mu.retired[member{group, replica}]; retired {
		return nil
	}
	return g
}

// link is the lane to a node, started when it is first asked for.
func (n *Network) link(node shardmap.NodeID, lane peerv1.Lane) (*link, error) {
	key := linkKey{node, lane}
	n.mu.RLock()
	l := n.mu.links[key]
	n.mu.RUnlock()
	if l != nil {
		return l, nil
	}
	if node == n.opts.Self {
		return nil, errSelf(node)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.mu.links[key]; l != nil {
		return l, nil
	}
	if n.mu.closed {
		return nil, errNetworkClosed()
	}
	l = newLink(n, node, lane)
	n.mu.links[key] = l
	n.workers.Go(l.run)
	return l, nil
}

// begin admits a stream to be served; the caller owes workers.Done.
func (n *Network) begin() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.mu.closed {
		return false
	}
	n.workers.Add(1)
	return true
}
