package metrics

import "github.com/ringfort/ringfort/internal/version"

func addNode(b *book, from Sources) {
	build := section(b, "Build", "Which build runs.", func() []row[version.Info] {
		return []row[version.Info]{{labels: []string{from.Build.Version, from.Build.Commit, from.Build.Go}, value: from.Build}}
	}, "version", "commit", "go")
	build.gauge("ringfort_build_info", "1; the labels name the build.",
		"Nodes of different builds: is a rolling upgrade under way?", func(version.Info) float64 { return 1 })

	s := section(b, "Node", "The node as a whole, and whom it sees.", one(from.Node))
	s.gauge("ringfort_node_serving", "1 while the node belongs to a formed cluster and is not stopping.",
		"0 for longer than a start takes: /readyz says the phase.", func(f NodeFacts) float64 { return truth(f.Serving) })
	s.gauge("ringfort_node_uptime_seconds", "Time since the node started.",
		"Falls: it was restarted, and its log says why.", func(f NodeFacts) float64 { return f.UptimeSeconds })
	s.gauge("ringfort_node_map_epoch", "Epoch of the shard map that the node holds.",
		"Lower than on other nodes for more than seconds: the node is cut off.", func(f NodeFacts) float64 { return float64(f.MapEpoch) })
	s.gauge("ringfort_node_replicas_wanted", "Replicas that the shard map names on this node.",
		"Differs from ringfort_raft_replicas: replicas are missing or left over.", func(f NodeFacts) float64 { return float64(f.ReplicasWanted) })
	s.gauge("ringfort_gossip_members_alive", "Nodes that gossip sees alive, this one included.",
		"Below ringfort_gossip_members_known: nodes are down, or this one is cut off.", func(f NodeFacts) float64 { return float64(f.MembersAlive) })
	s.gauge("ringfort_gossip_members_known", "Nodes in the registry or seen by gossip.",
		"", func(f NodeFacts) float64 { return float64(f.MembersKnown) })
}
