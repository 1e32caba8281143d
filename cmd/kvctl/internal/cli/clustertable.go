package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ringfort/ringfort/shardmap"
)

// trouble says in words what keeps the cluster from being healthy.
func (s *clusterStatus) trouble() string {
	var parts []string
	for _, n := range s.Nodes {
		if !n.Reachable {
			parts = append(parts, n.Name+" is not reachable")
		}
	}
	for _, shard := range s.Shards {
		if shard.Leader == nil || !shard.Ready {
			parts = append(parts, fmt.Sprintf("shard %d has no leader that serves", shard.ID))
		}
	}
	if len(s.Shards) == 0 {
		parts = append(parts, "it has no shards")
	}
	return strings.Join(parts, "; ")
}

// leaderless names the shards without a leader that serves; empty if all have
// one.
func (s *clusterStatus) leaderless() string {
	var ids []string
	for _, shard := range s.Shards {
		if shard.Leader == nil || !shard.Ready {
			ids = append(ids, fmt.Sprint(shard.ID))
		}
	}
	switch {
	case len(s.Shards) == 0:
		return "it has no shards"
	case len(ids) > 0:
		return "no leader serves shard " + strings.Join(ids, ", ")
	}
	return ""
}

func (a *app) printStatus(s *clusterStatus) error {
	if a.wantsJSON() {
		return a.printJSON(s)
	}
	health := "healthy"
	if !s.Healthy {
		health = s.trouble()
	}
	fmt.Fprintf(a.stdout, "cluster %s: %s\nmap epoch %d, replication factor %d\n\n", s.ClusterID, health, s.MapEpoch, s.Factor)
	var rows []string
	for _, n := range s.Nodes {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s",
			n.Name, shardmap.NodeID(n.ID).Short(), n.Address, n.state(), n.Replicas, n.Leaders, n.Version, n.Note))
	}
	if err := a.table("NODE\tID\tADDRESS\tSTATE\tREPLICAS\tLEADERS\tVERSION\tNOTE", rows); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	rows = nil
	for _, shard := range s.Shards {
		rows = append(rows, shard.row())
	}
	return a.table("SHARD\tSLOTS\tLEADER\tTERM\tAPPLIED\tREPLICAS\tSTATE", rows)
}

func (n nodeStatus) state() string {
	switch {
	case n.Reachable:
		return "reachable"
	case n.Alive:
		return "silent" // gossip sees it, the asked node cannot reach it
	}
	return "down"
}

// cells are how tables show which shard it is.
func (s shardStatus) cells() (name, slots string) {
	if s.System {
		return fmt.Sprintf("%d (system)", s.ID), "-"
	}
	return fmt.Sprint(s.ID), fmt.Sprintf("%d-%d", s.From, s.To-1)
}

func (s shardStatus) state() string {
	switch {
	case s.NoQuorum > 0:
		return fmt.Sprintf("no quorum for %.1f s", s.NoQuorum)
	case s.Leader == nil:
		return "no leader"
	case !s.Ready:
		return "not serving yet"
	}
	return "ready"
}

// node is the name of the replica's node, or what there is instead of one.
func (r replicaStatus) node() string { return cmp.Or(r.Node, shardmap.NodeID(r.NodeID).Short()) }

func (s shardStatus) row() string {
	name, slots := s.cells()
	leader := "-"
	if s.Leader != nil {
		leader = cmp.Or(s.Leader.Name, shardmap.NodeID(s.Leader.ID).Short())
	}
	var members []string
	for _, r := range s.Replicas {
		member := r.node()
		if r.Role == "learner" {
			member += " (learner)"
		}
		members = append(members, member)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s\t%s", name, slots, leader, s.Term, s.Applied, strings.Join(members, " "), s.state())
}
