package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// welcome judges the node's hello and makes use of what came with it.
func (n *conn) welcome(address string, f *kvv1.ServerFrame) error {
	h := f.GetHello()
	if h == nil {
		return kverr.New(kverr.Format, "node at %s: its first frame has no hello", address)
	}
	if h.GetFormat() != wireFormat {
		return kverr.New(kverr.Format, "node at %s speaks wire format %d, this client %d: use a matching client",
			address, h.GetFormat(), wireFormat)
	}
	node := shardmap.NodeID(h.GetNodeId())
	if !node.Valid() {
		return kverr.New(kverr.Format, "node at %s: %.60q is not a node id", address, h.GetNodeId())
	}
	if n.expect != "" && node != n.expect {
		return kverr.New(kverr.Unavailable, "node at %s is %s, not %s", address, node.Short(), n.expect.Short())
	}
	n.client.shardTime.hello(node, h.GetNowUs())
	n.client.limits.hello(h)
	if err := n.client.topology.welcome(n, node, h.GetClusterId()); err != nil {
		return err
	}
	n.news(f)
	return nil
}

// receive makes use of one frame: first the news in it, so that a call which is
// refused finds its way at once, then the answers, then the calls that the news
// makes hopeless.
func (n *conn) receive(f *kvv1.ServerFrame) {
	moved := n.news(f)
	if f.GetGoingAway() {
		n.moveTo(phaseLeaving, errLeaving, eventRerouted, false)
	}
	n.complete(f.GetAnswers())
	for _, m := range moved {
		m.from.evict(m.shard)
	}
}

// news takes over what a frame says about the cluster, and returns the shards
// whose leaders have changed.
func (n *conn) news(f *kvv1.ServerFrame) (moved []move) {
	t := &n.client.topology
	t.adoptMap(f.GetMap())
	for _, hint := range f.GetLeaders() {
		moved = t.adoptHint(moved, hint)
	}
	for _, a := range f.GetAnswers() {
		if a.GetError() != nil {
			t.adoptRecord(a.GetRecord())
			moved = t.adoptHint(moved, a.GetLeader())
		}
	}
	return moved
}

// complete ends the attempts that the answers are for. An answer that nobody
// waits for any more is dropped.
func (n *conn) complete(answers []*kvv1.Answer) {
	var version uint64
	var pace time.Duration
	out := make(ended, 0, len(answers))
	n.mu.Lock()
	now := n.client.now()
	n.lastHeard = now
	n.suspectUntil.Store(0)
	reads, largest := false, 0
	for _, a := range answers {
		version = max(version, a.GetShardVersion(), a.GetVersion())
		c, ok := n.pending[a.GetId()]
		if !ok {
			continue
		}
		delete(n.pending, a.GetId())
		n.lines.discharge(c)
		if !c.isWrite() {
			pace = now - c.try.at
		}
		c.try.answer = a
		if !c.isWrite() && a.GetError() == nil {
			reads, largest = true, max(largest, len(a.GetValue()))
		}
		out.add(c, eventAnswered, nil)
	}
	if reads {
		n.lines.brought(largest)
	}
	n.wakeWriterLocked()
	n.mu.Unlock()
	n.keepPace(pace)
	n.client.shardTime.saw(version)
	out.deliver()
}

// keepPace takes one read's time to answer into the mean; 0 is none. Only the
// reader does so.
func (n *conn) keepPace(d time.Duration) {
	if d <= 0 {
		return
	}
	const weight = 8
	if mean := n.pace.Load(); mean != 0 {
		d = time.Duration(mean + (int64(d)-mean)/weight)
	}
	n.pace.Store(max(1, int64(d)))
}
