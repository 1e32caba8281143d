package cli

import (
	"context"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/version"
)

func versionText() string { return "kvctl " + version.String() }

// serverVersion is what one endpoint says.
type serverVersion struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	Problem string `json:"problem,omitempty"` // why there is no version
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of kvctl and of the nodes",
		Long: `Print the version of kvctl, and those of the nodes at the endpoints that answer.
Nodes that do not answer are no error.`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: optional},
		RunE: func(cmd *cobra.Command, _ []string) error {
			servers := a.askVersions(cmd.Context())
			if a.wantsJSON() {
				return a.printJSON(struct {
					version.Info
					Servers []serverVersion `json:"servers"`
				}{version.Get(), servers})
			}
			fmt.Fprintln(a.stdout, versionText())
			for _, s := range servers {
				if s.Problem != "" {
					a.note("%s does not answer: %s", s.Address, s.Problem)
					continue
				}
				fmt.Fprintf(a.stdout, "%s %s (%s)\n", s.Name, s.Version, s.Address)
			}
			return nil
		},
	}
}

func (a *app) askVersions(ctx context.Context) []serverVersion {
	servers := make([]serverVersion, len(a.target.Endpoints))
	var wait sync.WaitGroup
	for i, address := range a.target.Endpoints {
		wait.Go(func() { servers[i] = askVersion(ctx, address) })
	}
	wait.Wait()
	return servers
}

func askVersion(ctx context.Context, address string) serverVersion {
	s := serverVersion{Address: address}
	admin, closeConn, err := dialAdmin(address)
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	defer closeConn()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answer, err := admin.NodeStatus(ctx, &adminv1.NodeStatusRequest{})
	if err != nil {
		s.Problem = wire.ErrorFromStatus(err, wire.Unsent).Error()
		return s
	}
	s.Name, s.Version = answer.GetNode().GetName(), answer.GetVersion()
	return s
}
