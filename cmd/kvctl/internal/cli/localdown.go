package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

func (a *app) localDownCommand(f *localFlags) *cobra.Command {
	var wipe bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop all nodes gracefully",
		Long: `Stop all nodes gracefully; one that does not stop within ` + local.StopGrace.String() + ` is killed. The
data is kept for the next up, unless --wipe. The context "local" leads again to
the local cluster that was up before this one; without any it goes, and the
context that was current before it is current again.`,
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
				a.changeContext(func(file *config.File) bool {
					return file.DropLocal(c.Dir(), err == nil && !wipe, func(dir string) bool { return existing(dir) != nil })
				})
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
	kept := "kept"
	if wiped {
		kept = "removed"
	}
	_, err := fmt.Fprintf(a.stdout, "data %s (%s)\n", kept, c.Dir())
	return err
}
