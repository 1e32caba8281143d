package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Levels of a node's disk space and states of a replica, as nodes tell them.
const (
	spaceLow         = "low"
	spaceCritical    = "critical"
	stateQuarantined = "quarantined"
)

// problem is something that keeps the cluster from being healthy.
type problem struct {
	What string `json:"what"`
	Hint string `json:"hint"` // what a person could do; empty when there is nothing to say
}

// diskSpace is what a node says of the disk under its databases.
type diskSpace struct {
	Level string  `json:"space_level"` // ok, low or critical; empty when it did not say
	Free  *uint64 `json:"free_bytes"`  // null when it did not say, or its disk does not tell
	Total uint64  `json:"total_bytes"` // 0 then
	LowAt uint64  `json:"low_bytes"`   // free space below which the level is low
	Dir   string  `json:"store_dir"`
	Hangs bool    `json:"disk_hangs"`
}

func spaceOf(d *adminv1.DiskUsage) diskSpace {
	if d == nil {
		return diskSpace{}
	}
	return diskSpace{
		Level: d.GetSpaceLevel(), Free: d.FreeBytes, Total: d.GetTotalBytes(), LowAt: d.GetLowBytes(),
		Dir: d.GetDir(), Hangs: d.GetHangs(),
	}
}

// cells are how tables show it: the level and what is free.
func (d diskSpace) cells() string {
	free := "-"
	if d.Free != nil {
		free = humanize.IBytes(*d.Free)
	}
	return fields(cmp.Or(d.Level, "-"), free)
}

// sentence is cells for somebody who has room to read.
func (d diskSpace) sentence() string {
	if d.Free == nil {
		return cmp.Or(d.Level, "-")
	}
	return fmt.Sprintf("%s: %s free of %s, low below %s", cmp.Or(d.Level, "-"),
		humanize.IBytes(*d.Free), humanize.IBytes(d.Total), humanize.IBytes(d.LowAt))
}

// free says how much there is, as an aside.
func (d diskSpace) free() string {
	if d.Free == nil {
		return ""
	}
	return " (" + humanize.IBytes(*d.Free) + " free)"
}

// problems are what a node's disk is in for.
func (d diskSpace) problems(node string) []problem {
	var all []problem
	hint := "free space on " + node
	if d.Dir != "" {
		hint += ", in the file system of " + d.Dir
	}
	hint += ", or make it larger: the node takes everything on again within seconds, by itself"
	switch d.Level {
	case spaceLow:
		all = append(all, problem{What: fmt.Sprintf("%s is low on disk space%s: shards led there refuse puts", node, d.free()), Hint: hint})
	case spaceCritical:
		all = append(all, problem{Hint: hint, What: fmt.Sprintf(
			"%s has next to no disk space%s: shards led there refuse writes but for a few deletes, and its replicas fall behind", node, d.free())})
	}
	if d.Hangs {
		all = append(all, problem{
			What: fmt.Sprintf("the disk of %s hangs: its replicas are silent", node),
			Hint: fmt.Sprintf("look at the disk of %s: unless it comes back within seconds, the node ends with exit code 7", node),
		})
	}
	return all
}

// findProblems lists what keeps the cluster from being healthy: nodes first, then
// shards, then replicas.
func (s *clusterStatus) findProblems() []problem {
	all := []problem{}
	hangs := make(map[string]bool)
	var away []string
	for _, n := range s.Nodes {
		if !n.Reachable {
			away = append(away, n.Name)
			all = append(all, problem{
				What: n.Name + " is not reachable",
				Hint: "start kvnode there again, or look at its log and at the network between; kvctl local up starts nodes of this machine",
			})
		}
		all = append(all, n.problems(n.Name)...)
		hangs[n.ID] = n.Hangs
	}
	all = append(all, s.unserved(away)...)
	if len(s.Shards) == 0 {
		all = append(all, problem{What: "it has no shards"})
	}
	for _, shard := range s.Shards {
		for _, r := range shard.Replicas {
			switch {
			case r.State == stateQuarantined:
				all = append(all, problem{
					What: fmt.Sprintf("shard %d's replica on %s is quarantined", shard.ID, r.node()),
					Hint: "kvctl cluster shards shows why a replica is quarantined; its shard goes on while a majority of the others is sound",
				})
			case r.Problem != "" && !hangs[r.NodeID]: // what holds for a whole node is said once
				all = append(all, problem{
					What: fmt.Sprintf("shard %d's replica on %s: %s", shard.ID, r.node(), oneLine("", r.Problem)),
					Hint: "kvctl cluster nodes shows the disks of all nodes",
				})
			}
		}
	}
	return all
}

// trouble says in words what keeps the cluster from being healthy.
func (s *clusterStatus) trouble() string {
	var parts []string
	for _, p := range s.Problems {
		parts = append(parts, p.What)
	}
	return strings.Join(parts, "; ")
}

// hints are what to do about the problems, each once.
func (s *clusterStatus) hints() []string {
	var hints []string
	for _, p := range s.Problems {
		if p.Hint != "" && !slices.Contains(hints, p.Hint) {
			hints = append(hints, p.Hint)
		}
	}
	return hints
}

// leaderless names the shards without a leader that serves; empty if all have
// one.
func (s *clusterStatus) leaderless() string {
	ids := s.unservedIDs()
	switch {
	case len(s.Shards) == 0:
		return "it has no shards"
	case len(ids) > 0:
		return "no leader serves shard " + strings.Join(ids, ", ")
	}
	return ""
}

// unservedIDs are the shards without a leader that serves.
func (s *clusterStatus) unservedIDs() (ids []string) {
	for _, shard := range s.Shards {
		if shard.Leader == nil || !shard.Ready {
			ids = append(ids, fmt.Sprint(shard.ID))
		}
	}
	return ids
}

// node is the name of the replica's node, or what there is instead of one.
func (r replicaStatus) node() string { return cmp.Or(r.Node, shardmap.NodeID(r.NodeID).Short()) }

// unserved is the shards that nobody serves, as one problem, and what may be the
// reason; away are the nodes that cannot be reached.
func (s *clusterStatus) unserved(away []string) []problem {
	ids := s.unservedIDs()
	hint := "an election takes a second or two: look again; then kvctl cluster shards shows each replica"
	if len(away) > 0 {
		hint = "a shard needs a majority of its replicas: bring back " + strings.Join(away, " or ") +
			", unless an election is going on, which takes a second or two"
	}
	switch n := len(ids); {
	case n == 0:
		return nil
	case n == 1:
		return []problem{{What: "shard " + ids[0] + " has no leader that serves", Hint: hint}}
	case n <= 3:
		return []problem{{What: "shards " + strings.Join(ids, ", ") + " have no leader that serves", Hint: hint}}
	}
	return []problem{{What: fmt.Sprintf("%d of %d shards have no leader that serves", len(ids), len(s.Shards)), Hint: hint}}
}
