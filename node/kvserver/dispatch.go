package kvserver

import (
	"context"
	"math"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/kvop"
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

// sort checks every operation of a part and groups them by shard (K2).
func (s *Server) sort(ctx context.Context, p *plan, in part) {
	now := time.Now()
	stopped := s.stopped()
	for i, op := range in.ops {
		deadline := in.deadline(op)
		var err error
		switch {
		case stopped:
			err = s.stopping()
		case !deadline.After(now):
			err = errTimeOver
		default:
			err = s.check(ctx, op, in.caller)
		}
		if err != nil {
			p.refuse(i, err, redirect{})
			continue
		}
		slot := shardmap.SlotOf(kvop.Key(op))
		t, err := s.route(p, op, slot)
		if err != nil {
			p.refuse(i, err, redirect{shard: shardmap.ShardID(op.Shard), slot: slot})
			continue
		}
		t.add(i, op, in.estimate, deadline)
	}
	for i := range p.targets {
		withhold(p, &p.targets[i], in)
	}
}

// dispatch hands each shard those of its writes and reads that were admitted since,
// and answers the refused ones that may be answered.
func (s *Server) dispatch(p *plan, in part) {
	for i := range p.targets {
		s.handOver(&p.targets[i], in)
	}
	s.refuse(p.refused[p.answered:p.answerable], in)
	p.answered = p.answerable
}

// admitAll admits everything: a call is admitted before it is sorted.
func (p *plan) admitAll() {
	for i := range p.targets {
		t := &p.targets[i]
		t.admitted = progress{len(t.writes), len(t.reads)}
	}
	p.answerable = len(p.refused)
}

var errTimeOver = kverr.New(kverr.Deadline, "the caller's time ran out before the work began")

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
	n := opOverhead + len(op.Key) + len(op.Value) + txnBytes(op.Txn)
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
		if err := checkLevel(op.Level, op.MaxAgeUs, op.MinVersion); err != nil {
			return err
		}
	case kvv1.OperationKind_OPERATION_KIND_PUT:
		verb = VerbPut
	case kvv1.OperationKind_OPERATION_KIND_DELETE:
		verb = VerbDelete
	case kvv1.OperationKind_OPERATION_KIND_ADD:
		verb = VerbAdd
	case kvv1.OperationKind_OPERATION_KIND_EXPIRE:
		verb = VerbExpire
	case kvv1.OperationKind_OPERATION_KIND_TXN:
		verb = VerbTxn
	default:
		return kverr.New(kverr.Invalid, "operation kind %d is not known to this node", op.Kind)
	}
	key := kvop.Key(op)
	switch {
	case len(key) == 0:
		return kverr.New(kverr.Invalid, "the key is empty")
	case len(key) > s.limits.MaxKeyBytes:
		return kverr.New(kverr.Invalid, "the key has %d bytes; at most %d are allowed", len(key), s.limits.MaxKeyBytes)
	case len(op.Value) > s.limits.MaxValueBytes:
		return kverr.New(kverr.Invalid, "the value has %d bytes; at most %d are allowed", len(op.Value), s.limits.MaxValueBytes)
	case len(op.Value) > 0 && verb != VerbPut:
		return kverr.New(kverr.Invalid, "a %s carries no value", verb)
	case op.Txn != nil && verb != VerbTxn: // what it touches would not be what is authorized
		return kverr.New(kverr.Invalid, "a %s carries no transaction", verb)
	}
	if verb != VerbGet {
		if err := checkRequest(op, c); err != nil {
			return err
		}
		if err := s.writeLimits.Check(op); err != nil {
			return err
		}
	}
	if s.opts.Authorize == nil {
		return nil
	}
	if verb == VerbTxn {
		return s.authorizeTxn(ctx, op.Txn)
	}
	return s.opts.Authorize(ctx, verb, key)
}

// authorizeTxn asks for each compare, which reads, and each leaf.
func (s *Server) authorizeTxn(ctx context.Context, t *kvv1.Txn) error {
	for _, c := range t.Compares {
		if err := s.opts.Authorize(ctx, VerbGet, c.GetKey()); err != nil {
			return err
		}
	}
	for _, leaves := range [][]*kvv1.Leaf{t.Then, t.Otherwise} {
		for _, l := range leaves {
			if err := s.opts.Authorize(ctx, verbOf[l.GetKind()], l.GetKey()); err != nil {
				return err
			}
		}
	}
	return nil
}

var verbOf = map[kvv1.OperationKind]Verb{
	kvv1.OperationKind_OPERATION_KIND_GET:    VerbGet,
	kvv1.OperationKind_OPERATION_KIND_PUT:    VerbPut,
	kvv1.OperationKind_OPERATION_KIND_DELETE: VerbDelete,
	kvv1.OperationKind_OPERATION_KIND_ADD:    VerbAdd,
	kvv1.OperationKind_OPERATION_KIND_EXPIRE: VerbExpire,
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

// checkLevel refuses what no read can mean. A session's version above what the shard
// has given out is none of that: a token of 64 parts names the newest of several
// shards for each of them. The group serves it as far as the leader is.
func checkLevel(level kvv1.ReadLevel, ageMicros, least uint64) error {
	switch {
	case level < 0 || level > kvv1.ReadLevel_READ_LEVEL_ANY:
		return kverr.New(kverr.Invalid, "read level %d is not known to this node", level)
	case level == kvv1.ReadLevel_READ_LEVEL_SESSION && least > state.MaxVersion:
		return kverr.New(kverr.Invalid, "min_version is %d, which no shard can reach", least)
	case ageMicros > maxAgeMicros:
		return kverr.New(kverr.Invalid, "max_age_us is %d, which is no age", ageMicros)
	}
	return nil
}
