package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/verify"
	"github.com/ringfort/ringfort/internal/kverr"
)

// verifyTimeout is how long a verification may take unless --timeout says
// otherwise.
const verifyTimeout = 5 * time.Minute

func (a *app) clusterVerifyCommand() *cobra.Command {
	var shards []uint
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the replicas of every shard, while they are written to",
		Long: `Compare the replicas of every shard. Each replica hashes all it holds of a shard as
of one and the same log entry, so that writes may go on. It costs each node the
reading of its data, one shard at a time; nothing is changed.

Exit codes: 0 all replicas of all shards are equal, ` + fmt.Sprint(exitDiffer) + ` replicas of a shard differ,
` + fmt.Sprint(exitUnverified) + ` none differ, but not all could be compared: a node does not answer, a shard
has no leader, or the time was over. --timeout bounds the whole, 5m by default.
What fails for a passing reason is tried again within it.

-o json prints cluster_id, agree (no replicas differ), complete (all were
compared) and shards; shards have shard, result (equal, different or incomplete),
index, attempts, problem and replicas; replicas have replica, node, node_id, hash,
keys, bytes and problem.

-o raw prints one line per replica, without a header and with tabs between:
shard, result, index, node, replica, hash, keys, bytes, problem.`,
		Example: `  kvctl cluster verify
  kvctl cluster verify --shard 2 --timeout 1m`,
		Args:              arguments(),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       map[string]string{needsTarget: "", outputs: allOutputs},
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.clusterVerify(cmd.Context(), shards) },
	}
	cmd.Flags().UintSliceVar(&shards, "shard", nil, "verify these shards only, by id; may be repeated")
	return cmd
}

func (a *app) clusterVerify(ctx context.Context, shards []uint) error {
	timeout := verifyTimeout
	if a.settings.TimeoutGiven {
		timeout = a.settings.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cluster := &verifiedCluster{app: a, only: shards}
	report, err := verify.Run(ctx, cluster, func(r verify.Result) {
		if a.progress && r.Result != verify.Equal {
			a.note("shard %d: %s", r.Shard, r.Result)
		}
	})
	if err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errInterrupted) {
		return cause
	}
	if err := a.printVerify(cluster.id, report); err != nil {
		return err
	}
	return verdictOf(report)
}

// verdictOf is the error, and so the exit code, that a report comes to. That
// replicas differ outranks that others could not be compared.
func verdictOf(report *verify.Report) error {
	shardsWith := func(is func(verify.Result) bool) string {
		var ids []string
		for _, s := range report.Shards {
			if is(s) {
				ids = append(ids, fmt.Sprint(s.Shard))
			}
		}
		return strings.Join(ids, ", ")
	}
	switch {
	case !report.Agree:
		return &commandError{
			code: exitDiffer,
			err:  fmt.Errorf("replicas differ: shard %s", shardsWith(func(r verify.Result) bool { return r.Result == verify.Different })),
			hint: "keep the nodes' data directories and logs: this is data loss on one of them, or a bug",
		}
	case !report.Complete:
		return &commandError{
			code: exitUnverified,
			err:  fmt.Errorf("not all replicas could be compared: shard %s", shardsWith(func(r verify.Result) bool { return r.Result != verify.Equal })),
			hint: "kvctl cluster status shows which nodes and leaders are missing, and which disks are full",
		}
	}
	return nil
}

func (a *app) printVerify(cluster string, report *verify.Report) error {
	switch a.settings.Output {
	case "json":
		return a.printJSON(struct {
			ClusterID string `json:"cluster_id"`
			*verify.Report
		}{cluster, report})
	case "raw":
		for _, s := range report.Shards {
			for _, r := range s.Replicas {
				fmt.Fprintln(a.stdout, fields(s.Shard, s.Result, s.Index, r.Node, r.Replica, r.Hash, r.Keys, r.Bytes, oneLine(s.Problem, r.Problem)))
			}
		}
		return nil
	}
	var rows []string
	for _, s := range report.Shards {
		head := fields(s.Shard, s.Result, s.Index)
		for _, r := range s.Replicas {
			row := fields(r.Node, "-", "-", "-", oneLine(s.Problem, r.Problem))
			if r.Hash != "" {
				row = fields(r.Node, r.Hash, r.Keys, humanize.IBytes(r.Bytes), "")
			}
			rows = append(rows, head+"\t"+row)
			head = "\t\t"
		}
	}
	return a.table("SHARD\tRESULT\tINDEX\tNODE\tHASH\tKEYS\tBYTES\tPROBLEM", rows)
}

// oneLine is the more particular of two problems, fit for a cell.
func oneLine(shard, replica string) string {
	if replica == "" {
		replica = shard
	}
	return strings.NewReplacer("\n", "; ", "\t", " ").Replace(replica)
}

// verifiedCluster implements verify.Cluster over the admin service of every node.
type verifiedCluster struct {
	app  *app
	only []uint // shards; all if empty
	id   string // of the cluster, once asked

	addresses map[string]string // by node id, as last shown; read-only between calls of Shards
}

// Shards implements verify.Cluster.
func (c *verifiedCluster) Shards(ctx context.Context) ([]verify.Shard, error) {
	status, err := c.app.askStatus(ctx)
	if err != nil {
		return nil, err
	}
	c.id, c.addresses = status.ClusterID, map[string]string{}
	for _, n := range status.Nodes {
		c.addresses[n.ID] = n.Address
	}
	var shards []verify.Shard
	for _, s := range status.Shards {
		if len(c.only) > 0 && !slices.Contains(c.only, uint(s.ID)) {
			continue
		}
		shard := verify.Shard{ID: s.ID}
		if s.Leader != nil && s.Ready {
			shard.Leader = s.Leader.ID
		}
		for _, r := range s.Replicas {
			shard.Replicas = append(shard.Replicas, verify.Replica{ID: r.ID, Node: r.node(), NodeID: r.NodeID})
		}
		shards = append(shards, shard)
	}
	for _, id := range c.only {
		if !slices.ContainsFunc(shards, func(s verify.Shard) bool { return s.ID == uint64(id) }) {
			return nil, &commandError{code: exitNotFound, err: fmt.Errorf("the cluster has no shard %d", id),
				hint: "kvctl cluster shards lists them"}
		}
	}
	if len(shards) == 0 {
		return nil, kverr.New(kverr.NotInitialized, "the cluster has no shards yet")
	}
	return shards, nil
}

// NewID implements verify.Cluster.
func (c *verifiedCluster) NewID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// Propose implements verify.Cluster.
func (c *verifiedCluster) Propose(ctx context.Context, shard uint64, leader string, id [16]byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	admin, closeConn, err := dialAdmin(c.addresses[leader])
	if err != nil {
		return err
	}
	defer closeConn()
	_, err = admin.ProposeVerify(ctx, &adminv1.ProposeVerifyRequest{Shard: shard, Id: id[:]})
	return wire.ErrorFromStatus(err, wire.MaybeSent)
}

// Watch implements verify.Cluster. The connection lasts as long as ctx.
func (c *verifiedCluster) Watch(ctx context.Context, shard uint64, r verify.Replica, id [16]byte) (verify.Watch, error) {
	admin, closeConn, err := dialAdmin(c.addresses[r.NodeID])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", verify.ErrNothing, err)
	}
	context.AfterFunc(ctx, closeConn)
	ctx, cancel := context.WithCancel(ctx) // given up with the connection, by the caller's context
	silent := time.AfterFunc(probeTimeout, cancel)
	w := &replicaWatch{}
	w.stream, err = admin.VerifyReplica(ctx, &adminv1.VerifyReplicaRequest{Shard: shard, Id: id[:]})
	if err = wire.ErrorFromStatus(err, wire.Unsent); err == nil {
		err = w.next()
	}
	switch {
	case !silent.Stop():
		return nil, fmt.Errorf("%w: no answer within %s", verify.ErrNothing, probeTimeout)
	case err != nil && (kverr.KindOf(err) == kverr.Unavailable || kverr.KindOf(err) == kverr.Invalid):
		return nil, fmt.Errorf("%w: %w", verify.ErrNothing, err)
	case err != nil:
		return nil, err
	case w.said.GetNodeId() != r.NodeID || w.said.GetReplica() != r.ID:
		return nil, fmt.Errorf("%w: replica %d on node %s answers in its place", verify.ErrNothing, w.said.GetReplica(), w.said.GetNodeId())
	}
	return w, nil
}

// replicaWatch implements verify.Watch.
type replicaWatch struct {
	stream adminv1.Admin_VerifyReplicaClient
	said   *adminv1.VerifyReplicaResponse // last
}

func (w *replicaWatch) next() (err error) {
	if w.said, err = w.stream.Recv(); err != nil {
		return wire.ErrorFromStatus(err, wire.Unsent)
	}
	return nil
}

func (w *replicaWatch) Taken() error { return w.next() }

func (w *replicaWatch) Hashed() (verify.Taken, error) {
	for w.said.GetStage() != adminv1.VerifyStage_VERIFY_STAGE_HASHED {
		if err := w.next(); err != nil {
			return verify.Taken{}, err
		}
	}
	return verify.Taken{Index: w.said.GetIndex(), Hash: w.said.GetHash(), Keys: w.said.GetKeys(), Bytes: w.said.GetBytes()}, nil
}
