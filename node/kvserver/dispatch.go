package kvserver

import (
	"context"
	"math"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// part is operations that are served as one batch: a frame, or a piece of one
// that is too long.
type part struct {
	ops      []*kvv1.Operation
	caller   *caller
	arrived  time.Time
	latest   time.Time // no work after this, whatever the operations say; zero for no bound
	estimate int       // what a read was charged with beside its key
	sink     sink

	uncharged bool // nothing was charged for it
}

// sink takes the answers of a part, in one delivery per batch and shard, in any
// order. It must not block and may be called from a group's apply loop.
type sink interface{ deliver(delivery) }

// caller is what a stream's hello and frame say for all its operations.
type caller struct {
	client     state.ClientID
	named      bool // client is set
	lowestOpen uint64
}

// dispatch checks every operation of a part, groups them by shard and hands each
// shard its writes and its reads (K2). Every operation gets one answer (K1).
func (s *Server) dispatch(ctx context.Context, p *plan, in part) {
	now := time.Now() // admission may have taken a while
	stopped := s.stopped()
	for i, op := range in.ops {
		deadline := in.deadline(op)
		var err error
		switch {
		case stopped:
			err = s.stopping()
		case !deadline.After(now):
			err = kverr.New(kverr.Deadline, "the caller's time ran out before the work began")
		default:
			err = s.check(ctx, op, in.caller)
		}
		if err != nil {
			p.refuse(i, err, redirect{})
			continue
		}
		slot := shardmap.SlotOf(op.Key)
		t, err := s.route(p, op, slot)
		if err != nil {
			p.refuse(i, err, redirect{shard: shardmap.ShardID(op.Shard), slot: slot})
			continue
		}
		t.add(i, op, deadline)
	}
	for i := range p.targets {
		withhold(p, &p.targets[i], in)
		s.handOver(&p.targets[i], in)
	}
	s.refuse(p.refused, in)
	p.reset()
}

// deadline is when work for op must not begin any more, in absolute time.
func (in *part) deadline(op *kvv1.Operation) time.Time {
	left := DefaultTimeLeft
	if op.TimeLeftUs > 0 {
		left = time.Duration(min(op.TimeLeftUs, uint64(MaxTimeLeft/time.Microsecond))) * time.Microsecond
	}
	at := in.arrived.Add(left)
	if !in.latest.IsZero() && in.latest.Before(at) {
		return in.latest
	}
	return at
}

// requestBytes is what an operation is charged with until its group answered.
func requestBytes(op *kvv1.Operation, estimate int) int {
	n := opOverhead + len(op.Key) + len(op.Value)
	if op.Kind == kvv1.OperationKind_OPERATION_KIND_GET {
		n += estimate
	}
	return n
}

// check refuses what can never succeed as it stands, and what is not allowed.
func (s *Server) check(ctx context.Context, op *kvv1.Operation, c *caller) error {
	var verb Verb
	switch op.Kind {
	case kvv1.OperationKind_OPERATION_KIND_GET:
		verb = VerbGet
		if err := checkLevel(op.Level, op.MaxAgeUs); err != nil {
			return err
		}
	case kvv1.OperationKind_OPERATION_KIND_PUT:
		verb = VerbPut
	case kvv1.OperationKind_OPERATION_KIND_DELETE:
		verb = VerbDelete
	default:
		return kverr.New(kverr.Invalid, "operation kind %d is not known to this node", op.Kind)
	}
	switch {
	case len(op.Key) == 0:
		return kverr.New(kverr.Invalid, "the key is empty")
	case len(op.Key) > s.limits.MaxKeyBytes:
		return kverr.New(kverr.Invalid, "the key has %d bytes; at most %d are allowed", len(op.Key), s.limits.MaxKeyBytes)
	case len(op.Value) > s.limits.MaxValueBytes:
		return kverr.New(kverr.Invalid, "the value has %d bytes; at most %d are allowed", len(op.Value), s.limits.MaxValueBytes)
	case len(op.Value) > 0 && verb != VerbPut:
		return kverr.New(kverr.Invalid, "a %s carries no value", verb)
	}
	if verb != VerbGet {
		if err := checkRequest(op, c); err != nil {
			return err
		}
	}
	if s.opts.Authorize != nil {
		return s.opts.Authorize(ctx, verb, op.Key)
	}
	return nil
}

// checkRequest refuses a write whose identity is incomplete.
func checkRequest(op *kvv1.Operation, c *caller) error {
	switch {
	case len(op.ClientId) != 0 && len(op.ClientId) != len(c.client):
		return kverr.New(kverr.Invalid, "client_id has %d bytes; it must have 16, or none", len(op.ClientId))
	case op.Number == 0:
		return nil
	case len(op.ClientId) == 0 && !c.named:
		return kverr.New(kverr.Invalid, "a write with a number needs a client_id")
	case op.NotAfterUs == 0:
		return kverr.New(kverr.Invalid, "a write with a number needs not_after_us")
	}
	return nil
}

// request is the identity of a write that passed checkRequest.
func (c *caller) request(op *kvv1.Operation) state.RequestID {
	if op.Number == 0 {
		return state.RequestID{}
	}
	id := state.RequestID{Client: c.client, Number: op.Number, LowestOpen: c.lowestOpen, NotAfter: op.NotAfterUs}
	if len(op.ClientId) != 0 {
		id.Client, id.LowestOpen = state.ClientID(op.ClientId), op.LowestOpen
	}
	return id
}

// maxAgeMicros is the longest age that a read may ask for: what fits a duration.
const maxAgeMicros = uint64(math.MaxInt64 / time.Microsecond)

// checkLevel refuses what no read can mean.
func checkLevel(level kvv1.ReadLevel, ageMicros uint64) error {
	switch {
	case level < 0 || level > kvv1.ReadLevel_READ_LEVEL_ANY:
		return kverr.New(kverr.Invalid, "read level %d is not known to this node", level)
	case ageMicros > maxAgeMicros:
		return kverr.New(kverr.Invalid, "max_age_us is %d, which is no age", ageMicros)
	}
	return nil
}
