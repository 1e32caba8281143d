package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
)

func (a *app) localStatusCommand(f *localFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the processes",
		Long: `Show the processes of the nodes and what each says about itself. States are
running, paused, dead (ended without being asked to), stopped, and new.

For shards and leaders see kvctl cluster status.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.cluster(a)
			if err != nil {
				return err
			}
			nodes, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.printLocalStatus(c, nodes)
		},
	}
}

func (a *app) printLocalStatus(c *local.Cluster, nodes []local.NodeStatus) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			Dir   string             `json:"dir"`
			Nodes []local.NodeStatus `json:"nodes"`
		}{c.Dir(), nodes})
	}
	var rows []string
	for _, n := range nodes {
		pid, phase := "-", n.Phase
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		if n.Problem != "" {
			phase = n.Problem
		}
		if phase == "" {
			phase = "-"
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", n.Name, n.State, pid, n.Address, n.Log, phase))
	}
	return a.table("NODE\tSTATE\tPID\tADDRESS\tLOG\tPHASE", rows)
}

func (a *app) localLogsCommand(f *localFlags) *cobra.Command {
	var opts local.LogOptions
	cmd := &cobra.Command{
		Use:               "logs [NODE…]",
		Short:             "Print the logs of nodes",
		Example:           "  kvctl local logs -f n2",
		ValidArgsFunction: a.completeNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.cluster(a)
			if err != nil {
				return err
			}
			opts.Names = slices.Compact(args)
			return c.Logs(cmd.Context(), a.stdout, opts)
		},
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "go on with what is written, until interrupted")
	cmd.Flags().IntVarP(&opts.Tail, "tail", "n", 100, "start with the last so many lines of each, -1 for all")
	return cmd
}
