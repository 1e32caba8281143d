package cli

import (
	"cmp"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func (a *app) clusterShardsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "shards",
		Short: "Show the shards and every replica of each",
		Long: `Show the shards and every replica of each: how far it has applied its log, what
is committed, and how large its log is. RAFT is what the replica says it is, - when
its node did not answer. A quarantined replica does not run, because its data or log
cannot be trusted; PROBLEM says why, and what else is wrong with a replica.

-o json prints cluster_id, map_epoch and shards; shards have id, system, from and
to (slots [from,to)), arc_epoch, member_epoch, leader (null when none is known),
ready, term, applied, commit, no_quorum_s, no_quorum_since and replicas; replicas
have id, node, node_id, role, state, applied, commit, term, first_index,
last_index, log_bytes (null when not known), ready, queued_writes, queued_bytes,
request_records, request_clients and problem.

-o raw prints one line per replica, without a header and with tabs between:
shard, from, to, state of the shard, node, replica, role, state of the replica,
term, applied, commit, log_bytes, problem.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: allOutputs},
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.askStatus(cmd.Context())
			if err != nil {
				return err
			}
			return a.printShards(status)
		},
	}
}

func (a *app) printShards(s *clusterStatus) error {
	switch a.settings.Output {
	case "json":
		return a.printJSON(struct {
			ClusterID string        `json:"cluster_id"`
			MapEpoch  uint64        `json:"map_epoch"`
			Shards    []shardStatus `json:"shards"`
		}{s.ClusterID, s.MapEpoch, s.Shards})
	case "raw":
		for _, shard := range s.Shards {
			for _, r := range shard.Replicas {
				fmt.Fprintln(a.stdout, fields(shard.ID, shard.From, shard.To, shard.state(), r.node(), r.ID, r.Role,
					cmp.Or(r.State, "-"), r.Term, r.Applied, r.Commit, orDash(r.LogBytes), oneLine("", r.Problem)))
			}
		}
		return nil
	}
	var rows []string
	for _, shard := range s.Shards {
		name, slots := shard.cells()
		head := fields(name, slots, shard.state())
		for _, r := range shard.Replicas {
			rows = append(rows, head+"\t"+r.row())
			head = "\t\t" // once is enough for people
		}
	}
	return a.table("SHARD\tSLOTS\tSTATE\t"+replicaHeader, rows)
}

const replicaHeader = "NODE\tREPLICA\tROLE\tRAFT\tTERM\tAPPLIED\tCOMMIT\tLOG\tPROBLEM"

func (r replicaStatus) row() string {
	if r.State == "" || r.State == stateQuarantined { // nothing is known of it, or to be had
		return fields(r.node(), r.ID, r.Role, cmp.Or(r.State, "-"), "-", "-", "-", "-", oneLine("", r.Problem))
	}
	size := "-"
	if r.LogBytes != nil {
		size = humanize.IBytes(*r.LogBytes)
	}
	return fields(r.node(), r.ID, r.Role, r.State, r.Term, r.Applied, r.Commit, size, oneLine("", r.Problem))
}
