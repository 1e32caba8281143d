package kvserver

import (
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Get implements kvv1.KVServer.
func (s *Server) Get(ctx context.Context, r *kvv1.GetRequest) (*kvv1.GetResponse, error) {
	a, err := s.call(ctx, &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: r.GetKey(), Level: r.GetLevel(),
		MinVersion: r.GetMinVersion(), MaxAgeUs: r.GetMaxAgeUs(), AnyReplica: r.GetAnyReplica(),
		KeysOnly: r.GetKeysOnly(), IfNotVersion: r.GetIfNotVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &kvv1.GetResponse{
		Found: a.Found, Value: a.Value, Version: a.Version, ShardVersion: a.ShardVersion, ServedBy: a.ServedBy,
		ExpiresUs: a.ExpiresUs, NotModified: a.NotModified,
	}, nil
}

// Put implements kvv1.KVServer.
func (s *Server) Put(ctx context.Context, r *kvv1.PutRequest) (*kvv1.PutResponse, error) {
	op := &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: r.GetKey(), Value: r.GetValue(),
		Condition: r.GetCondition(), IfVersion: r.GetIfVersion(), Expiry: r.GetExpiry(), TtlUs: r.GetTtlUs(),
		WantPrevious: r.GetWantPrevious(),
	}
	a, err := s.call(ctx, identify(op, r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &kvv1.PutResponse{
		Version: a.Version, ShardVersion: a.ShardVersion, Repeated: a.Repeated, ServedBy: a.ServedBy,
		Previous: a.Previous, DetailDropped: a.DetailDropped,
	}, nil
}

// Delete implements kvv1.KVServer.
func (s *Server) Delete(ctx context.Context, r *kvv1.DeleteRequest) (*kvv1.DeleteResponse, error) {
	op := &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_DELETE, Key: r.GetKey(),
		Condition: r.GetCondition(), IfVersion: r.GetIfVersion(), WantPrevious: r.GetWantPrevious(),
	}
	a, err := s.call(ctx, identify(op, r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &kvv1.DeleteResponse{
		Version: a.Version, ShardVersion: a.ShardVersion, Repeated: a.Repeated, ServedBy: a.ServedBy,
		Previous: a.Previous, DetailDropped: a.DetailDropped,
	}, nil
}

// Add implements kvv1.KVServer.
func (s *Server) Add(ctx context.Context, r *kvv1.AddRequest) (*kvv1.AddResponse, error) {
	op := &kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_ADD, Key: r.GetKey(), Delta: r.GetDelta()}
	a, err := s.call(ctx, identify(op, r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &kvv1.AddResponse{
		Counter: a.Counter, Version: a.Version, ShardVersion: a.ShardVersion, Repeated: a.Repeated, ServedBy: a.ServedBy,
	}, nil
}

// Expire implements kvv1.KVServer.
func (s *Server) Expire(ctx context.Context, r *kvv1.ExpireRequest) (*kvv1.ExpireResponse, error) {
	op := &kvv1.Operation{
		Kind: kvv1.OperationKind_OPERATION_KIND_EXPIRE, Key: r.GetKey(), Expiry: r.GetExpiry(), TtlUs: r.GetTtlUs(),
	}
	a, err := s.call(ctx, identify(op, r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &kvv1.ExpireResponse{
		Found: a.Found, Version: a.Version, ShardVersion: a.ShardVersion, Repeated: a.Repeated, ServedBy: a.ServedBy,
	}, nil
}

// Txn implements kvv1.KVServer.
func (s *Server) Txn(ctx context.Context, r *kvv1.TxnRequest) (*kvv1.TxnResponse, error) {
	op := &kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_TXN, Txn: r.GetTxn()}
	if op.Txn == nil {
		op.Txn = new(kvv1.Txn) // refused as one without content
	}
	a, err := s.call(ctx, identify(op, r.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return &kvv1.TxnResponse{
		Otherwise: a.Otherwise, Leaves: a.Leaves, Version: a.Version, ShardVersion: a.ShardVersion,
		Repeated: a.Repeated, ServedBy: a.ServedBy, DetailDropped: a.DetailDropped,
	}, nil
}

func identify(op *kvv1.Operation, id *kvv1.RequestId) *kvv1.Operation {
	op.ClientId, op.Number = id.GetClientId(), id.GetNumber()
	op.LowestOpen, op.NotAfterUs = id.GetLowestOpen(), id.GetNotAfterUs()
	return op
}

// call serves one unary operation, here or at most one hop away.
func (s *Server) call(ctx context.Context, op *kvv1.Operation) (*kvv1.Answer, error) {
	if err := s.enterUnary(); err != nil {
		return nil, wire.StatusFromError(err)
	}
	defer s.leaveUnary()
	s.countUnary()
	charge := requestBytes(op, firstReadEstimate)
	if !s.held.take(charge, 0) {
		s.refusedFull()
		return nil, wire.StatusFromError(s.full())
	}
	defer s.held.add(-charge)
	left := DefaultTimeLeft
	if at, ok := ctx.Deadline(); ok {
		left = min(time.Until(at), MaxTimeLeft)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer s.untilCut(cancel)()
	a := s.serveOrForward(ctx, op)
	if value := valueBytes(a); value > 0 { // until the handler returns; then it is gRPC's
		switch {
		case s.held.take(value, 0):
			defer s.held.add(-value)
		case op.Kind == kvv1.OperationKind_OPERATION_KIND_GET:
			s.refusedFull()
			return nil, wire.StatusFromError(s.full())
		default: // it was applied
			s.refusedFull()
			a.Previous, a.Leaves, a.DetailDropped = nil, nil, true
		}
	}
	if a.Error != nil {
		return nil, wire.StatusFromError(wire.ErrorFromProto(a.Error))
	}
	return a, nil
}

// ServeOperation serves one operation on this node only: it is what a peer's
// Forward comes to. The answer says NOT_LEADER, with directions, when this node
// cannot serve it. Its time is the shorter of time_left_us and ctx's deadline.
func (s *Server) ServeOperation(ctx context.Context, op *kvv1.Operation) *kvv1.Answer {
	if err := s.enterUnary(); err != nil {
		return &kvv1.Answer{Id: op.Id, Error: s.failure(0, err)}
	}
	defer s.leaveUnary()
	s.countUnary()
	charge := requestBytes(op, firstReadEstimate)
	if !s.held.take(charge, 0) {
		s.refusedFull()
		return &kvv1.Answer{Id: op.Id, Error: s.failure(0, s.full())}
	}
	defer s.held.add(-charge)
	ctx, cancel := context.WithCancel(ctx)
	defer s.untilCut(cancel)()
	return s.serveHere(ctx, op)
}

func (s *Server) refusedFull() {
	s.held.refused.Add(1)
	s.counters.overloaded.Add(1)
}

func (s *Server) countUnary() {
	s.counters.frames.Add(1)
	s.counters.operations.Add(1)
}

// serveHere runs a frame of one operation.
func (s *Server) serveHere(ctx context.Context, op *kvv1.Operation) *kvv1.Answer {
	if s.opts.ClusterID() == "" {
		return &kvv1.Answer{Id: op.Id, Error: s.failure(0, kverr.New(kverr.NotInitialized,
			"this node belongs to no cluster yet; run `kvctl cluster init`"))}
	}
	in := part{ops: []*kvv1.Operation{op}, caller: &caller{}, arrived: time.Now()}
	if at, ok := ctx.Deadline(); ok {
		in.latest = early(in.arrived, at)
	}
	waiter := make(waiter, 1)
	in.sink = waiter
	p := &plan{}
	s.sort(ctx, p, in)
	p.admitAll()
	s.dispatch(p, in)
	select {
	case d := <-waiter:
		return s.finish(d)
	case <-ctx.Done():
	}
	select { // both were ready: the answer is worth more
	case d := <-waiter:
		return s.finish(d)
	default:
		return &kvv1.Answer{Id: op.Id, Error: s.failure(0, givenUp(op))}
	}
}

// early is a deadline for the work that leaves time for the answer to reach a
// caller with deadline at: a refusal with its reason is worth more than the
// caller's own "deadline exceeded".
func early(now, at time.Time) time.Time {
	return at.Add(-min(at.Sub(now)/16, 100*time.Millisecond))
}

// givenUp is the error for an operation that was handed to a group and whose
// answer nobody waits for any longer (K5).
func givenUp(op *kvv1.Operation) error {
	if op.Kind == kvv1.OperationKind_OPERATION_KIND_GET {
		return kverr.New(kverr.Deadline, "time ran out before the read was answered")
	}
	return kverr.New(kverr.OutcomeUnknown, "time ran out before the write was answered")
}

// waiter is the sink of one unary operation. It has room for its one delivery.
type waiter chan delivery

func (w waiter) deliver(d delivery) { w <- d }

func (s *Server) finish(d delivery) *kvv1.Answer {
	for i := range d.redirects {
		s.direct(&d.redirects[i])
	}
	return &d.answers[0]
}
