package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

func (a *app) localKillCommand(f *localFlags) *cobra.Command {
	return a.nodeCommand(f, nodeVerb{
		name: "kill", did: "killed", short: "Kill nodes with SIGKILL",
		long: "Kill nodes with SIGKILL, as a crash would. Exit code 4: one of them does not run.",
		do:   (*local.Cluster).Kill,
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
		long: "Resume paused nodes with SIGCONT. Nodes that are not paused are left as they are.",
		do:   (*local.Cluster).Resume,
	})
}

func (a *app) localRestartCommand(f *localFlags) *cobra.Command {
	var binary string
	verb := nodeVerb{
		name: "restart", did: "restarted", short: "Start nodes again",
		long: `Start nodes again, after a graceful stop of those that run. Returns when they
answer; their shards may still be catching up.`,
	}
	verb.do = func(c *local.Cluster, ctx context.Context, names ...string) error {
		err := c.Restart(ctx, local.Config{Binary: binary, Note: func(s string) { a.note("%s", s) }}, names...)
		if err != nil {
			return err
		}
		endpoints, err := c.Endpoints()
		if err != nil {
			return err
		}
		a.changeContext(func(file *config.File) bool { return file.MoveLocal(c.Dir(), endpoints) })
		return nil
	}
	cmd := a.nodeCommand(f, verb)
	cmd.Flags().StringVar(&binary, "node-binary", "", "the kvnode to run, instead of the one used before")
	return cmd
}

// nodeVerb is something done to nodes that are named.
type nodeVerb struct {
	name, did, short, long string
	do                     func(c *local.Cluster, ctx context.Context, names ...string) error
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
			ctx, cancel := context.WithTimeout(cmd.Context(), a.localTimeout())
			defer cancel()
			if err := verb.do(c, ctx, names...); err != nil {
				return err
			}
			return a.printDid(verb.did, names)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all nodes")
	return cmd
}

func (a *app) printDid(did string, names []string) error {
	if a.wantsJSON() {
		return a.printJSON(struct {
			Did   string   `json:"did"`
			Nodes []string `json:"nodes"`
		}{did, names})
	}
	_, err := fmt.Fprintf(a.stdout, "%s %s\n", strings.Join(names, " "), did)
	return err
}
