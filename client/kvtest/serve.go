package kvtest

import (
	"math"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/kvop"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// As on a node.
const (
	maxOpsPerBatch  = 1024
	defaultTimeLeft = 10 * time.Second
	maxTimeLeft     = time.Minute
)

// caller is what a stream's hello and frame say for all its operations.
type caller struct {
	client     state.ClientID
	named      bool // client is set
	lowestOpen uint64
}

// sink takes answers, each once, in any order. It must not block.
type sink interface {
	deliver(answers []*kvv1.Answer)
	// lose breaks the connection in place of an answer.
	lose()
}

// batch is operations of one shard that are served together: one write, one look.
type batch struct {
	shard         *shard
	writes, reads []*kvv1.Operation
	requests      []state.RequestID // of the writes
	deadline      time.Time         // the latest
	sink          sink
}

// serve takes in the operations of one frame, or one of a call.
func (s *Server) serve(ops []*kvv1.Operation, c caller, arrived time.Time, to sink) {
	var now []*kvv1.Operation
	for _, op := range ops {
		struck := s.faults.strike(Kind(min(max(op.GetKind(), 0), math.MaxUint8)), func(m *Match) bool { return m.fitsOp(op) })
		switch {
		case struck == struck0:
			now = append(now, op)
		case struck.delay == nil:
			s.serveStruck(op, c, arrived, struck, to)
		default:
			s.running.Go(func() {
				s.linger(struck.delay)
				s.serveStruck(op, c, arrived, struck, to)
			})
		}
	}
	s.serveAll(now, c, arrived, to)
}

var struck0 struck

// linger waits as long as a Delay says.
func (s *Server) linger(f *Fault) {
	timer := time.NewTimer(f.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.over:
	case <-s.closing:
	}
}

func (s *Server) serveStruck(op *kvv1.Operation, c caller, arrived time.Time, by struck, to sink) {
	if by.drop {
		to = losing{to}
	}
	if by.refusal == nil {
		s.serveAll([]*kvv1.Operation{op}, c, arrived, to)
		return
	}
	to.deliver([]*kvv1.Answer{{
		Id: op.GetId(), Error: by.refusal.GetError(), Found: by.refusal.GetFound(), Version: by.refusal.GetVersion(),
	}})
}

// losing is a sink that loses what it is given.
type losing struct{ sink }

func (l losing) deliver([]*kvv1.Answer) { l.lose() }

// serveAll hands operations to their shards.
func (s *Server) serveAll(ops []*kvv1.Operation, c caller, arrived time.Time, to sink) {
	for len(ops) > 0 {
		n := min(len(ops), maxOpsPerBatch)
		batches := make(map[*shard]*batch)
		var order []*batch
		for _, op := range ops[:n] {
			deadline := arrived.Add(timeLeft(op))
			sh, err := s.route(op, c, deadline)
			if err != nil {
				to.deliver([]*kvv1.Answer{s.refuse(op, sh, err)})
				continue
			}
			b := batches[sh]
			if b == nil {
				b = &batch{shard: sh, sink: to}
				batches[sh], order = b, append(order, b)
			}
			b.add(op, c, deadline)
		}
		for _, b := range order {
			b.submit()
		}
		ops = ops[n:]
	}
}

func timeLeft(op *kvv1.Operation) time.Duration {
	if op.GetTimeLeftUs() == 0 {
		return defaultTimeLeft
	}
	return time.Duration(min(op.GetTimeLeftUs(), uint64(maxTimeLeft/time.Microsecond))) * time.Microsecond
}

// route checks an operation and finds its shard. With WrongShard it is the one that has
// the slot.
func (s *Server) route(op *kvv1.Operation, c caller, deadline time.Time) (*shard, error) {
	if !deadline.After(time.Now()) {
		return nil, errTimeOver
	}
	if err := s.check(op, c); err != nil {
		return nil, err
	}
	slot := shardmap.SlotOf(kvop.Key(op))
	sh := s.shardOf(slot)
	if asked := shardmap.ShardID(op.GetShard()); asked != 0 && asked != sh.record.Shard {
		return sh, wrongShard(asked, slot)
	}
	return sh, nil
}

func wrongShard(shard shardmap.ShardID, slot shardmap.Slot) error {
	e := kverr.New(kverr.WrongShard, "slot %d is not in shard %d's arc", slot, shard)
	e.Shard = uint64(shard)
	return e
}

// check refuses what can never succeed as it stands.
func (s *Server) check(op *kvv1.Operation, c caller) error {
	kind := op.GetKind()
	if kind < kvv1.OperationKind_OPERATION_KIND_GET || kind > kvv1.OperationKind_OPERATION_KIND_TXN {
		return kverr.New(kverr.Invalid, "operation kind %d is not known to this node", kind)
	}
	key := kvop.Key(op)
	switch {
	case len(key) == 0:
		return kverr.New(kverr.Invalid, "the key is empty")
	case len(key) > MaxKeyBytes:
		return kverr.New(kverr.Invalid, "the key has %d bytes; at most %d are allowed", len(key), MaxKeyBytes)
	case len(op.GetValue()) > MaxValueBytes:
		return kverr.New(kverr.Invalid, "the value has %d bytes; at most %d are allowed", len(op.GetValue()), MaxValueBytes)
	case len(op.GetValue()) > 0 && kind != kvv1.OperationKind_OPERATION_KIND_PUT:
		return kverr.New(kverr.Invalid, "operation kind %d carries no value", kind)
	}
	if kind == kvv1.OperationKind_OPERATION_KIND_GET {
		return checkLevel(op.GetLevel(), op.GetMaxAgeUs(), op.GetMinVersion())
	}
	switch {
	case len(op.GetClientId()) != 0 && len(op.GetClientId()) != len(c.client):
		return kverr.New(kverr.Invalid, "client_id has %d bytes; it must have 16, or none", len(op.GetClientId()))
	case op.GetNumber() != 0 && len(op.GetClientId()) == 0 && !c.named:
		return kverr.New(kverr.Invalid, "a write with a number needs a client_id")
	case op.GetNumber() != 0 && op.GetNotAfterUs() == 0:
		return kverr.New(kverr.Invalid, "a write with a number needs not_after_us")
	}
	return s.limits.Check(op)
}

func checkLevel(level kvv1.ReadLevel, ageMicros, least uint64) error {
	switch {
	case level < 0 || level > kvv1.ReadLevel_READ_LEVEL_ANY:
		return kverr.New(kverr.Invalid, "read level %d is not known to this node", level)
	case level == kvv1.ReadLevel_READ_LEVEL_SESSION && least > state.MaxVersion:
		return kverr.New(kverr.Invalid, "min_version is %d, which no shard can reach", least)
	case ageMicros > uint64(math.MaxInt64/time.Microsecond):
		return kverr.New(kverr.Invalid, "max_age_us is %d, which is no age", ageMicros)
	}
	return nil
}

// request is the identity of a write that passed check.
func (c *caller) request(op *kvv1.Operation) state.RequestID {
	if op.GetNumber() == 0 {
		return state.RequestID{}
	}
	id := state.RequestID{Client: c.client, Number: op.GetNumber(), LowestOpen: c.lowestOpen, NotAfter: op.GetNotAfterUs()}
	if len(op.GetClientId()) != 0 {
		id.Client, id.LowestOpen = state.ClientID(op.GetClientId()), op.GetLowestOpen()
	}
	return id
}

// refuse is the answer to an operation that was not carried out. sh is the shard that
// has its key, if that is known.
func (s *Server) refuse(op *kvv1.Operation, sh *shard, err error) *kvv1.Answer {
	a := &kvv1.Answer{Id: op.GetId()}
	sh.refuse(a, err)
	return a
}

func (sh *shard) refuse(a *kvv1.Answer, err error) {
	a.Error = wire.ErrorToProto(err)
	a.Error.NodeId = nodeID
	if sh == nil {
		return
	}
	if a.Error.Shard == 0 {
		a.Error.Shard = uint64(sh.record.Shard)
	}
	if kverr.KindOf(err) == kverr.WrongShard {
		a.Record, a.Leader = wire.RecordToProto(sh.record), sh.leader()
	}
}

func (sh *shard) leader() *kvv1.LeaderHint {
	return &kvv1.LeaderHint{Shard: uint64(sh.record.Shard), Term: term, NodeId: nodeID}
}

func (b *batch) add(op *kvv1.Operation, c caller, deadline time.Time) {
	if op.GetKind() == kvv1.OperationKind_OPERATION_KIND_GET {
		b.reads = append(b.reads, op)
	} else {
		b.writes, b.requests = append(b.writes, op), append(b.requests, c.request(op))
	}
	if deadline.After(b.deadline) {
		b.deadline = deadline
	}
}

func (b *batch) submit() {
	if len(b.writes) > 0 {
		ops := make([]state.Op, len(b.writes))
		for i, op := range b.writes {
			ops[i] = kvop.Write(op, b.requests[i])
		}
		b.shard.submit(job{ops: ops, deadline: b.deadline, done: b.written})
	}
	if len(b.reads) > 0 {
		b.shard.submit(job{look: b.look})
	}
}

// written answers the writes.
func (b *batch) written(results []state.Result, version uint64, err error) {
	answers := make([]*kvv1.Answer, len(b.writes))
	for i, op := range b.writes {
		a := &kvv1.Answer{Id: op.GetId()}
		answers[i] = a
		if err != nil {
			b.shard.refuse(a, err)
			continue
		}
		a.ShardVersion = version
		if kvop.Answer(a, &results[i]) {
			a.ServedBy = kvv1.ServedBy_SERVED_BY_LEADER
			continue
		}
		b.shard.refuse(a, kvop.Refusal(&results[i], kvop.Key(op)))
	}
	b.sink.deliver(answers)
}

// look answers the reads.
func (b *batch) look(err error) {
	answers := make([]*kvv1.Answer, len(b.reads))
	for i, op := range b.reads {
		a := &kvv1.Answer{Id: op.GetId()}
		answers[i] = a
		failed := err
		if failed == nil {
			failed = b.shard.get(a, op)
		}
		if failed != nil {
			b.shard.refuse(a, failed)
		}
	}
	b.sink.deliver(answers)
}

// get answers one read.
func (sh *shard) get(a *kvv1.Answer, op *kvv1.Operation) error {
	v, found, err := sh.read(op.GetKey(), op.GetLevel() == kvv1.ReadLevel_READ_LEVEL_LINEARIZABLE)
	if err != nil {
		return err
	}
	last := sh.machine.LastVersion()
	a.Found, a.Version, a.ExpiresUs = found, v.Version, v.Expires
	a.ShardVersion, a.ServedBy = last, sh.serves(op.GetLevel(), op.GetMaxAgeUs())
	a.NotModified = found && op.GetIfNotVersion() == v.Version
	if !a.NotModified && !op.GetKeysOnly() {
		a.Value = v.Data
	}
	return nil
}

// neverGiven is the answer to a token that cannot be of this shard.
func neverGiven(version, last uint64) error {
	return kverr.New(kverr.Invalid, "the token asks for version %d; the shard is at %d and has not given that out: "+
		"the token is of another cluster, or damaged", version, last)
}

// serves is how the shard serves a read: as the leader, who knows that nobody has
// acknowledged more, or out of what it has applied, where the level allows that. As on a
// node, a bounded read is served so while the leader has asked less than its age ago.
// In the loop only.
func (sh *shard) serves(level kvv1.ReadLevel, maxAgeMicros uint64) kvv1.ServedBy {
	now := sh.server.clock.Boot()
	switch level {
	case kvv1.ReadLevel_READ_LEVEL_SESSION, kvv1.ReadLevel_READ_LEVEL_ANY:
		return kvv1.ServedBy_SERVED_BY_REPLICA
	case kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE:
		if sh.confirmed && now-sh.confirmedAt <= time.Duration(maxAgeMicros)*time.Microsecond {
			return kvv1.ServedBy_SERVED_BY_REPLICA
		}
	}
	sh.confirmed, sh.confirmedAt = true, now
	return kvv1.ServedBy_SERVED_BY_LEADER
}
