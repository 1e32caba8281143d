package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
)

// logLevels are offered for completion; the node decides.
var logLevels = []string{"debug", "info", "warn", "error"}

// logLevelChange is what -o json prints.
type logLevelChange struct {
	nodeRef
	Level string `json:"level"`
	Was   string `json:"was"`
}

func (a *app) nodeLogLevelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "log-level NAME|ID|ADDRESS [debug|info|warn|error]",
		Short: "Show from which level on a node logs, or change it while it runs",
		Long: `Show from which level on a node logs, or change it at once, without a restart. The
node is named by its name, by its id or the beginning of it, or by its gRPC
address, and must be reachable from here. It logs the change.

The change lasts until the process ends: the next one logs as --log-level of
kvnode says. debug is meant for minutes, not for days.

-o json prints name, id, address, level and was, -o raw the level.

Exit code 3 means that the cluster has no such node.`,
		Example: "  kvctl node log-level n1\n  kvctl node log-level n1 debug",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageErrorf("usage: "+cmd.UseLine(), "%s needs a node", cmd.CommandPath())
			case len(args) > 2:
				return usageErrorf("usage: "+cmd.UseLine(), "%s takes one node and one level", cmd.CommandPath())
			case len(args) == 2 && !slices.Contains(logLevels, strings.ToLower(args[1])):
				return usageErrorf("usage: "+cmd.UseLine(), "%q is no log level: choose debug, info, warn or error", args[1])
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return logLevels, cobra.ShellCompDirectiveNoFileComp
			}
			return a.completeClusterNodes(cmd, args, typed)
		},
		Annotations: map[string]string{needsTarget: "", outputs: allOutputs},
		RunE: func(cmd *cobra.Command, args []string) error {
			level := ""
			if len(args) == 2 {
				level = args[1]
			}
			change, err := a.logLevel(cmd.Context(), args[0], level)
			if err != nil {
				return err
			}
			return a.printLogLevel(change)
		},
	}
}

// logLevel changes the level of a node, or asks for it when it is empty.
func (a *app) logLevel(ctx context.Context, named, level string) (*logLevelChange, error) {
	ctx, cancel := context.WithTimeout(ctx, a.settings.Timeout)
	defer cancel()
	var answer *adminv1.LogLevelResponse
	// To repeat it does no harm, so nothing is in doubt.
	node, err := a.askNamed(ctx, named, wire.Unsent, func(ctx context.Context, admin adminv1.AdminClient) (err error) {
		answer, err = admin.LogLevel(ctx, &adminv1.LogLevelRequest{Level: level})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &logLevelChange{nodeRef: node.nodeRef, Level: answer.GetLevel(), Was: answer.GetWas()}, nil
}

func (a *app) printLogLevel(c *logLevelChange) error {
	switch {
	case a.wantsJSON():
		return a.printJSON(c)
	case a.settings.Output == "raw":
		fmt.Fprintln(a.stdout, c.Level)
	case c.Level == c.Was:
		fmt.Fprintf(a.stdout, "%s logs from level %s on\n", c.Name, c.Level)
	default:
		fmt.Fprintf(a.stdout, "%s logs from level %s on until it ends; it was %s\n", c.Name, c.Level, c.Was)
	}
	return nil
}
