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

func (s shardStatus) row() string {
	name, slots, leader := fmt.Sprint(s.ID), fmt.Sprintf("%d-%d", s.From, s.To-1), "-"
	if s.System {
		name, slots = name+" (system)", "-"
	}
	if s.Leader != nil {
		leader = cmp.Or(s.Leader.Name, shardmap.NodeID(s.Leader.ID).Short())
	}
	var members []string
	for _, r := range s.Replicas {
		member := cmp.Or(r.Node, shardmap.NodeID(r.NodeID).Short())
		if r.Role == "learner" {
			member += " (learner)"
		}
		members = append(members, member)
	}
	state := "ready"
	switch {
	case s.NoQuorum > 0:
		state = fmt.Sprintf("no quorum for %.1f s", s.NoQuorum)
	case s.Leader == nil:
		state = "no leader"
	case !s.Ready:
		state = "not serving yet"
	}
	return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%s\t%s", name, slots, leader, s.Term, s.Applied, strings.Join(members, " "), state)
}
