package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// initTimeout is how long forming a cluster may take unless --timeout says
// otherwise.
const initTimeout = 60 * time.Second

func (a *app) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Form a cluster and look into it"}
	cmd.AddCommand(a.clusterInitCommand(), a.clusterStatusCommand(), a.clusterNodesCommand(), a.clusterShardsCommand(),
		a.clusterVerifyCommand())
	parent(cmd)
	return cmd
}

func (a *app) clusterInitCommand() *cobra.Command {
	var request adminv1.InitRequest
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Form a cluster of the nodes that see each other",
		Long: `Form a cluster of the nodes that see each other, and place the shards over
them. It returns when all shards have leaders, or says which have none after
` + firstLeadersPatience.String() + `. It is done once in a cluster's life; exit code 4 means that it was done
before. An interrupted init is finished by repeating it.`,
		Example:           "  kvctl cluster init --shards 12 --replication-factor 3",
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: ""},
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.clusterInit(cmd.Context(), &request) },
	}
	cmd.Flags().Uint32Var(&request.Shards, "shards", 0, "number of shards, 0 for the default")
	cmd.Flags().Uint32Var(&request.ReplicationFactor, "replication-factor", 3, "replicas of each shard")
	return cmd
}

// firstLeadersPatience bounds the wait for leaders after a cluster was formed.
const firstLeadersPatience = 20 * time.Second

// awaitFirstLeaders waits until the new cluster serves every key, so that the
// command after this one does not fail. That it does not yet is no failure of
// init.
func (a *app) awaitFirstLeaders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstLeadersPatience)
	defer cancel()
	missing := "no node tells"
	for {
		if status, err := a.askStatus(ctx); err == nil {
			if missing = status.leaderless(); missing == "" {
				return
			}
		}
		select {
		case <-ctx.Done():
			a.note("warning: the cluster is formed and does not serve all keys yet: %s (kvctl cluster status shows when)", missing)
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *app) clusterInit(ctx context.Context, request *adminv1.InitRequest) error {
	if request.GetReplicationFactor() == 0 {
		return usageErrorf("", "--replication-factor: 0 is not positive")
	}
	timeout := initTimeout
	if a.settings.TimeoutGiven {
		timeout = a.settings.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var answer *adminv1.InitResponse
	err := a.askAdmin(ctx, wire.MaybeSent, func(ctx context.Context, admin adminv1.AdminClient) (err error) {
		answer, err = admin.Init(ctx, request)
		return err
	})
	if exitCode(ctx, err) == exitOutcomeUnknown {
		return &commandError{code: exitOutcomeUnknown, err: err, hint: "repeat the command: it finishes an interrupted init"}
	}
	if errors.Is(err, kverr.Conflict) {
		return &commandError{code: exitConflict, err: err, hint: "kvctl cluster status shows the cluster that there is"}
	}
	if err != nil {
		return err
	}
	a.awaitFirstLeaders(ctx)
	if answer.GetResumed() {
		a.note("finished an init that had been interrupted")
	}
	if a.wantsJSON() {
		nodes := []nodeRef{}
		for _, n := range answer.GetNodes() {
			nodes = append(nodes, refOf(n))
		}
		return a.printJSON(struct {
			ClusterID string    `json:"cluster_id"`
			Shards    uint32    `json:"shards"`
			Factor    uint32    `json:"replication_factor"`
			Resumed   bool      `json:"resumed"`
			Nodes     []nodeRef `json:"nodes"`
		}{answer.GetClusterId(), answer.GetShards(), answer.GetReplicationFactor(), answer.GetResumed(), nodes})
	}
	_, err = fmt.Fprintf(a.stdout, "formed cluster %s of %d nodes: %d shards, replication factor %d\n",
		answer.GetClusterId(), len(answer.GetNodes()), answer.GetShards(), answer.GetReplicationFactor())
	return err
}
