package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
)

func (a *app) localStatusCommand(f *localFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the processes",
		Long: `Show the processes of the nodes and what each says about itself. States are
running, paused, dead (ended without being asked to), stopped, and new. Below
are the directory, and --node-binary and the flags behind -- of kvctl local up
that nodes get at their next start.

ADMIN is where a node serves HTTP: /metrics, /readyz, /debug/pprof/ and more. It
gets a free port at each start, unless --admin-listen was given behind the -- of
kvctl local up.

-o json prints dir and nodes; nodes have name, state, pid, address,
admin_address, started_at, data_dir, log, node_id, phase, version and problem.

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
			binary, flags, err := c.Options()
			if err != nil {
				return err
			}
			return a.printLocalStatus(c, nodes, binary, flags)
		},
	}
}

func (a *app) printLocalStatus(c *local.Cluster, nodes []local.NodeStatus, binary string, flags []string) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			Dir    string             `json:"dir"`
			Binary string             `json:"node_binary,omitempty"`
			Flags  []string           `json:"node_flags"`
			Nodes  []local.NodeStatus `json:"nodes"`
		}{c.Dir(), binary, append([]string{}, flags...), nodes})
	}
	var rows []string
	for _, n := range nodes {
		pid, admin, phase := "-", cmp.Or(n.AdminAddress, "-"), n.Phase
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		if n.Problem != "" {
			phase = n.Problem
		}
		if phase == "" {
			phase = "-"
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", n.Name, n.State, pid, n.Address, admin, n.Log, phase))
	}
	if err := a.table("NODE\tSTATE\tPID\tADDRESS\tADMIN\tLOG\tPHASE", rows); err != nil {
		return err
	}
	footer := "\ndirectory   " + c.Dir() + "\n"
	if binary != "" {
		footer += "kvnode      " + binary + "\n"
	}
	if len(flags) > 0 {
		footer += "node flags  " + shellLine(flags) + "\n"
	}
	_, err := fmt.Fprint(a.stdout, footer)
	return err
}

// shellLine shows words as one would type them.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = shellQuote(w)
	}
	return strings.Join(quoted, " ")
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
