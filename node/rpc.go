package node

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/formation"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// statusTimeout bounds a question that a healthy node answers from memory.
	statusTimeout = time.Second
	// changeTimeout bounds a call that waits for disks or for a quorum.
	changeTimeout = 10 * time.Second
)

// rpc calls other nodes. Errors have a kind; Unavailable means that nothing left
// this node.
type rpc struct {
	pool *peers.Pool
	self shardmap.NodeID
}

// call runs fn on a connection that is up, within timeout. A node that came back
// a moment ago is reached.
func (r rpc) call(ctx context.Context, id shardmap.NodeID, timeout time.Duration, sent wire.Sent,
	fn func(context.Context, *grpc.ClientConn) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, release, err := r.pool.Fresh(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return wire.ErrorFromStatus(fn(ctx, conn), sent)
}

// Forward implements kvserver.Peers. The caller's context bounds it.
func (r rpc) forward(ctx context.Context, id shardmap.NodeID, cluster string, op *kvv1.Operation) (*kvv1.Answer, error) {
	conn, err := r.pool.Ready(ctx, id)
	if err != nil {
		return nil, err
	}
	resp, err := peerv1.NewPeerClient(conn).Forward(ctx, &peerv1.ForwardRequest{Operation: op, ClusterId: cluster})
	if err != nil {
		if err = wire.ErrorFromStatus(err, wire.MaybeSent); kverr.KindOf(err) == kverr.Unavailable {
			// It was sent, which the caller may not take for "it never left".
			err = kverr.New(kverr.OutcomeUnknown, "%w", err)
		}
		return nil, err
	}
	return resp.GetAnswer(), nil
}

func (r rpc) fetchMap(ctx context.Context, id shardmap.NodeID, cluster string, have uint64) (m *shardmap.Map, err error) {
	err = r.call(ctx, id, statusTimeout, wire.Unsent, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := peerv1.NewPeerClient(conn).FetchMap(ctx, &peerv1.FetchMapRequest{ClusterId: cluster, HaveEpoch: have})
		if err == nil && resp.GetMap() != nil {
			m, err = wire.MapFromProto(resp.GetMap())
		}
		return err
	})
	return m, err
}

func (r rpc) held(ctx context.Context, id shardmap.NodeID) (held formation.Held, err error) {
	err = r.call(ctx, id, changeTimeout, wire.Unsent, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := peerv1.NewPeerClient(conn).StoredPlan(ctx, &peerv1.StoredPlanRequest{})
		if err == nil && resp.GetNodeId() != string(id) {
			return kverr.New(kverr.Unavailable, "another node, %s, answers at its address", shardmap.NodeID(resp.GetNodeId()).Short())
		}
		held = formation.Held{Plan: resp.GetPlan(), Cluster: resp.GetClusterId()}
		return err
	})
	return held, err
}

func (r rpc) acceptPlan(ctx context.Context, id shardmap.NodeID, plan *peerv1.Plan) (held *peerv1.Plan, err error) {
	err = r.call(ctx, id, changeTimeout, wire.MaybeSent, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err := peerv1.NewPeerClient(conn).AcceptPlan(ctx, &peerv1.AcceptPlanRequest{Plan: plan})
		held = resp.GetHeld()
		return err
	})
	return held, err
}

func (r rpc) startPlan(ctx context.Context, id shardmap.NodeID, cluster string) error {
	return r.call(ctx, id, changeTimeout, wire.MaybeSent, func(ctx context.Context, conn *grpc.ClientConn) error {
		_, err := peerv1.NewPeerClient(conn).StartPlan(ctx, &peerv1.StartPlanRequest{ClusterId: cluster})
		return err
	})
}

// hopsKey is the metadata that counts how often a Join was passed on.
const hopsKey = "ringfort-hops"

func (r rpc) join(ctx context.Context, id shardmap.NodeID, req *peerv1.JoinRequest, hops int,
) (resp *peerv1.JoinResponse, err error) {
	err = r.call(ctx, id, changeTimeout, wire.MaybeSent, func(ctx context.Context, conn *grpc.ClientConn) error {
		ctx = metadata.AppendToOutgoingContext(ctx, hopsKey, strconv.Itoa(hops))
		resp, err = peerv1.NewPeerClient(conn).Join(ctx, req)
		return err
	})
	return resp, err
}

func (r rpc) nodeStatus(ctx context.Context, id shardmap.NodeID) (resp *adminv1.NodeStatusResponse, err error) {
	err = r.call(ctx, id, statusTimeout, wire.Unsent, func(ctx context.Context, conn *grpc.ClientConn) error {
		resp, err = adminv1.NewAdminClient(conn).NodeStatus(ctx, &adminv1.NodeStatusRequest{})
		return err
	})
	return resp, err
}
