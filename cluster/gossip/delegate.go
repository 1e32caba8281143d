package gossip

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/ringfort/ringfort/shardmap"
)

// delegate answers memberlist's callbacks. Event and alive callbacks come under
// its node lock, NotifyMsg in its packet loop: none of them may block or call
// back.
type delegate struct {
	view   *view
	queue  *memberlist.TransmitLimitedQueue
	self   func() meta
	logger *slog.Logger
}

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
	_ memberlist.AliveDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate  = (*delegate)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte { return d.self().encode() }

// NotifyMsg implements memberlist.Delegate: somebody's epoch report. News is
// passed on, so that a report reaches nodes its author does not gossip to.
func (d *delegate) NotifyMsg(b []byte) {
	reports, err := decodeReports(b)
	if err != nil {
		d.logger.Debug("gossip: dropped a message", "error", err)
		return
	}
	for _, r := range d.view.learn(reports) {
		d.announce(r)
	}
}

// announce queues a report; it replaces a queued older one about the same node.
func (d *delegate) announce(r epochReport) {
	d.queue.QueueBroadcast(&epochBroadcast{node: r.node, message: encodeReports(r)})
}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate: all reports, for anti-entropy.
func (d *delegate) LocalState(bool) []byte { return encodeReports(d.view.reports()...) }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.NotifyMsg(b) }

// AckPayload implements memberlist.PingDelegate: a probe's answer has room for
// the own epoch, which then reaches each prober within a probe interval.
func (d *delegate) AckPayload() []byte {
	self := d.self().node
	for _, r := range d.view.reports() {
		if r.node == self {
			return encodeReports(r)
		}
	}
	return nil
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (d *delegate) NotifyPingComplete(_ *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) > 0 {
		d.NotifyMsg(payload)
	}
}

// NotifyAlive implements memberlist.AliveDelegate: G-CLUSTER. Refusing here
// keeps foreign nodes out of memberlist's own table too, so that they are not
// passed on.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return err
	}
	if !d.view.admits(n.Name, m.cluster) {
		// It may have been admitted before it joined the other cluster.
		d.view.remove(n.Name)
		return fmt.Errorf("node %s (%s) belongs to cluster %q, or the view is full", m.node.Short(), m.address, m.cluster)
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		d.logger.Warn("gossip: ignored a member", "member", n.Name, "error", err)
		return
	}
	d.view.put(n.Name, Member{
		Node: shardmap.Node{
			ID: m.node, Name: m.name, Address: m.address, Zone: m.zone,
			Gossip: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
		},
		Cluster: m.cluster,
		Run:     m.run,
	})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.NotifyJoin(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.view.remove(n.Name) }

// epochBroadcast is named by node: a newer report invalidates the queued one,
// so the queue holds at most one per member.
type epochBroadcast struct {
	node    shardmap.NodeID
	message []byte
}

var _ memberlist.NamedBroadcast = (*epochBroadcast)(nil)

// Name implements memberlist.NamedBroadcast.
func (b *epochBroadcast) Name() string { return string(b.node) }

// Invalidates implements memberlist.Broadcast.
func (b *epochBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*epochBroadcast)
	return ok && o.node == b.node
}

// Message implements memberlist.Broadcast.
func (b *epochBroadcast) Message() []byte { return b.message }

// Finished implements memberlist.Broadcast.
func (b *epochBroadcast) Finished() {}
