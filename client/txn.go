package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// maxTxnParts bounds the compares and operations of one transaction together.
const maxTxnParts = 1024

// Txn is a transaction under construction: if all its compares hold, one list
// of operations is applied, otherwise another one. All keys must lie in one slot,
// which those do that share a hash tag: "{user17}/name", "{user17}/mail".
//
// The whole is one write: decided and applied at one point of the shard's
// history, all of it or nothing, under one version. It is not safe for concurrent
// use.
type Txn struct {
	client          *Client
	verb            verb
	compares        []Compare
	then, otherwise []Op
}

// TxnResult tells about a transaction that was applied.
type TxnResult struct {
	// Succeeded says which list was applied: that of Then if all compares held, that
	// of Else otherwise.
	Succeeded bool
	Version   uint64 // of everything that it wrote
	Repeated  bool   // an earlier try under the same id had been applied; this is its answer
	// Results has one result for each operation of the list that was applied, in
	// order; nil when ResultsLost.
	Results []OpResult
	// ResultsLost: the answer is Repeated, and its details were too large for the
	// shard to remember them. What the transaction did is certain all the same.
	ResultsLost bool
}

// OpResult is the result of one operation of a transaction. Fields that mean
// nothing to the operation are zero.
type OpResult struct {
	Key     string
	Found   bool      // of OpGet, OpExpire and OpPersist: there was a key
	Value   []byte    // of OpGet
	Version uint64    // of the value read, or of the transaction
	Expires time.Time // of OpGet
	Number  int64     // of OpAdd: the new number
	// Previous is what an operation with WithPrevious replaced; nil for nothing.
	Previous *Item
}

// Txn starts a transaction. Nothing happens before Commit.
func (c *Client) Txn() *Txn { return &Txn{client: c, verb: verbTxn} }

// If adds compares, all of which must hold for the operations of Then to be
// applied. They see the keys as they are before the transaction.
func (t *Txn) If(compares ...Compare) *Txn {
	t.compares = append(t.compares, compares...)
	return t
}

// Then adds operations to be applied if all compares hold, or if there are none.
// Each sees what those before it did.
func (t *Txn) Then(ops ...Op) *Txn {
	t.then = append(t.then, ops...)
	return t
}

// Else adds operations to be applied if some compare does not hold.
func (t *Txn) Else(ops ...Op) *Txn {
	t.otherwise = append(t.otherwise, ops...)
	return t
}

// Commit sends the transaction and returns when its effects are durable on a
// majority of the shard's replicas. Like a Put it is sent as often as needed and
// applied once. A compare that does not hold is no error: see Succeeded.
//
// Keys in different slots are ErrCrossSlot, more than 1,024 compares and
// operations or more bytes than a frame takes ErrTooLarge, both before anything is
// sent. If an OpAdd meets ErrNotANumber or ErrOverflow nothing at all is applied.
func (t *Txn) Commit(ctx context.Context, opts ...WriteOption) (TxnResult, error) {
	d := t.client.driver()
	defer t.client.release(d)
	one := &d.single[0]
	for _, opt := range opts {
		opt.write(one.params)
	}
	one.verb = t.verb
	t.fill(one)
	d.run(ctx)
	if one.err != nil {
		return TxnResult{}, one.err
	}
	return t.result(one.answer), nil
}

// Batch applies operations on keys of one slot together, all or none, under one
// version: a transaction without compares. For write options, or for keys that
// need not change together, see Txn and PutMany.
func (c *Client) Batch(ctx context.Context, ops ...Op) (TxnResult, error) {
	t := c.Txn().Then(ops...)
	t.verb = verbBatch
	return t.Commit(ctx)
}

// fill makes the call of the transaction. Everything is copied: the message is
// shared by all attempts.
func (t *Txn) fill(c *call) {
	b := txnBuilder{txn: t, limits: &t.client.limits}
	pb := &kvv1.Txn{}
	for i := range t.compares {
		pb.Compares = append(pb.Compares, b.compare(&t.compares[i]))
	}
	for i := range t.then {
		pb.Then = append(pb.Then, b.leaf(&t.then[i]))
	}
	for i := range t.otherwise {
		pb.Otherwise = append(pb.Otherwise, b.leaf(&t.otherwise[i]))
	}
	if flaw := c.params.check(t.verb); flaw != "" {
		b.refuse(invalid(t.verb.String(), b.key, "%s", flaw))
	}
	if b.parts == 0 {
		b.refuse(invalid(t.verb.String(), "", "it has no operations"))
	}
	if b.parts > maxTxnParts {
		b.refuse(tooLarge(t.verb, b.key, "it has %d compares and operations, the limit is %d", b.parts, maxTxnParts))
	}
	if b.err == nil {
		c.key = append(c.key[:0], b.key...)
		c.txn, c.txnBytes = pb, proto.Size(pb)
		if size, limit := frameCost(c), int(t.client.limits.frame.Load()); size > limit {
			b.refuse(tooLarge(t.verb, b.key, "it has up to %d bytes, the limit is %d", size, limit))
		}
	}
	if b.err != nil {
		c.fail(b.err)
	}
}

// txnBuilder turns compares and operations into messages, and keeps the first
// fault.
type txnBuilder struct {
	txn    *Txn
	limits *limits
	parts  int
	key    string // the first
	slot   shardmap.Slot
	err    *Error
}

func (b *txnBuilder) refuse(err *Error) {
	if b.err == nil {
		b.err = err
	}
}

// take checks one compare or operation and returns its key.
func (b *txnBuilder) take(key string, value []byte, flaw string) []byte {
	b.parts++
	if err := b.limits.check(b.txn.verb, key, value); err != nil {
		b.refuse(err)
		return nil
	}
	if flaw != "" {
		b.refuse(invalid(b.txn.verb.String(), key, "%s", flaw))
	}
	k := []byte(key)
	slot := shardmap.SlotOf(k)
	if b.parts == 1 {
		b.key, b.slot = key, slot
	}
	if slot != b.slot {
		b.refuse(&Error{Op: b.txn.verb.String(), Key: b.key, Kind: ErrCrossSlot, Err: crossSlot(b.key, b.slot, key, slot)})
	}
	return k
}

func (b *txnBuilder) compare(c *Compare) *kvv1.Compare {
	key := b.take(c.key, c.value, c.flaw)
	return &kvv1.Compare{Kind: c.kind, Key: key, Version: c.version, Value: append([]byte(nil), c.value...)}
}

func (b *txnBuilder) leaf(op *Op) *kvv1.Leaf {
	key := b.take(op.key, op.value, op.params.check(op.verb))
	return &kvv1.Leaf{
		Kind: verbs[op.verb].kind, Key: key, Value: append([]byte(nil), op.value...),
		Expiry: op.expiry, TtlUs: op.ttl, Delta: op.delta, WantPrevious: op.previous,
	}
}

func (t *Txn) result(a *kvv1.Answer) TxnResult {
	r := TxnResult{Succeeded: !a.GetOtherwise(), Version: a.GetVersion(), Repeated: a.GetRepeated()}
	ops := t.then
	if a.GetOtherwise() {
		ops = t.otherwise
	}
	if a.GetDetailDropped() || len(a.GetLeaves()) != len(ops) {
		r.ResultsLost = true
		return r
	}
	r.Results = make([]OpResult, len(ops))
	for i, leaf := range a.GetLeaves() {
		r.Results[i] = OpResult{
			Key: ops[i].key, Found: leaf.GetFound(), Value: leaf.GetValue(), Version: leaf.GetVersion(),
			Expires: shardInstant(leaf.GetExpiresUs()), Number: leaf.GetCounter(),
			Previous: previousItem(ops[i].key, leaf.GetPrevious()),
		}
	}
	return r
}
