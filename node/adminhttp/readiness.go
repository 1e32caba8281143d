package adminhttp

import (
	"net/http"
	"slices"
)

// Readiness is whether a node serves, and how its replicas are.
//
// A node without a leader for one of its shards is ready: others may be fine
// (P8), and taking all replicas of that shard out of a load balancer would harm
// the rest. Shards tells them apart.
type Readiness struct {
	Ready bool   `json:"ready"`
	Phase string `json:"phase"`
	// Shards are the replicas on this node, by shard; never null.
	Shards []Shard `json:"shards"`
}

// Shard is one replica.
type Shard struct {
	Shard   uint64 `json:"shard"`
	Replica uint64 `json:"replica"`
	State   string `json:"state"` // as raft says
	// Ready: it leads and serves, or follows a leader.
	Ready  bool   `json:"ready"`
	Leader string `json:"leader,omitempty"` // node id
	Term   uint64 `json:"term"`
	// Applied lags behind Commit while the replica catches up.
	Commit   uint64  `json:"commit"`
	Applied  uint64  `json:"applied"`
	NoQuorum float64 `json:"no_quorum_s"`
}

func (r Readiness) allShards() bool {
	return !slices.ContainsFunc(r.Shards, func(s Shard) bool { return !s.Ready })
}

func (r Readiness) write(w http.ResponseWriter) {
	if r.Ready {
		writeText(w, http.StatusOK, "ok\n")
		return
	}
	writeText(w, http.StatusServiceUnavailable, "not ready: "+r.Phase+"\n")
}
