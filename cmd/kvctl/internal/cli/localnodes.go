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

func (a *app) localKillCommand(f *localFlags) *cobra.Command {
	return a.nodeCommand(f, nodeVerb{
		name: "kill", did: "killed", short: "Kill nodes with SIGKILL",
		long: `Kill nodes with SIGKILL, as a crash would. Exit code 4: one of them does not run;
the others are killed all the same. With --all that is no error.`,
		do: (*local.Cluster).Kill,
	})
}

func (a *app) localPauseCommand(f *localFlags) *cobra.Command {
	return a.nodeCommand(f, nodeVerb{
		name: "pause", did: "paused", short: "Pause nodes with SIGSTOP",
		long: "Pause nodes with SIGSTOP: they keep their sockets and answer nothing, until resume.",
		do:   (*local.Cluster).Pause,
	})
}

func (a *app) localResumeCommand(f *localFlags) *cobra.Command {
	return a.nodeCommand(f, nodeVerb{
		name: "resume", did: "resumed", short: "Resume paused nodes with SIGCONT",
		long: "Resume paused nodes with SIGCONT. Nodes that run are left as they are, and named.",
		do:   (*local.Cluster).Resume,
	})
}

func (a *app) localRestartCommand(f *localFlags) *cobra.Command {
	var binary string
	verb := nodeVerb{
		name: "restart", did: "restarted", short: "Start nodes again",
		long: `Start nodes again, after a graceful stop of those that run. One node: returns
when it answers; its shards may still be catching up. Several or --all: nodes
that are down are started first, then the others are restarted one after the
other, each when all shards have leaders again, so that the cluster goes on
serving. A node that does not come back does not keep the others from their turns
while all shards have leaders without it; once they have not, the rest is left as
it is. Every node that failed or was left is named. --timeout bounds each node.`,
		each: true,
	}
	verb.do = func(c *local.Cluster, ctx context.Context, names ...string) error {
		cfg := local.Config{Binary: binary, Note: func(s string) { a.note("%s", s) }}
		restart := c.Restart
		if len(names) > 1 {
			restart = c.RollingRestart
		}
		failed := restart(ctx, cfg, names...)
		// Also after a failure: some may have moved to other ports.
		endpoints, err := c.Endpoints()
		if err == nil {
			a.changeContext(func(file *config.File) bool { return file.MoveLocal(c.Dir(), endpoints) })
		}
		if failed != nil {
			return failed
		}
		return err
	}
	cmd := a.nodeCommand(f, verb)
	cmd.Flags().StringVar(&binary, "node-binary", "", "the kvnode to run, instead of the one used before")
	return cmd
}

// nodeVerb is something done to nodes that are named.
type nodeVerb struct {
	name, did, short, long string
	do                     func(c *local.Cluster, ctx context.Context, names ...string) error
	each                   bool // the timeout is that of one node, since they take turns
}

func (a *app) nodeCommand(f *localFlags, verb nodeVerb) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     verb.name + " NODE…",
		Short:   verb.short,
		Long:    verb.long,
		Example: fmt.Sprintf("  kvctl local %s n1", verb.name),
		Args: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usageErrorf("", "%s takes nodes or --all, not both", cmd.CommandPath())
			}
			if all {
				return nil
			}
			return atLeastOne("NODE")(cmd, args)
		},
		ValidArgsFunction: a.completeNodes(f),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.cluster(a)
			if err != nil {
				return err
			}
			names := args
			if all {
				if names, err = c.Names(); err != nil {
					return err
				}
			}
			return a.doToNodes(cmd.Context(), c, verb, distinct(names), all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all nodes")
	return cmd
}

func distinct(names []string) []string {
	var once []string
	for _, name := range names {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

// doToNodes says what was done also when a part of it failed. With --all, nodes
// that do not run are none of those that were meant.
func (a *app) doToNodes(ctx context.Context, c *local.Cluster, verb nodeVerb, names []string, all bool) error {
	timeout := a.localTimeout()
	if verb.each {
		timeout *= time.Duration(max(1, len(names)))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := verb.do(c, ctx, names...)
	failures := local.NodeErrors(err)
	if err != nil && len(failures) == 0 {
		return err
	}
	did := nodesDid{Did: verb.did, Nodes: []string{}, NotRunning: []string{}, WasRunning: []string{}, Dir: c.Dir()}
	var failed []error
	for _, name := range names {
		i := slices.IndexFunc(failures, func(e *local.NodeError) bool { return e.Node == name })
		switch {
		case i < 0:
			did.Nodes = append(did.Nodes, name)
		case errors.Is(failures[i], local.ErrNotPaused): // it is as it was to be
			did.WasRunning = append(did.WasRunning, name)
		case errors.Is(failures[i], local.ErrNotRunning):
			did.NotRunning = append(did.NotRunning, name)
			if !all {
				failed = append(failed, failures[i])
			}
		default:
			failed = append(failed, failures[i])
		}
	}
	if printErr := a.printDid(did); printErr != nil {
		return printErr
	}
	return errors.Join(failed...)
}

// nodesDid is what -o json prints.
type nodesDid struct {
	Did        string   `json:"did"`
	Nodes      []string `json:"nodes"`
	NotRunning []string `json:"not_running"`
	WasRunning []string `json:"was_running"` // although it was to be resumed
	Dir        string   `json:"dir"`
}

func (a *app) printDid(did nodesDid) error {
	if a.wantsJSON() {
		return a.printJSON(did)
	}
	var lines string
	if len(did.Nodes) > 0 {
		lines = fmt.Sprintf("%s %s (%s)\n", strings.Join(did.Nodes, " "), did.Did, did.Dir)
	}
	if len(did.NotRunning) > 0 {
		lines += fmt.Sprintf("%s not running (%s)\n", strings.Join(did.NotRunning, " "), did.Dir)
	}
	if len(did.WasRunning) > 0 {
		lines += fmt.Sprintf("%s not paused: running already (%s)\n", strings.Join(did.WasRunning, " "), did.Dir)
	}
	_, err := fmt.Fprint(a.stdout, lines)
	return err
}
