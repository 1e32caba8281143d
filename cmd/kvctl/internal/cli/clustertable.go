package cli

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/ringfort/ringfort/shardmap"
)

func (a *app) printStatus(s *clusterStatus) error {
	if a.wantsJSON() {
		return a.printJSON(s)
	}
	health := "healthy"
	if !s.Healthy {
		health = s.trouble()
	}
	fmt.Fprintf(a.stdout, "cluster %s: %s\n", s.ClusterID, health)
	for _, hint := range s.hints() {
		fmt.Fprintf(a.stdout, "hint: %s\n", hint)
	}
	fmt.Fprintf(a.stdout, "map epoch %d, replication factor %d\n\n", s.MapEpoch, s.Factor)
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
