package localtest

import (
	"context"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// proposalPatience is how long a replica waits for its entry.
const proposalPatience = 10 * time.Second

// proposed returns what is closed when an id is proposed.
func (n *node) proposed(id []byte) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	ch := n.mu.verifies[string(id)]
	if ch == nil {
		ch = make(chan struct{})
		n.mu.verifies[string(id)] = ch
	}
	return ch
}

// VerifyReplica implements Admin: n1 has all replicas.
func (n *node) VerifyReplica(r *adminv1.VerifyReplicaRequest, stream grpc.ServerStreamingServer[adminv1.VerifyReplicaResponse]) error {
	m, err := n.shardMap()
	if err != nil {
		return wire.StatusFromError(err)
	}
	for _, record := range m.Records() {
		if uint64(record.Shard) != r.GetShard() || n.name != "n1" {
			continue
		}
		answer := &adminv1.VerifyReplicaResponse{
			Stage: adminv1.VerifyStage_VERIFY_STAGE_WAITING, NodeId: string(idOf(n.name)), Replica: uint64(record.Replicas[0].ID),
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
		select {
		case <-n.proposed(r.GetId()):
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-time.After(proposalPatience):
			return wire.StatusFromError(kverr.New(kverr.Deadline, "no entry came"))
		}
		answer.Stage, answer.Index, answer.Hash, answer.Keys, answer.Bytes = adminv1.VerifyStage_VERIFY_STAGE_HASHED, 12, 0xabc, 3, 2048
		return stream.Send(answer)
	}
	return wire.StatusFromError(kverr.New(kverr.Invalid, "no replica of shard %d here", r.GetShard()))
}

// ProposeVerify implements Admin.
func (n *node) ProposeVerify(_ context.Context, r *adminv1.ProposeVerifyRequest) (*adminv1.ProposeVerifyResponse, error) {
	close(n.proposed(r.GetId()))
	return &adminv1.ProposeVerifyResponse{}, nil
}
