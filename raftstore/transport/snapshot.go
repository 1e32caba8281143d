package transport

import (
	"context"
	"io"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// SnapshotSink takes a shard's tables in pieces; see package snapshot, whose Sink
// is the same type.
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

// SnapshotReceiver takes one admitted transfer. It belongs to one goroutine.
type SnapshotReceiver interface {
	SnapshotSink
	// Descriptor is what raft gets instead of the data, after End.
	Descriptor() []byte
	// Check refuses once more (rule L4). It is called before raft is given the
	// descriptor, and on raft's main loop when raft begins to read it; it must
	// not block.
	Check() error
	// Abort is called, once, when the transfer failed, unless raft may still be
	// using what was received.
	Abort()
}

// AdmitSnapshot decides about an offer to a replica that is registered here. It
// refuses with a kverr: Overloaded makes the sender ask again for some seconds.
// It is called from the goroutine of the transfer and may block for a moment.
type AdmitSnapshot func(SnapshotOffer) (SnapshotReceiver, error)

// OnSnapshot sets who admits snapshots. Call it before there is traffic; until
// then they are refused as busy.
func (n *Network) OnSnapshot(f func(SnapshotOffer) (SnapshotReceiver, error)) {
}

// ServeSnapshot takes part in a transfer that a peer began, until it is over or
// the Network closes.
func (n *Network) ServeSnapshot(stream peerv1.Peer_SendSnapshotServer) error {
	return kverr.New(kverr.Internal, "being built")
}

// Stats are running totals since New, and what goes on now.
type Stats struct {
	SnapshotsSending, SnapshotsReceiving     int64  // now, those that wait for their turn included
	SnapshotsSent, SnapshotsReceived         uint64 // installed by the receiver's raft
	SnapshotBytesSent, SnapshotBytesReceived uint64 // of failed transfers too
	SnapshotSendsFailed                      uint64 // refused ones included
	SnapshotReceivesFailed                   uint64 // admitted, and then not installed
	SnapshotOffersRefused                    uint64 // by this node
}

// Stats are the figures now.
func (n *Network) Stats() Stats { return Stats{} }
