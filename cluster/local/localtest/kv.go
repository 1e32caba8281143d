package localtest

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// shardMap has a system shard and two halves of the ring, all led by n1.
func (n *node) shardMap() (*shardmap.Map, error) {
	id, err := os.ReadFile(n.formed())
	if err != nil {
		return nil, kverr.New(kverr.NotInitialized, "%s belongs to no cluster yet", n.name)
	}
	spec := shardmap.MapSpec{Epoch: 1, ClusterID: string(id), ReplicationFactor: 1}
	for name, address := range n.addresses() {
		spec.Nodes = append(spec.Nodes, shardmap.Node{ID: idOf(name), Name: name, Address: address})
	}
	half := shardmap.Slot(shardmap.Slots / 2)
	for i, arc := range []shardmap.Arc{shardmap.SystemArc, {From: 0, To: half}, {From: half, To: shardmap.Slots}} {
		spec.Records = append(spec.Records, shardmap.Record{
			Shard: shardmap.SystemShard + shardmap.ShardID(i), Arc: arc, ArcEpoch: 1, MemberEpoch: 1,
			Replicas: []shardmap.Replica{{ID: shardmap.ReplicaID(i + 1), Node: idOf("n1"), Role: shardmap.Voter}},
		})
	}
	return shardmap.NewMap(spec)
}

// Stream implements KV.
func (n *node) Stream(stream grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	m, err := n.shardMap()
	if err != nil {
		return wire.StatusFromError(err)
	}
	err = stream.Send(&kvv1.ServerFrame{Map: wire.MapToProto(m), Hello: &kvv1.ServerHello{
		Format: 1, ClusterId: m.ClusterID(), NodeId: string(idOf(n.name)), NowUs: uint64(time.Now().UnixMicro()),
		MaxKeyBytes: 4 << 10, MaxValueBytes: 1 << 20, MaxFrameBytes: 4 << 20,
	}})
	for err == nil {
		var in *kvv1.ClientFrame
		if in, err = stream.Recv(); err != nil {
			break
		}
		if out := n.answerAll(in.GetOperations()); len(out.GetAnswers()) > 0 {
			err = stream.Send(out)
		}
	}
	return err
}

func (n *node) answerAll(ops []*kvv1.Operation) *kvv1.ServerFrame {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.frames++
	out := &kvv1.ServerFrame{}
	for _, op := range ops {
		n.mu.ops++
		if a := n.answerLocked(op); a != nil {
			a.Id = op.GetId()
			out.Answers = append(out.Answers, a)
		}
	}
	return out
}

func (n *node) answerLocked(op *kvv1.Operation) *kvv1.Answer {
	key := string(op.GetKey())
	switch {
	case n.name != "n1":
		hint := shardmap.LeaderHint{Shard: shardmap.ShardID(op.GetShard()), Term: 1, Node: idOf("n1")}
		return &kvv1.Answer{Error: refusal(kverr.NotLeader, "n1 leads"), Leader: wire.HintToProto(hint)}
	case strings.HasPrefix(key, "doubt"):
		return &kvv1.Answer{Error: refusal(kverr.OutcomeUnknown, "the leader changed in the middle")}
	case strings.HasPrefix(key, "noquorum"):
		return &kvv1.Answer{Error: refusal(kverr.Unavailable, "shard 2: no quorum since 12:00:00")}
	case strings.HasPrefix(key, "refused"):
		return &kvv1.Answer{Error: refusal(kverr.Invalid, "this key is refused")}
	case strings.HasPrefix(key, "slow"):
		// Tells that it has come, to who waits for that.
		_ = os.WriteFile(filepath.Join(filepath.Dir(n.data), "slow"), []byte(key), 0o644)
		return nil
	}
	value, found := n.mu.values[key]
	switch op.GetKind() {
	case kvv1.OperationKind_OPERATION_KIND_GET:
		return &kvv1.Answer{Found: found, Value: value, Version: n.mu.last}
	case kvv1.OperationKind_OPERATION_KIND_PUT:
		n.mu.values[key] = op.GetValue()
	case kvv1.OperationKind_OPERATION_KIND_DELETE:
		delete(n.mu.values, key)
	}
	n.mu.last++
	return &kvv1.Answer{Version: n.mu.last, ShardVersion: n.mu.last}
}

func refusal(kind kverr.Kind, message string) *kvv1.Error {
	return wire.ErrorToProto(kverr.New(kind, "%s", message))
}
