package transport

import (
	"slices"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// hello introduces this node to a peer.
func (n *Network) hello(to shardmap.NodeID, lane peerv1.Lane) (*peerv1.Hello, error) {
	cluster := n.opts.ClusterID()
	if cluster == "" {
		return nil, kverr.New(kverr.NotInitialized, "this node belongs to no cluster yet")
	}
	return &peerv1.Hello{
		Format: Format, ClusterId: cluster, FromNode: string(n.opts.Self), ToNode: string(to), Lane: lane,
	}, nil
}

// checkHello judges what a peer says of itself, on a stream that may be of one of
// the lanes. The format comes first: in an unknown one nothing else can be trusted
// to mean what it says.
func (n *Network) checkHello(h *peerv1.Hello, from shardmap.NodeID, lanes ...peerv1.Lane) error {
	cluster := n.opts.ClusterID()
	switch {
	case h == nil:
		return kverr.New(kverr.Format, "the first envelope of the stream carries no hello")
	case h.GetFormat() != Format:
		return kverr.New(kverr.Format, "peer format %d, this build speaks %d only", h.GetFormat(), Format)
	case cluster == "":
		return kverr.New(kverr.NotInitialized, "this node belongs to no cluster yet")
	case h.GetClusterId() != cluster:
		return kverr.New(kverr.WrongCluster, "peer belongs to cluster %q, this node to %q", h.GetClusterId(), cluster)
	case h.GetToNode() != string(n.opts.Self):
		// An address that now belongs to another node.
		return kverr.New(kverr.Unavailable, "node %q is not here; this is %q", h.GetToNode(), n.opts.Self)
	case h.GetFromNode() != string(from) || from == "" || from == n.opts.Self:
		return kverr.New(kverr.Invalid, "hello from node %q, expected %q", h.GetFromNode(), from)
	case !slices.Contains(lanes, h.GetLane()):
		return kverr.New(kverr.Format, "lane %s, expected one of %s", h.GetLane(), lanes)
	}
	return nil
}
