package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/ringfort/ringfort/internal/version"
	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/raftstore"
)

// Sources is where the figures come from. All are required and may be called at
// any time, also before the node has started: then they say false.
type Sources struct {
	Build version.Info
	Node  func() (NodeFacts, bool)
	KV    func() (*kvserver.Server, bool)
	Store func() (*raftstore.Store, bool)
}

// NodeFacts is what the node knows beside its parts.
type NodeFacts struct {
	Serving        bool
	UptimeSeconds  float64
	MapEpoch       uint64
	MembersAlive   int // seen by gossip, this node too
	MembersKnown   int // of the registry and of gossip
	ReplicasWanted int // that the map names on this node
}

// Registry holds all metrics of one node, of the process and of the Go runtime.
func Registry(from Sources) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBook(from),
	)
	return r
}

// newBook writes all sections down, in the order of the documentation.
func newBook(from Sources) *book {
	b := &book{}
	addNode(b, from)
	addOperations(b, from)
	addServer(b, from)
	addScans(b, from)
	addWatches(b, from)
	addShards(b, from)
	addReplication(b, from)
	addReads(b, from)
	addWatchdog(b, from)
	addSnapshots(b, from)
	addLog(b, from)
	addDisk(b, from)
	addDatabaseEvents(b, from)
	addDatabases(b, from)
	return b
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
