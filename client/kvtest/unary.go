package kvtest

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Get implements the data API.
func (s *Server) Get(ctx context.Context, r *kvv1.GetRequest) (*kvv1.GetResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: r.GetKey(), Level: r.GetLevel(),
		MinVersion: r.GetMinVersion(), MaxAgeUs: r.GetMaxAgeUs(), AnyReplica: r.GetAnyReplica(),
		KeysOnly: r.GetKeysOnly(), IfNotVersion: r.GetIfNotVersion(),
	}, nil)
	if err != nil {
		return nil, err
	}
	return &kvv1.GetResponse{
		Found: a.GetFound(), Value: a.GetValue(), Version: a.GetVersion(), ShardVersion: a.GetShardVersion(),
		ServedBy: a.GetServedBy(), ExpiresUs: a.GetExpiresUs(), NotModified: a.GetNotModified(),
	}, nil
}

// Put implements the data API.
func (s *Server) Put(ctx context.Context, r *kvv1.PutRequest) (*kvv1.PutResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: r.GetKey(), Value: r.GetValue(),
		Condition: r.GetCondition(), IfVersion: r.GetIfVersion(), Expiry: r.GetExpiry(), TtlUs: r.GetTtlUs(),
		WantPrevious: r.GetWantPrevious(),
	}, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &kvv1.PutResponse{
		Version: a.GetVersion(), ShardVersion: a.GetShardVersion(), Repeated: a.GetRepeated(), ServedBy: a.GetServedBy(),
		Previous: a.GetPrevious(), DetailDropped: a.GetDetailDropped(),
	}, nil
}

// Delete implements the data API.
func (s *Server) Delete(ctx context.Context, r *kvv1.DeleteRequest) (*kvv1.DeleteResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_DELETE, Key: r.GetKey(),
		Condition: r.GetCondition(), IfVersion: r.GetIfVersion(), WantPrevious: r.GetWantPrevious(),
	}, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &kvv1.DeleteResponse{
		Version: a.GetVersion(), ShardVersion: a.GetShardVersion(), Repeated: a.GetRepeated(), ServedBy: a.GetServedBy(),
		Previous: a.GetPrevious(), DetailDropped: a.GetDetailDropped(),
	}, nil
}

// Add implements the data API.
func (s *Server) Add(ctx context.Context, r *kvv1.AddRequest) (*kvv1.AddResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_ADD, Key: r.GetKey(), Delta: r.GetDelta(),
	}, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &kvv1.AddResponse{
		Counter: a.GetCounter(), Version: a.GetVersion(), ShardVersion: a.GetShardVersion(), Repeated: a.GetRepeated(),
		ServedBy: a.GetServedBy(),
	}, nil
}

// Expire implements the data API.
func (s *Server) Expire(ctx context.Context, r *kvv1.ExpireRequest) (*kvv1.ExpireResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_EXPIRE, Key: r.GetKey(), Expiry: r.GetExpiry(), TtlUs: r.GetTtlUs(),
	}, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &kvv1.ExpireResponse{
		Found: a.GetFound(), Version: a.GetVersion(), ShardVersion: a.GetShardVersion(), Repeated: a.GetRepeated(),
		ServedBy: a.GetServedBy(),
	}, nil
}

// Txn implements the data API.
func (s *Server) Txn(ctx context.Context, r *kvv1.TxnRequest) (*kvv1.TxnResponse, error) {
	op := &kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_TXN, Txn: r.GetTxn()}
	if op.Txn == nil {
		op.Txn = new(kvv1.Txn) // refused as one without content
	}
	a, err := s.call(ctx, op, r.GetRequestId())
	if err != nil {
		return nil, err
	}
	return &kvv1.TxnResponse{
		Otherwise: a.GetOtherwise(), Leaves: a.GetLeaves(), Version: a.GetVersion(), ShardVersion: a.GetShardVersion(),
		Repeated: a.GetRepeated(), ServedBy: a.GetServedBy(), DetailDropped: a.GetDetailDropped(),
	}, nil
}

// call serves one unary operation.
func (s *Server) call(ctx context.Context, op *kvv1.Operation, id *kvv1.RequestId) (*kvv1.Answer, error) {
	leave, err := enter(&s.calls, maxCalls, "calls")
	if err != nil {
		return nil, wire.StatusFromError(err)
	}
	defer leave()
	op.ClientId, op.Number = id.GetClientId(), id.GetNumber()
	op.LowestOpen, op.NotAfterUs = id.GetLowestOpen(), id.GetNotAfterUs()
	arrived := time.Now()
	if at, ok := ctx.Deadline(); ok {
		op.TimeLeftUs = uint64(max(1, at.Sub(arrived).Microseconds()))
	}
	to := waiter{make(chan *kvv1.Answer, 1)}
	s.serve([]*kvv1.Operation{op}, caller{}, arrived, to)
	select {
	case a := <-to.answer:
		if a == nil {
			return nil, status.Error(codes.Unavailable, errLost.Error())
		}
		if a.GetError() != nil {
			return nil, wire.StatusFromError(wire.ErrorFromProto(a.GetError()))
		}
		return a, nil
	case <-ctx.Done():
	}
	kind := kverr.OutcomeUnknown
	if op.GetKind() == kvv1.OperationKind_OPERATION_KIND_GET {
		kind = kverr.Deadline
	}
	return nil, wire.StatusFromError(kverr.New(kind, "time ran out before the operation was answered"))
}

// waiter is the sink of one operation. It has room for its one answer, nil for a lost
// one.
type waiter struct{ answer chan *kvv1.Answer }

func (w waiter) deliver(answers []*kvv1.Answer) { w.answer <- answers[0] }
func (w waiter) lose()                          { w.answer <- nil }
