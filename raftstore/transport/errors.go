package transport

import (
	"strconv"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func errNetworkClosed() error {
	return kverr.New(kverr.Closed, "the network of this node is closed")
}

func errGroupClosed(group uint64) error {
	return &kverr.Error{Kind: kverr.Closed, Shard: group, Message: "the group has left the network"}
}

func errSelf(node shardmap.NodeID) error {
	return kverr.New(kverr.Invalid, "a message from node %s to itself", node.Short())
}

func errQueueFull(node shardmap.NodeID) error {
	return &kverr.Error{Kind: kverr.Overloaded, Node: string(node), RetryAfter: 10 * time.Millisecond,
		Message: "too much waits to be sent to node " + node.Short()}
}

func errTooLarge(size int) error {
	return kverr.New(kverr.Invalid, "a message of %d bytes, above the limit of %d", size, MaxEnvelopeBytes)
}

func errLate(node shardmap.NodeID, limit time.Duration) error {
	return &kverr.Error{Kind: kverr.Unavailable, Node: string(node),
		Message: "no answer from node " + node.Short() + " within " + limit.String()}
}

func errDown(node shardmap.NodeID, cause error) error {
	e := kverr.New(kverr.Unavailable, "no stream to node %s: %w", node.Short(), cause)
	e.Node = string(node)
	return e
}

func errMismatch(node shardmap.NodeID) error {
	return &kverr.Error{Kind: kverr.Internal, Node: string(node),
		Message: "node " + node.Short() + " answered something else than it was asked"}
}

// refusalError is nil for an answer that carries no refusal. The text of a
// failure is raft's own: it compares one (see Message.detail).
func refusalError(node shardmap.NodeID, m *peerv1.Message) error {
	e := &kverr.Error{Kind: kverr.Unavailable, Shard: m.GetGroup(), Node: string(node)}
	switch m.GetRefusal() {
	case peerv1.Refusal_REFUSAL_NONE:
		return nil
	case peerv1.Refusal_REFUSAL_BUSY:
		e.Kind, e.Message = kverr.Overloaded, "the replica's queue is full"
	case peerv1.Refusal_REFUSAL_UNKNOWN_REPLICA:
		e.Message = "the node does not hold this replica"
	case peerv1.Refusal_REFUSAL_CLOSED:
		e.Message = "the replica is stopping"
	case peerv1.Refusal_REFUSAL_NO_SPACE:
		e.Kind, e.Message = kverr.NoSpace, "the replica's disk has no room for entries"
	default:
		e.Kind, e.Message = kverr.Internal, "the replica failed: "+m.GetDetail()
	}
	return e
}

func errStalled(node shardmap.NodeID, limit time.Duration) error {
	return &kverr.Error{Kind: kverr.Unavailable, Node: string(node),
		Message: "a snapshot's transfer with node " + node.Short() + " made no progress for " + limit.String()}
}

// errSnapshotRefused is what a peer that refused a snapshot said.
func errSnapshotRefused(node shardmap.NodeID, group uint64, a *peerv1.SnapshotAnswer) error {
	e := &kverr.Error{Kind: kverr.Unavailable, Shard: group, Node: string(node), Err: errRefused}
	switch a.GetRefusal() {
	case peerv1.Refusal_REFUSAL_BUSY:
		e.Kind, e.Message = kverr.Overloaded, "the peer is busy: "
	case peerv1.Refusal_REFUSAL_UNKNOWN_REPLICA:
		e.Message = "the peer does not hold this replica"
	case peerv1.Refusal_REFUSAL_CLOSED:
		e.Message = "the replica is stopping: "
	default:
		e.Message = "the peer refused: "
	}
	e.Message = "snapshot of shard " + strconv.FormatUint(group, 10) + " for node " + node.Short() + ": " + e.Message + a.GetDetail()
	return e
}
