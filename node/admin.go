package node

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ringfort/ringfort/internal/version"
	"github.com/ringfort/ringfort/node/adminhttp"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/kvserver"
	"github.com/ringfort/ringfort/node/metrics"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// phaseStarting is the phase before the node has started, which only the admin
// listener can show.
const phaseStarting = "starting"

// admin is the node's HTTP listener. All methods may be called on nil: there is
// none then.
type admin struct {
	server  *adminhttp.Server
	address string
}

func (a *admin) addr() string {
	if a == nil {
		return ""
	}
	return a.address
}

func (a *admin) close() error {
	if a == nil {
		return nil
	}
	return a.server.Close()
}

// openAdmin begins to answer on the admin listener. What needs the node's parts
// is refused until the node has started.
func (n *Node) openAdmin() error {
	if n.cfg.AdminListen == "" {
		return nil
	}
	listener, err := n.listenAdmin()
	if err != nil {
		return err
	}
	n.admin = &admin{
		address: adminAddress(n.cfg.AdminListen, listener.Addr(), n.self.Address),
		server: adminhttp.Start(adminhttp.Options{
			Listener: listener, TLS: n.serverTLS, Readiness: n.readiness, Metrics: n.metricsHandler(), Logger: n.log,
		}),
	}
	return nil
}

// listenAdmin makes do with another port only where nobody named one: several
// nodes on a machine are told apart by --listen, and none should refuse to start
// for an address that was not asked for.
func (n *Node) listenAdmin() (net.Listener, error) {
	wanted := n.cfg.AdminListen
	listener, err := n.deps.Listen(wanted)
	if errors.Is(err, syscall.EADDRINUSE) && wanted == config.DefaultAdminListen {
		n.log.Warn("the default admin address is taken: using a free port; --admin-listen chooses one", "taken", wanted)
		listener, err = n.deps.Listen("127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (--admin-listen): %w", wanted, err)
	}
	return listener, nil
}

// adminAddress is where the listener is reached: a port that was left open is
// filled in, and so is the host of a listener on all addresses.
func adminAddress(asked string, bound net.Addr, advertised string) string {
	host, port, err := net.SplitHostPort(asked)
	if err != nil {
		return asked
	}
	if _, p, err := net.SplitHostPort(bound.String()); err == nil { // in tests it may be no such address
		port = p
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if h, _, err := net.SplitHostPort(advertised); err == nil {
			host = h
		}
	}
	return net.JoinHostPort(host, port)
}

// hasStarted reports whether all parts of the node are there.
func (n *Node) hasStarted() bool {
	select {
	case <-n.started:
		return true
	default:
		return false
	}
}

// readiness is what /readyz shows. It answers from memory.
func (n *Node) readiness() adminhttp.Readiness {
	r := adminhttp.Readiness{Phase: phaseStarting, Shards: []adminhttp.Shard{}}
	if !n.hasStarted() {
		return r
	}
	r.Phase = n.phase()
	r.Ready = r.Phase == phaseServing
	for _, g := range n.store.Load().Groups() {
		r.Shards = append(r.Shards, shardReadiness(g.Status()))
	}
	return r
}

func shardReadiness(st raftstore.Status) adminhttp.Shard {
	return adminhttp.Shard{
		Shard: uint64(st.Shard), Replica: uint64(st.Replica), State: st.State, Leader: string(st.Leader), Term: st.Term,
		Ready:  st.Ready || st.State == "follower" && st.Leader != "",
		Commit: st.Commit, Applied: st.Applied, NoQuorum: st.NoQuorumFor.Seconds(),
	}
}

// metricsHandler serves the registry. A group of metrics that cannot be had is
// left out; the rest is served.
func (n *Node) metricsHandler() http.Handler {
	return promhttp.HandlerFor(metrics.Registry(n.metricsSources()), promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

// metricsSources are the parts of the node, once it has started.
func (n *Node) metricsSources() metrics.Sources {
	build := version.Get()
	build.Version = n.deps.Version
	return metrics.Sources{
		Build: build,
		Node: func() (metrics.NodeFacts, bool) {
			if !n.hasStarted() {
				return metrics.NodeFacts{}, false
			}
			return n.facts(), true
		},
		KV: func() (*kvserver.Server, bool) {
			if !n.hasStarted() {
				return nil, false
			}
			return n.kv, true
		},
		Store: func() (*raftstore.Store, bool) {
			if !n.hasStarted() {
				return nil, false
			}
			return n.store.Load(), true
		},
	}
}

func (n *Node) facts() metrics.NodeFacts {
	m := n.maps.Map()
	f := metrics.NodeFacts{
		Serving: n.phase() == phaseServing, MapEpoch: m.Epoch(),
		UptimeSeconds: (n.deps.Clock.Mono() - n.startedAt).Seconds(),
	}
	known := map[shardmap.NodeID]bool{n.self.ID: true}
	for _, node := range m.Nodes() {
		known[node.ID] = true
	}
	for _, member := range n.gossip.Members() {
		known[member.ID] = true
		f.MembersAlive++
	}
	f.MembersKnown = len(known)
	for _, rec := range m.Records() {
		if _, here := rec.On(n.self.ID); here {
			f.ReplicasWanted++
		}
	}
	return f
}
