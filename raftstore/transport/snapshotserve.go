package transport

import (
	"io"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// incoming is one snapshot that a peer sends to a replica of this node.
type incoming struct {
	net     *Network
	stream  peerv1.Peer_SendSnapshotServer
	steps   chan step
	stop    chan struct{} // closed when nobody takes steps any more
	node    shardmap.NodeID
	group   *Group
	to      SnapshotReceiver
	offer   *peerv1.SnapshotOffer
	settled chan settled // capacity 1
}

// step is what came, or the end of the stream.
type step struct {
	m   *peerv1.SnapshotChunk
	err error
}

// settled is what became of a snapshot that raft was given.
type settled struct {
	response raft.RPCResponse
	refusal  peerv1.Refusal
	detail   string
}

// ServeSnapshot takes part in a transfer that a peer began, until it is over or
// the Network closes. Its error is a gRPC status, as that of Serve.
func (n *Network) ServeSnapshot(stream peerv1.Peer_SendSnapshotServer) error {
	if !n.begin() {
		return wire.StatusFromError(errNetworkClosed())
	}
	defer n.workers.Done()
	in := &incoming{net: n, stream: stream, steps: make(chan step), stop: make(chan struct{}), settled: make(chan settled, 1)}
	defer close(in.stop)
	n.workers.Go(in.receive)
	if err := in.welcome(); err != nil {
		n.counts.refused.Add(1)
		return wire.StatusFromError(err)
	}
	return stream.Send(in.serve())
}

// receive passes on what comes. It ends with the stream, which ends when
// ServeSnapshot returns.
func (in *incoming) receive() {
	for {
		m, err := in.stream.Recv()
		select {
		case in.steps <- step{m, err}:
		case <-in.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// next waits for the next step, no longer than limit.
func (in *incoming) next(limit time.Duration) (*peerv1.SnapshotChunk, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var closed <-chan struct{}
	if in.group != nil {
		closed = in.group.closed
	}
	select {
	case s := <-in.steps:
		if s.err == io.EOF {
			return nil, kverr.New(kverr.Invalid, "the transfer ended before its end")
		}
		return s.m, s.err
	case <-timer.C:
		return nil, errStalled(in.node, limit)
	case <-closed:
		return nil, errGroupClosed(in.group.id)
	case <-in.net.ctx.Done():
		return nil, errNetworkClosed()
	}
}

// welcome takes the offer and checks who makes it.
func (in *incoming) welcome() error {
	first, err := in.next(openTimeout)
	if err != nil {
		return err
	}
	in.offer = first.GetOffer()
	in.node = shardmap.NodeID(in.offer.GetHello().GetFromNode())
	return in.net.checkHello(in.offer.GetHello(), in.node, peerv1.Lane_LANE_BULK)
}

// serve answers the last message of the transfer.
func (in *incoming) serve() *peerv1.SnapshotAnswer {
	counts := &in.net.counts
	g := in.net.receiver(in.offer.GetGroup(), shardmap.ReplicaID(in.offer.GetTo()))
	if g == nil {
		counts.refused.Add(1)
		return &peerv1.SnapshotAnswer{Refusal: peerv1.Refusal_REFUSAL_UNKNOWN_REPLICA}
	}
	if !g.beginReceiving() {
		counts.refused.Add(1)
		return refusedSnapshot(kverr.New(kverr.Overloaded, "a snapshot for this replica is on its way already"))
	}
	defer g.endReceiving()
	in.group = g
	if err := in.admit(); err != nil {
		counts.refused.Add(1)
		return refusedSnapshot(err)
	}
	counts.receiving.Add(1)
	defer counts.receiving.Add(-1)
	answer := in.take()
	if answer.GetResult().GetSuccess() {
		counts.received.Add(1)
	} else {
		counts.receivesFailed.Add(1)
		in.net.opts.Logger.Warn("a snapshot was not installed", "peer", in.node, "shard", g.id,
			"index", in.offer.GetLastIndex(), "refusal", answer.GetRefusal().String(), "detail", answer.GetDetail())
	}
	return answer
}

// beginReceiving reserves the replica for one snapshot, until raft has done with
// it: the state machine must never be given files that the next one removes.
func (g *Group) beginReceiving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.receiving {
		return false
	}
	g.mu.receiving = true
	return true
}

func (g *Group) endReceiving() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.receiving = false
}

// admit asks the owner.
func (in *incoming) admit() error {
	o := in.offer
	conf, err := decodeConfiguration(o.GetConfiguration())
	if err != nil {
		return err
	}
	if o.GetArcFrom() > uint32(shardmap.SlotEnd) || o.GetArcTo() > uint32(shardmap.SlotEnd) {
		return kverr.New(kverr.Invalid, "a snapshot of slots %d to %d", o.GetArcFrom(), o.GetArcTo())
	}
	admit := in.net.admit.Load()
	if admit == nil {
		return kverr.New(kverr.Overloaded, "this node does not take snapshots yet")
	}
	in.to, err = (*admit)(SnapshotOffer{
		Node: in.node, Group: o.GetGroup(), From: shardmap.ReplicaID(o.GetFrom()), To: in.group.replica,
		Term: o.GetTerm(), Index: o.GetLastIndex(), IndexTerm: o.GetLastTerm(),
		Configuration: conf, ConfigurationIndex: o.GetConfigurationIndex(),
		Arc:   shardmap.Arc{From: shardmap.Slot(o.GetArcFrom()), To: shardmap.Slot(o.GetArcTo())},
		Bytes: o.GetEstimatedBytes(), TableFormat: o.GetTableFormat(),
	})
	return err
}

// take receives the files and gives the descriptor to raft.
func (in *incoming) take() *peerv1.SnapshotAnswer {
	err := in.stream.Send(&peerv1.SnapshotAnswer{}) // admitted
	for over := false; !over && err == nil; {
		var m *peerv1.SnapshotChunk
		if m, err = in.next(in.net.opts.SnapshotStall); err == nil {
			over, err = in.keep(m)
		}
	}
	if err == nil {
		err = in.to.Check()
	}
	if err != nil {
		in.to.Abort()
		return refusedSnapshot(err)
	}
	return in.install()
}

// keep gives one step to the receiver; over after the last one.
func (in *incoming) keep(m *peerv1.SnapshotChunk) (over bool, err error) {
	switch {
	case len(m.GetData()) > 0:
		in.net.counts.bytesReceived.Add(uint64(len(m.GetData())))
		return false, in.to.Chunk(m.GetData(), m.GetCrc())
	case m.GetFileEnd() != nil:
		return false, in.to.EndFile(m.GetFileEnd().GetBytes(), m.GetFileEnd().GetSum())
	case m.GetEnd() != nil:
		e := m.GetEnd()
		return true, in.to.End(e.GetFiles(), e.GetBytes(), e.GetSum())
	}
	return false, kverr.New(kverr.Invalid, "a step that this build does not know")
}

// refusedSnapshot is the answer that carries an error.
func refusedSnapshot(err error) *peerv1.SnapshotAnswer {
	a := &peerv1.SnapshotAnswer{Refusal: peerv1.Refusal_REFUSAL_FAILED, Detail: err.Error()}
	switch kverr.KindOf(err) {
	case kverr.Overloaded:
		a.Refusal = peerv1.Refusal_REFUSAL_BUSY
	case kverr.Closed:
		a.Refusal = peerv1.Refusal_REFUSAL_CLOSED
	}
	return a
}
