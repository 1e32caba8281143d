package transport

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// SnapshotSink takes a shard's tables in pieces; see package snapshot, whose Sink
// is the same type. A receiver may change the bytes it is given.
type SnapshotSink = interface {
	Chunk(data []byte, crc uint32) error
	EndFile(bytes, sum uint64) error
	End(files, bytes, sum uint64) error
}

// SnapshotView is what raft's snapshot store must give to InstallSnapshot.
type SnapshotView interface {
	io.ReadCloser
	Arc() shardmap.Arc
	EstimatedBytes() uint64
	TableFormat() uint32
	// Stream gives all of it to the sink. It ends soon after ctx does, or after the
	// sink failed, with that error.
	Stream(ctx context.Context, to SnapshotSink) error
}

// SnapshotOffer is what a peer wants to send to a replica of this node, as its
// raft asked for it.
type SnapshotOffer struct {
	Node               shardmap.NodeID // who offers
	Group              uint64
	From, To           shardmap.ReplicaID
	Term               uint64 // the sender's
	Index              uint64 // of the last entry in the state
	IndexTerm          uint64 // of that entry
	Configuration      raft.Configuration
	ConfigurationIndex uint64
	Arc                shardmap.Arc
	Bytes              uint64 // about
	TableFormat        uint32
}

// SnapshotReceiver takes one admitted transfer. Calls come one after the other.
type SnapshotReceiver interface {
	SnapshotSink
	// Descriptor is what raft gets instead of the data, after End.
	Descriptor() []byte
	// Check refuses once more (rule L4). It is called before raft is given the
	// descriptor, and on raft's main loop when raft begins to read it; it must
	// not block. Entries that raft has committed before may still be on their way
	// to the state machine then, so the state machine must check for the last time.
	Check() error
	// Abort is called, once, when the transfer failed, unless raft may still be
	// using what was received: when its group closed while raft was at it.
	Abort()
}

// AdmitSnapshot decides about an offer to a replica that is registered here. It
// refuses with a kverr: Overloaded makes the sender ask again for some seconds.
// It is called from the goroutine of the transfer and may block for a moment.
type AdmitSnapshot func(SnapshotOffer) (SnapshotReceiver, error)

// OnSnapshot sets who admits snapshots. Call it before there is traffic; until
// then they are refused as busy.
func (n *Network) OnSnapshot(f func(SnapshotOffer) (SnapshotReceiver, error)) {
	admit := AdmitSnapshot(f)
	n.admit.Store(&admit)
}

// Stats are running totals since New, and what goes on now.
type Stats struct {
	SnapshotsSending, SnapshotsReceiving     int64  // now; those that wait for their turn included
	SnapshotsSent, SnapshotsReceived         uint64 // installed by the receiver's raft
	SnapshotBytesSent, SnapshotBytesReceived uint64 // of failed transfers too
	SnapshotSendsFailed                      uint64 // refused and superseded ones included
	SnapshotReceivesFailed                   uint64 // admitted, and then not known to be installed
	SnapshotOffersRefused                    uint64 // by this node
}

type snapshotCounts struct {
	sending, receiving          atomic.Int64
	sent, received              atomic.Uint64
	bytesSent, bytesReceived    atomic.Uint64
	sendsFailed, receivesFailed atomic.Uint64
	refused                     atomic.Uint64
}

// Stats are the figures now.
func (n *Network) Stats() Stats {
	c := &n.counts
	return Stats{
		SnapshotsSending: c.sending.Load(), SnapshotsReceiving: c.receiving.Load(),
		SnapshotsSent: c.sent.Load(), SnapshotsReceived: c.received.Load(),
		SnapshotBytesSent: c.bytesSent.Load(), SnapshotBytesReceived: c.bytesReceived.Load(),
		SnapshotSendsFailed: c.sendsFailed.Load(), SnapshotReceivesFailed: c.receivesFailed.Load(),
		SnapshotOffersRefused: c.refused.Load(),
	}
}

// decodeConfiguration is raft's, which panics at what is not a configuration.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = kverr.New(kverr.Invalid, "malformed raft configuration: %v", r)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}
