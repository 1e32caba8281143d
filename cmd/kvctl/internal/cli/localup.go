package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

type localUpFlags struct {
	nodes, shards, factor, port int
	binary                      string
}

func (a *app) localUpCommand(f *localFlags) *cobra.Command {
	var up localUpFlags
	cmd := &cobra.Command{
		Use:   "up [-- NODE-FLAG…]",
		Short: "Start what does not run; returns when all shards have leaders",
		Long: `Start the nodes that do not run, form the cluster if it is new, and wait until
all shards have leaders. Repeating it is harmless: a cluster that is up is only
reported, nodes that were killed are started from their data, paused ones are
resumed, and more --nodes than there are join.

The context "local" is made current, so that the next kvctl put goes there.
Flags behind -- go to every kvnode that is started from now on, until others are
given; -- with nothing behind it forgets them. kvctl local status shows them. Flags
that kvnode refuses are not remembered, and nothing is started (exit code 2).`,
		Example: `  kvctl local up
  kvctl local up --nodes 5 --dir /tmp/five -- --log-level debug`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n := cmd.ArgsLenAtDash(); len(args) > 0 && n != 0 {
				return usageErrorf("flags for the nodes go behind --", "%s takes no argument", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.localUp(cmd, f, up, args) },
	}
	cmd.Flags().IntVar(&up.nodes, "nodes", 0, "number of nodes, 0 for those that exist or 3")
	cmd.Flags().IntVar(&up.shards, "shards", 0, "number of shards of a new cluster, 0 for the default")
	cmd.Flags().IntVar(&up.factor, "replication-factor", 0,
		"replicas of each shard of a new cluster, 0 for 3 or what the nodes allow")
	cmd.Flags().IntVar(&up.port, "first-port", 0,
		"where to look for free gRPC ports, 0 for where the first node is, or 7401")
	cmd.Flags().StringVar(&up.binary, "node-binary", "", "the kvnode to run, instead of the one beside kvctl or on $PATH")
	return cmd
}

func (a *app) localUp(cmd *cobra.Command, f *localFlags, up localUpFlags, nodeFlags []string) error {
	c, last, err := f.find(a)
	if err != nil {
		return err
	}
	if last {
		a.note("bringing back the cluster that was up last, in %s (--dir chooses another one)", c.Dir())
	}
	cfg := local.Config{
		Nodes: up.nodes, Shards: up.shards, ReplicationFactor: up.factor, Binary: up.binary, FirstPort: up.port,
		Note: func(s string) { a.note("%s", s) },
	}
	if cmd.ArgsLenAtDash() >= 0 {
		cfg.NodeFlags = append([]string{}, nodeFlags...) // nothing behind -- forgets them
	}
	if err := cfg.Validate(); err != nil {
		return usageErrorf("", "%w", err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), a.localTimeout())
	defer cancel()
	report, err := c.Up(ctx, cfg)
	if err != nil {
		return err
	}
	current := a.changeContext(func(file *config.File) bool { return file.SetLocal(c.Dir(), report.ClusterID, report.Endpoints()) })
	return a.printUp(c, report, current)
}

func (a *app) printUp(c *local.Cluster, report *local.Report, newContext bool) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			*local.Report
			Endpoints []string `json:"endpoints"`
			Seconds   float64  `json:"seconds"`
		}{report, report.Endpoints(), report.Took.Seconds()})
	}
	var rows []string
	for _, n := range report.Nodes {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", n.Name, n.Listen, n.Outcome, c.LogPath(n.Name)))
	}
	if err := a.table("NODE\tADDRESS\tNOW\tLOG", rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stdout, `
%d shards have leaders (%.1f s)

endpoints  %s
data       %s (kept until: %s)
try        kvctl put hello world
           kvctl get hello
stop       %s
`, report.Shards, report.Took.Seconds(), strings.Join(report.Endpoints(), ","), report.Dir,
		a.localHint("down --wipe"), a.localHint("down"))
	switch {
	case a.getenv(config.EnvEndpoints) != "":
		a.note("warning: %s is set, and outranks the context of this cluster", config.EnvEndpoints)
	case newContext:
		a.note("the context %q is current now: kvctl talks to this cluster", config.LocalContext)
	}
	return err
}
