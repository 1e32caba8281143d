package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// defaultLocalDir is where a local cluster lives that nobody chose a place for.
const defaultLocalDir = ".ringfort-local"

// localTimeout is how long a verb of local may take unless --timeout says
// otherwise.
const localTimeout = 60 * time.Second

// localFlags are shared by the verbs of local.
type localFlags struct{ dir string }

func (a *app) localCommand() *cobra.Command {
	var f localFlags
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run a cluster of real processes on this machine",
		Long: `Run a cluster of real processes on this machine: kill -9 of one of its nodes is
as real as anywhere. Nodes are named n1, n2, … and outlive kvctl.

Everything about a cluster is in one directory: --dir, else the one that the
context "local" leads to, else ` + defaultLocalDir + ` here.`,
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", "", "directory of the cluster")
	cmd.AddCommand(
		a.localUpCommand(&f), a.localDownCommand(&f), a.localStatusCommand(&f), a.localLogsCommand(&f),
		a.localKillCommand(&f), a.localPauseCommand(&f), a.localResumeCommand(&f), a.localRestartCommand(&f),
	)
	parent(cmd)
	return cmd
}

// cluster is the local cluster that the flags mean.
func (f *localFlags) cluster(a *app) (*local.Cluster, error) {
	if f.dir != "" {
		return local.At(f.dir)
	}
	if path, err := config.Path(a.getenv); err == nil {
		// A damaged file is reported when it is written, and matters no more here
		// than no file.
		if file, err := config.Load(path); err == nil && file.LocalDir() != "" {
			if c, err := local.At(file.LocalDir()); err == nil && c.Exists() {
				return c, nil
			}
		}
	}
	return local.At(defaultLocalDir)
}

func (a *app) localTimeout() time.Duration {
	if a.settings.TimeoutGiven {
		return a.settings.Timeout
	}
	return localTimeout
}

// changeContext applies a change to the context file. That it cannot be written
// does not undo what was done to the cluster, so it is only noted.
func (a *app) changeContext(change func(*config.File) bool) (changed bool) {
	path, err := config.Path(a.getenv)
	if err == nil {
		err = config.Update(path, func(file *config.File) bool {
			changed = change(file)
			return changed
		})
	}
	if err != nil {
		a.note("warning: the context file was not changed: %v", err)
		return false
	}
	return changed
}

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
Flags behind -- go to every kvnode that is started from now on.`,
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
	cmd.Flags().IntVar(&up.factor, "replication-factor", 0, "replicas of each shard of a new cluster, 0 for 3 or what the nodes allow")
	cmd.Flags().IntVar(&up.port, "first-port", 0, "where to look for free gRPC ports, 0 for 7401")
	cmd.Flags().StringVar(&up.binary, "node-binary", "", "the kvnode to run, instead of the one beside kvctl or on $PATH")
	return cmd
}

func (a *app) localUp(cmd *cobra.Command, f *localFlags, up localUpFlags, nodeFlags []string) error {
	c, err := f.cluster(a)
	if err != nil {
		return err
	}
	cfg := local.Config{
		Nodes: up.nodes, Shards: up.shards, ReplicationFactor: up.factor, Binary: up.binary, FirstPort: up.port,
		Note: func(s string) { a.note("%s", s) },
	}
	if len(nodeFlags) > 0 {
		cfg.NodeFlags = nodeFlags
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
	current := a.changeContext(func(file *config.File) bool { return file.SetLocal(c.Dir(), report.Endpoints()) })
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
data       %s (kept until: kvctl local down --wipe)
try        kvctl put hello world
           kvctl get hello
stop       kvctl local down
`, report.Shards, report.Took.Seconds(), strings.Join(report.Endpoints(), ","), report.Dir)
	if newContext {
		a.note("the context %q is current now: kvctl talks to this cluster", config.LocalContext)
	}
	return err
}

func (a *app) localDownCommand(f *localFlags) *cobra.Command {
	var wipe bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop all nodes gracefully",
		Long: `Stop all nodes gracefully; one that does not stop within ` + local.StopGrace.String() + ` is killed. The
data is kept for the next up, unless --wipe. The context "local" goes, and the
one that was current before is current again.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.cluster(a)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), a.localTimeout())
			defer cancel()
			reports, err := c.Down(ctx, wipe)
			if err == nil || errors.Is(err, local.ErrNoCluster) {
				a.changeContext(func(file *config.File) bool { return file.DropLocal(c.Dir()) })
			}
			if err != nil {
				return err
			}
			return a.printDown(c, reports, wipe)
		},
	}
	cmd.Flags().BoolVar(&wipe, "wipe", false, "remove the data too")
	return cmd
}

func (a *app) printDown(c *local.Cluster, reports []local.StopReport, wiped bool) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			Dir   string             `json:"dir"`
			Wiped bool               `json:"wiped"`
			Nodes []local.StopReport `json:"nodes"`
		}{c.Dir(), wiped, reports})
	}
	for _, r := range reports {
		line := fmt.Sprintf("%s %s", r.Name, r.Outcome)
		if r.Took > 0 {
			line += fmt.Sprintf(" (%.1f s)", r.Took.Seconds())
		}
		fmt.Fprintln(a.stdout, line)
		if r.Outcome == local.OutcomeKilled {
			a.note("warning: %s did not stop by itself within %v; its log is %s", r.Name, local.StopGrace, c.LogPath(r.Name))
		}
	}
	kept := "kept in " + c.Dir()
	if wiped {
		kept = "removed"
	}
	_, err := fmt.Fprintf(a.stdout, "data %s\n", kept)
	return err
}

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
