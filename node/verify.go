package node

import (
	"context"

	"google.golang.org/grpc"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func verifyID(raw []byte) (state.VerifyID, error) {
	if len(raw) != len(state.VerifyID{}) {
		return state.VerifyID{}, kverr.New(kverr.Invalid, "the id of a verification has %d bytes; it must have %d",
			len(raw), len(state.VerifyID{}))
	}
	return state.VerifyID(raw), nil
}

// VerifyReplica implements adminv1.AdminServer.
func (s adminService) VerifyReplica(req *adminv1.VerifyReplicaRequest, stream grpc.ServerStreamingServer[adminv1.VerifyReplicaResponse],
) error {
	if err := s.n.verifyReplica(req, stream); err != nil {
		return wire.StatusFromError(err)
	}
	return nil
}

func (n *Node) verifyReplica(req *adminv1.VerifyReplicaRequest, stream grpc.ServerStreamingServer[adminv1.VerifyReplicaResponse],
) error {
	id, err := verifyID(req.GetId())
	if err != nil {
		return err
	}
	shard := shardmap.ShardID(req.GetShard())
	group, ok := n.group(shard)
	if !ok {
		return kverr.New(kverr.Invalid, "node %s holds no replica of shard %d", n.self.Name, shard)
	}
	wait, err := n.store.Load().ExpectVerify(shard, id)
	if err != nil {
		return err
	}
	defer wait.Close()
	say := func(stage adminv1.VerifyStage, v raftstore.Verified) error {
		return stream.Send(&adminv1.VerifyReplicaResponse{
			Stage: stage, NodeId: string(n.self.ID), Replica: uint64(v.Replica), Index: v.Index,
			Hash: v.Hash, Keys: v.Keys, Bytes: v.Bytes,
		})
	}
	if err := say(adminv1.VerifyStage_VERIFY_STAGE_WAITING, raftstore.Verified{Replica: group.Replica()}); err != nil {
		return err
	}
	for {
		select {
		case index := <-wait.Taken():
			if err := say(adminv1.VerifyStage_VERIFY_STAGE_TAKEN, raftstore.Verified{Replica: group.Replica(), Index: index}); err != nil {
				return err
			}
		case v := <-wait.Done():
			if v.Err != nil {
				return v.Err
			}
			return say(adminv1.VerifyStage_VERIFY_STAGE_HASHED, v)
		case <-stream.Context().Done():
			return kverr.New(kverr.Deadline, "shard %d: the caller waited no longer for the hash of this replica", shard)
		}
	}
}

// ProposeVerify implements adminv1.AdminServer.
func (s adminService) ProposeVerify(ctx context.Context, req *adminv1.ProposeVerifyRequest) (*adminv1.ProposeVerifyResponse, error) {
	if err := s.n.proposeVerify(ctx, req); err != nil {
		return nil, wire.StatusFromError(err)
	}
	return &adminv1.ProposeVerifyResponse{}, nil
}

func (n *Node) proposeVerify(ctx context.Context, req *adminv1.ProposeVerifyRequest) error {
	id, err := verifyID(req.GetId())
	if err != nil {
		return err
	}
	group, ok := n.group(shardmap.ShardID(req.GetShard()))
	if !ok {
		return kverr.New(kverr.NotLeader, "node %s holds no replica of shard %d", n.self.Name, req.GetShard())
	}
	done := make(chan error, 1)
	group.Propose(&raftstore.Write{
		Ops: []state.Op{{Kind: state.OpVerify, Key: id[:]}}, Deadline: deadline(ctx),
		Done: func(results []state.Result, _ uint64, err error) {
			if err == nil && results[0].Verdict != state.Applied {
				err = kverr.New(kverr.NotLeader, "shard %d: the verification was not applied: %s", req.GetShard(), results[0].Verdict)
			}
			done <- err
		},
	})
	return <-done // the deadline bounds it
}
