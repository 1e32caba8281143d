package kvserver

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/kvop"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// batch is what writes and reads of one part for one shard have in common. Its
// operations and answers are slabs: a few allocations per batch, none per key.
type batch struct {
	server  *Server
	sink    sink
	shard   shardmap.ShardID
	share   *share // of the stream's room; nil for a call
	arrived time.Time
	answers []kvv1.Answer // one per operation, ids set
	charge  int
	failed  [numOps]int // operations that were refused
}

// writeBatch is one raftstore.Write and its answers.
type writeBatch struct {
	batch
	write raftstore.Write
	kinds [numOps]int // how many of each
}

// readBatch is one raftstore.Read and its answers.
type readBatch struct {
	batch
	read   raftstore.Read
	wishes []wish // by operation; nil when there are none
}

// wish is what an operation asks for beside its class.
type wish struct {
	keysOnly bool
	known    uint64 // the version that the caller has; 0 for none
}

// handOver gives a shard those of its writes and reads of one part that were admitted
// since. Keys and values are the decoded messages' own; the groups borrow them until
// Done.
func (s *Server) handOver(t *target, in part) {
	writes, reads := t.writes[t.gone.writes:t.admitted.writes], t.reads[t.gone.reads:t.admitted.reads]
	t.gone = t.admitted
	if n := len(writes); n > 0 {
		s.counters.writes.Add(uint64(n))
		b := &writeBatch{batch: s.newBatch(t, n, in)}
		b.write = raftstore.Write{Ops: make([]state.Op, n), Deadline: t.deadline, Done: b.done}
		for i, index := range writes {
			op := in.ops[index]
			b.kinds[opOf(op.Kind)]++
			b.write.Ops[i] = kvop.Write(op, in.caller.request(op))
			b.answers[i].Id = op.Id
			b.charge += requestBytes(op, in.estimate)
		}
		t.group.Propose(&b.write)
	}
	t.classify(reads, in)
	for i := range t.classes {
		s.read(t, &t.classes[i], in)
	}
}

func (s *Server) read(t *target, class *readClass, in part) {
	n := len(class.ops)
	s.counters.reads.Add(uint64(n))
	b := &readBatch{batch: s.newBatch(t, n, in)}
	b.read = raftstore.Read{ReadSpec: class.spec, Keys: make([][]byte, n), Deadline: t.deadline, Done: b.done}
	for i, index := range class.ops {
		op := in.ops[index]
		b.read.Keys[i] = op.Key
		b.answers[i].Id = op.Id
		b.charge += requestBytes(op, in.estimate)
		if b.wishes == nil && (op.KeysOnly || op.IfNotVersion != 0) {
			b.wishes = make([]wish, n)
		}
		if b.wishes != nil {
			b.wishes[i] = wish{keysOnly: op.KeysOnly, known: op.IfNotVersion}
		}
	}
	t.group.Get(&b.read)
}

func (s *Server) newBatch(t *target, n int, in part) batch {
	s.measures.batches.Add(1)
	return batch{server: s, sink: in.sink, shard: t.shard, share: t.share, arrived: in.arrived, answers: make([]kvv1.Answer, n)}
}

// done is the Write's Done.
func (b *writeBatch) done(results []state.Result, shardVersion uint64, err error) {
	ops := b.write.Ops
	if err == nil && len(results) != len(ops) {
		err = kverr.New(kverr.OutcomeUnknown, "shard %d answered %d of %d writes", b.shard, len(results), len(ops))
	}
	var redirects []redirect
	if err != nil {
		redirects = b.fail(err, func(i int) (Op, []byte) { return writeOp(ops[i].Kind), ops[i].Key })
	} else {
		for i := range results {
			a, r := &b.answers[i], &results[i]
			a.ShardVersion = shardVersion
			if kvop.Answer(a, r) {
				a.ServedBy = kvv1.ServedBy_SERVED_BY_LEADER
				continue
			}
			redirects = b.refuse(i, b.verdict(r, ops[i].Key), writeOp(ops[i].Kind), ops[i].Key, redirects)
		}
	}
	b.measure()
	clear(ops) // the borrow is over; other batches of the frame may live on
	b.sink.deliver(delivery{answers: b.answers, redirects: redirects, share: b.share, charge: b.charge})
}

// done is the Read's Done.
func (b *readBatch) done(values []raftstore.Value, shardVersion uint64, err error) {
	keys := b.read.Keys
	if err == nil && len(values) != len(keys) {
		err = kverr.New(kverr.Internal, "shard %d answered %d of %d reads", b.shard, len(values), len(keys))
	}
	var redirects []redirect
	if err != nil {
		redirects = b.fail(err, func(i int) (Op, []byte) { return OpGet, keys[i] })
	} else {
		for i := range values {
			a, v := &b.answers[i], &values[i]
			a.ShardVersion = shardVersion
			var w wish
			if b.wishes != nil {
				w = b.wishes[i]
			}
			switch {
			case v.WrongShard:
				redirects = b.refuse(i, b.verdict(&state.Result{Verdict: state.WrongShard}, keys[i]), OpGet, keys[i], redirects)
			default:
				a.Found, a.Version, a.ExpiresUs, a.ServedBy = v.Found, v.Version, v.Expires, servedBy(b.read.Served)
				a.NotModified = v.Found && w.known == v.Version
				if !a.NotModified && !w.keysOnly {
					a.Value = v.Data
				}
			}
		}
	}
	b.measure()
	clear(keys)
	b.sink.deliver(delivery{answers: b.answers, redirects: redirects, share: b.share, charge: b.charge, reads: true})
}

func servedBy(by raftstore.ServedBy) kvv1.ServedBy {
	switch by {
	case raftstore.ByLeader:
		return kvv1.ServedBy_SERVED_BY_LEADER
	case raftstore.ByFollower:
		return kvv1.ServedBy_SERVED_BY_FOLLOWER
	case raftstore.ByReplica:
		return kvv1.ServedBy_SERVED_BY_REPLICA
	}
	return kvv1.ServedBy_SERVED_BY_UNSPECIFIED
}

// measure counts the answers of a batch; the refused ones are counted already.
func (b *writeBatch) measure() {
	m := &b.server.measures
	failed := 0
	for op, n := range b.kinds {
		if ok := n - b.failed[op]; ok > 0 {
			m.results[op][0].Add(uint64(ok))
		}
		failed += b.failed[op]
	}
	m.took(&m.writes, b.arrived, len(b.answers), failed)
	m.answered.Add(1)
}

// measure counts the answers of a batch; the refused ones are counted already.
func (b *readBatch) measure() {
	m := &b.server.measures
	if ok := len(b.answers) - b.failed[OpGet]; ok > 0 {
		m.results[OpGet][0].Add(uint64(ok))
	}
	m.took(&m.reads, b.arrived, len(b.answers), b.failed[OpGet])
	m.answered.Add(1)
}

func writeOp(kind state.OpKind) Op {
	switch kind {
	case state.OpDelete:
		return OpDelete
	case state.OpAdd:
		return OpAdd
	case state.OpExpire:
		return OpExpire
	case state.OpTxn:
		return OpTxn
	}
	return OpPut
}

// fail gives all operations the same error.
func (b *batch) fail(err error, what func(int) (Op, []byte)) (redirects []redirect) {
	failure := b.server.failure(b.shard, err)
	for i := range b.answers {
		op, key := what(i)
		redirects = b.refuse(i, failure, op, key, redirects)
	}
	return redirects
}

// refuse gives one operation an error, and notes it when it needs directions.
func (b *batch) refuse(i int, failure *kvv1.Error, op Op, key []byte, redirects []redirect) []redirect {
	a := &b.answers[i]
	b.failed[op]++
	b.server.measures.failed(op, failure.Kind)
	b.server.setError(a, failure)
	if needsDirections(failure) {
		redirects = append(redirects, redirect{answer: a, shard: b.shard, slot: shardmap.SlotOf(key)})
	}
	return redirects
}

// refuse answers the operations that went nowhere, in one delivery. They are charged
// with nothing.
func (s *Server) refuse(refused []refusal, in part) {
	if len(refused) == 0 {
		return
	}
	d := delivery{answers: make([]kvv1.Answer, len(refused))}
	for i := range refused {
		r, a := &refused[i], &d.answers[i]
		op := in.ops[r.index]
		a.Id = op.Id
		s.setError(a, s.failure(r.shard, r.err))
		s.measures.failed(opOf(op.Kind), a.Error.Kind)
		if needsDirections(a.Error) {
			r.redirect.answer = a
			d.redirects = append(d.redirects, r.redirect)
		}
	}
	s.measures.took(&s.measures.failures, in.arrived, len(refused), len(refused))
	in.sink.deliver(d)
}
