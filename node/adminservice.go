package node

import (
	"context"
	"time"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/formation"
	"github.com/ringfort/ringfort/node/identity"
	"github.com/ringfort/ringfort/shardmap"
)

// initTimeout bounds an Init whose caller sets no deadline.
const initTimeout = time.Minute

// adminService answers administrators, and other nodes that collect status.
type adminService struct {
	adminv1.UnimplementedAdminServer
	n *Node
}

// Init implements adminv1.AdminServer. It returns when the cluster has its map.
func (s adminService) Init(ctx context.Context, req *adminv1.InitRequest) (*adminv1.InitResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	resp, err := s.n.form(ctx, formation.Request{
		Shards: int(req.GetShards()), ReplicationFactor: int(req.GetReplicationFactor()),
	})
	if err != nil {
		return nil, wire.StatusFromError(err)
	}
	return resp, nil
}

func (n *Node) form(ctx context.Context, req formation.Request) (*adminv1.InitResponse, error) {
	if n.maps.Map() != nil {
		return nil, initialised(n.clusterID(), "")
	}
	out, err := formation.Form(ctx, req, formationPeers{n}, func() (string, error) {
		return identity.NewClusterID(n.deps.Random)
	})
	if err != nil {
		return nil, err
	}
	cluster := out.Plan.GetClusterId()
	if n.clusterID() != cluster {
		if out.Nothing {
			return nil, initialised(cluster, "; start this node with --join to add it")
		}
	} else if _, err := n.maps.await(ctx); err != nil {
		return nil, kverr.New(kverr.Unavailable,
			"cluster %s is started but its first map is not here yet; repeat to wait on: %w", cluster, err)
	}
	resp := &adminv1.InitResponse{
		ClusterId: cluster, Shards: out.Plan.GetShards(), ReplicationFactor: out.Plan.GetReplicationFactor(),
		Nodes: out.Plan.GetNodes(), Resumed: out.Resumed,
	}
	return resp, nil
}

func initialised(cluster, hint string) error {
	return kverr.New(kverr.Conflict, "already initialised (cluster id %s)%s", cluster, hint)
}

// NodeStatus implements adminv1.AdminServer. It answers from memory.
func (s adminService) NodeStatus(context.Context, *adminv1.NodeStatusRequest) (*adminv1.NodeStatusResponse, error) {
	return s.n.status(), nil
}

// ClusterStatus implements adminv1.AdminServer.
func (s adminService) ClusterStatus(ctx context.Context, _ *adminv1.ClusterStatusRequest,
) (*adminv1.ClusterStatusResponse, error) {
	return s.n.clusterStatus(ctx), nil
}

// Counters implements adminv1.AdminServer.
func (s adminService) Counters(context.Context, *adminv1.CountersRequest) (*adminv1.CountersResponse, error) {
	kv := s.n.kv.Counters()
	resp := &adminv1.CountersResponse{
		FramesIn: kv.Frames, Operations: kv.Operations, Writes: kv.Writes, Reads: kv.Reads, Overloaded: kv.Overloaded,
		CpuUs: cpuMicros(), UptimeUs: s.n.uptimeMicros(),
	}
	if store := s.n.store.Load(); store != nil {
		c := store.Counters()
		resp.EntriesProposed, resp.WritesProposed = c.EntriesProposed, c.WritesProposed
		resp.LogSyncs, resp.LogEntriesSynced, resp.LogBytesSynced = c.LogSyncs, c.LogEntries, c.LogBytes
		resp.ReadRounds, resp.ReadsConfirmed = c.ReadRounds, c.ReadsConfirmed
		resp.ElectionsWon = c.ElectionsWon
		resp.Overloaded += c.Overloaded
	}
	return resp, nil
}

// TransferLeader implements adminv1.AdminServer.
func (s adminService) TransferLeader(ctx context.Context, req *adminv1.TransferLeaderRequest,
) (*adminv1.TransferLeaderResponse, error) {
	shard := shardmap.ShardID(req.GetShard())
	group, ok := s.n.group(shard)
	if !ok {
		return nil, wire.StatusFromError(kverr.New(kverr.Invalid, "node %s holds no replica of shard %d", s.n.self.Name, shard))
	}
	if err := group.TransferLeadership(ctx, shardmap.NodeID(req.GetToNode())); err != nil {
		return nil, wire.StatusFromError(err)
	}
	return &adminv1.TransferLeaderResponse{}, nil
}
