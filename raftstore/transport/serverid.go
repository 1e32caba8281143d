package transport

import (
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const replicaMark = "/r"

// ServerID is how raft names a replica, as server id and as address alike:
// "<node>/r<replica>". Raft persists votes by address, so the name belongs to
// one incarnation of a replica and never to a host or port.
func ServerID(node shardmap.NodeID, replica shardmap.ReplicaID) raft.ServerID {
	return raft.ServerID(string(node) + replicaMark + strconv.FormatUint(uint64(replica), 10))
}

// ParseServerID is the inverse of ServerID. It accepts exactly what ServerID
// makes of a node id without a slash and a replica id above 0.
func ParseServerID(s string) (shardmap.NodeID, shardmap.ReplicaID, error) {
	node, digits, ok := strings.Cut(s, replicaMark)
	if !ok || node == "" || strings.Contains(node, "/") || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return "", 0, malformedServerID(s)
	}
	replica, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return "", 0, malformedServerID(s)
	}
	return shardmap.NodeID(node), shardmap.ReplicaID(replica), nil
}

func malformedServerID(s string) error {
	return kverr.New(kverr.Invalid, "%q does not name a replica: want <node>%s<number>", s, replicaMark)
}
