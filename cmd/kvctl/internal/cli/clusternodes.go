package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/shardmap"
)

func (a *app) clusterNodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "Show the nodes",
		Long: `Show the nodes: who is reachable, what each holds and leads, what that takes on
its disk, and how much the disk has left. STATE is reachable, silent (gossip sees
it, the asked node cannot reach it) or down. SPACE is ok, low (shards led there
refuse puts) or critical (they refuse writes but for a few deletes, and the node's
replicas fall behind); FREE is the free space, - where the disk does not tell.

-o json prints cluster_id and nodes; nodes have name, id, address,
gossip_address, zone, reachable, alive, version, map_epoch, replicas, leaders,
note, phase, admin_address, uptime_s, log_bytes, state_bytes, space_level,
free_bytes (null when not known), total_bytes, low_bytes (below which the level is
low), store_dir and disk_hangs. What only the node itself knows is empty or 0 when
it is not reachable.

-o raw prints one line per node, without a header and with tabs between: name,
id, address, admin_address, zone, state, phase, replicas, leaders, log_bytes,
state_bytes, version, uptime_s, space_level, free_bytes.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: allOutputs},
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := a.askStatus(cmd.Context())
			if err != nil {
				return err
			}
			return a.printNodes(status)
		},
	}
}

func (a *app) printNodes(s *clusterStatus) error {
	switch a.settings.Output {
	case "json":
		return a.printJSON(struct {
			ClusterID string       `json:"cluster_id"`
			Nodes     []nodeStatus `json:"nodes"`
		}{s.ClusterID, s.Nodes})
	case "raw":
		for _, n := range s.Nodes {
			fmt.Fprintln(a.stdout, fields(n.Name, n.ID, n.Address, n.AdminAddress, n.Zone, n.state(), n.Phase, n.Replicas,
				n.Leaders, n.LogBytes, n.StateBytes, n.Version, n.Uptime, cmp.Or(n.Level, "-"), orDash(n.Free)))
		}
		return nil
	}
	var rows []string
	for _, n := range s.Nodes {
		disk, uptime := "-\t-", "-"
		if n.Reachable {
			disk = humanize.IBytes(n.LogBytes) + "\t" + humanize.IBytes(n.StateBytes)
			uptime = age(n.Uptime)
		}
		rows = append(rows, fields(n.Name, shardmap.NodeID(n.ID).Short(), cmp.Or(n.Zone, "-"), n.Address,
			cmp.Or(n.AdminAddress, "-"), n.state(), cmp.Or(n.Phase, "-"), n.Replicas, n.Leaders, disk, n.cells(), n.Version, uptime,
			n.Note))
	}
	return a.table("NODE\tID\tZONE\tADDRESS\tADMIN\tSTATE\tPHASE\tREPLICAS\tLEADERS\tLOG\tDATA\tSPACE\tFREE\tVERSION\tUPTIME\tNOTE", rows)
}

// orDash is a number that may not be known.
func orDash(n *uint64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// fields joins the cells of a line.
func fields(cells ...any) string {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = fmt.Sprint(c)
	}
	return strings.Join(words, "\t")
}

// age is a time in seconds for people.
func age(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}
