package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

func (a *app) nodeGroupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Look into one node, or change how it logs"}
	cmd.AddCommand(a.nodeStatusCommand(), a.nodeLogLevelCommand())
	parent(cmd)
	return cmd
}

// nodeDetail is what -o json prints.
type nodeDetail struct {
	nodeRef
	ClusterID     string  `json:"cluster_id"`
	GossipAddress string  `json:"gossip_address"`
	AdminAddress  string  `json:"admin_address"`
	Zone          string  `json:"zone,omitempty"`
	Phase         string  `json:"phase"`
	Version       string  `json:"version"`
	Uptime        float64 `json:"uptime_s"`
	MapEpoch      uint64  `json:"map_epoch"`
	LogBytes      uint64  `json:"log_bytes"`
	StateBytes    uint64  `json:"state_bytes"`
	diskSpace
	Replicas []nodeReplica   `json:"replicas"`
	Members  []memberSummary `json:"members"`
}

// nodeReplica is a replica as its own node sees it.
type nodeReplica struct {
	Shard  uint64 `json:"shard"`
	System bool   `json:"system"`
	replicaStatus
	Leader   string  `json:"leader_id"` // node id, empty when none is known
	NoQuorum float64 `json:"no_quorum_s"`
}

type memberSummary struct {
	nodeRef
	Alive bool `json:"alive"`
}

func (a *app) nodeStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status [NAME|ID|ADDRESS]",
		Short: "Show one node in detail",
		Long: `Show what one node says about itself: its replicas, how far each has applied its
log, what waits in its queues, what is wrong with them, how much space its disk has
left (see kvctl cluster nodes --help), and whom it sees by gossip. The node is named by
its name, by its id or the beginning of it, or by its gRPC address; without one it
is the first endpoint that answers. It is asked directly, so it must be reachable
from here.

-o json prints name, id, address, cluster_id, gossip_address, admin_address, zone,
phase, version, uptime_s, map_epoch, log_bytes, state_bytes, space_level,
free_bytes, total_bytes, low_bytes, store_dir, disk_hangs, replicas and members.

Exit code 3 means that the cluster has no such node.`,
		Example: "  kvctl node status n1",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageErrorf("usage: "+cmd.UseLine(), "%s takes one node or none", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeClusterNodes,
		Annotations:       map[string]string{needsTarget: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			detail, err := a.askNode(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.printNode(detail)
		},
	}
}

// askNode asks the named node, or any.
func (a *app) askNode(ctx context.Context, named []string) (*nodeDetail, error) {
	ctx, cancel := context.WithTimeout(ctx, a.settings.Timeout)
	defer cancel()
	var answer *adminv1.NodeStatusResponse
	ask := func(ctx context.Context, admin adminv1.AdminClient) (err error) {
		answer, err = admin.NodeStatus(ctx, &adminv1.NodeStatusRequest{})
		return err
	}
	if len(named) == 0 {
		if err := a.askAdmin(ctx, wire.Unsent, ask); err != nil {
			return nil, err
		}
		return detailOf(answer), nil
	}
	if _, err := a.askNamed(ctx, named[0], wire.Unsent, ask); err != nil {
		return nil, err
	}
	return detailOf(answer), nil
}

// askNamed calls the node of this name, id or address.
func (a *app) askNamed(ctx context.Context, named string, sent wire.Sent, call adminCall) (nodeStatus, error) {
	status, err := a.askStatus(ctx)
	if err != nil {
		return nodeStatus{}, err
	}
	node, err := findNode(status.Nodes, named)
	if err != nil {
		return nodeStatus{}, err
	}
	if lives, err := a.askOne(ctx, node.Address, sent, call); err != nil {
		if lives {
			return nodeStatus{}, err
		}
		// The cluster runs: another node has told of this one.
		err = fmt.Errorf("node %s does not answer: %w", node.Name, err)
		return nodeStatus{}, &commandError{code: exitCode(ctx, err), err: err,
			hint: fmt.Sprintf("is the process of %s running, and can it be reached from here? kvctl cluster nodes shows how the others see it", node.Name)}
	}
	return node, nil
}

// findNode takes a name before an address before the beginning of an id.
func findNode(nodes []nodeStatus, named string) (nodeStatus, error) {
	for _, is := range []func(nodeStatus) bool{
		func(n nodeStatus) bool { return n.Name == named },
		func(n nodeStatus) bool { return n.Address == named },
		func(n nodeStatus) bool { return named != "" && strings.HasPrefix(n.ID, named) },
	} {
		found := slices.Collect(func(yield func(nodeStatus) bool) {
			for _, n := range nodes {
				if is(n) && !yield(n) {
					return
				}
			}
		})
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], nil
		}
		return nodeStatus{}, usageErrorf("name it by its id", "%d nodes are called %q", len(found), named)
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return nodeStatus{}, &commandError{code: exitNotFound,
		err: fmt.Errorf("the cluster has no node %q: it has %s", named, strings.Join(names, ", "))}
}

func detailOf(answer *adminv1.NodeStatusResponse) *nodeDetail {
	d := &nodeDetail{
		nodeRef: refOf(answer.GetNode()), ClusterID: answer.GetClusterId(), GossipAddress: answer.GetNode().GetGossipAddress(),
		AdminAddress: answer.GetAdminAddress(), Zone: answer.GetNode().GetZone(), Phase: answer.GetPhase(),
		Version: answer.GetVersion(), Uptime: seconds(answer.GetUptimeUs()), MapEpoch: answer.GetMapEpoch(),
		LogBytes: answer.GetDisk().GetLogBytes(), StateBytes: answer.GetDisk().GetStateBytes(),
		diskSpace: spaceOf(answer.GetDisk()), Replicas: []nodeReplica{}, Members: []memberSummary{},
	}
	for _, told := range answer.GetReplicas() {
		r := nodeReplica{
			Shard: told.GetShard(), System: told.GetShard() == uint64(shardmap.SystemShard),
			Leader: told.GetLeaderNode(), NoQuorum: seconds(told.GetNoQuorumUs()),
		}
		r.ID, r.Node, r.NodeID = told.GetReplica(), d.Name, d.ID
		r.hear(told)
		d.Replicas = append(d.Replicas, r)
	}
	for _, m := range answer.GetMembers() {
		d.Members = append(d.Members, memberSummary{
			nodeRef: nodeRef{Name: m.GetName(), ID: m.GetNodeId(), Address: m.GetAddress()}, Alive: m.GetAlive(),
		})
	}
	return d
}

func (a *app) printNode(d *nodeDetail) error {
	if a.wantsJSON() {
		return a.printJSON(d)
	}
	names := map[string]string{d.ID: d.Name}
	var seen []string
	for _, m := range d.Members {
		names[m.ID] = m.Name
		seen = append(seen, cmp.Or(m.Name, shardmap.NodeID(m.ID).Short()))
	}
	rows := []string{
		fields("id", d.ID), fields("cluster", cmp.Or(d.ClusterID, "-")), fields("phase", d.Phase),
		fields("address", d.Address), fields("admin", cmp.Or(d.AdminAddress, "-")), fields("gossip", cmp.Or(d.GossipAddress, "-")),
		fields("zone", cmp.Or(d.Zone, "-")), fields("version", d.Version), fields("uptime", age(d.Uptime)),
		fields("map epoch", d.MapEpoch),
		fields("on disk", fmt.Sprintf("%s logs, %s data", humanize.IBytes(d.LogBytes), humanize.IBytes(d.StateBytes))),
		fields("space", d.sentence()), fields("directory", cmp.Or(d.Dir, "-")),
		fields("sees", cmp.Or(strings.Join(seen, " "), "nobody")),
	}
	if err := a.table("node\t"+d.Name, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	rows = nil
	for _, r := range d.Replicas {
		rows = append(rows, r.row(names))
	}
	return a.table("SHARD\tREPLICA\tRAFT\tLEADER\tTERM\tAPPLIED\tCOMMIT\tLAST\tLOG\tQUEUED\tREQUESTS\tREADY\tPROBLEM", rows)
}

func (r nodeReplica) row(names map[string]string) string {
	ready, size := "yes", "-"
	switch {
	case r.State == stateQuarantined:
		return fields(r.Shard, r.ID, r.State, "-", "-", "-", "-", "-", "-", "-", "-", "no", oneLine("", r.Problem))
	case r.NoQuorum > 0:
		ready = fmt.Sprintf("no quorum for %.1f s", r.NoQuorum)
	case !r.Ready:
		ready = "not yet"
	}
	if r.LogBytes != nil {
		size = humanize.IBytes(*r.LogBytes)
	}
	leader := "-"
	if r.Leader != "" {
		leader = cmp.Or(names[r.Leader], shardmap.NodeID(r.Leader).Short())
	}
	return fields(r.Shard, r.ID, r.State, leader, r.Term, r.Applied, r.Commit, r.LastIndex, size,
		fmt.Sprintf("%d (%s)", r.Queued, humanize.IBytes(r.QueuedSize)), r.Requests, ready, oneLine("", r.Problem))
}

// completeClusterNodes offers the names of the cluster's nodes.
func (a *app) completeClusterNodes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.prepare(cmd, args) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), probeTimeout)
	defer cancel()
	status, err := a.askStatus(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, n := range status.Nodes {
		names = append(names, n.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
