package kvop

import (
	"fmt"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// The numbers of these enums are the same on the wire and in the log; beyond the
// highest that this build knows, an operation is refused before it is converted.
const (
	_ = uint(kvv1.Condition_CONDITION_VERSION) - uint(state.IfVersion)
	_ = uint(kvv1.Expiry_EXPIRY_AFTER) - uint(state.ExpireAfter)
	_ = uint(kvv1.CompareKind_COMPARE_KIND_VALUE_GREATER) - uint(state.CompareValueGreater)
)

var stateKind = map[kvv1.OperationKind]state.OpKind{
	kvv1.OperationKind_OPERATION_KIND_GET:    state.OpGet,
	kvv1.OperationKind_OPERATION_KIND_PUT:    state.OpPut,
	kvv1.OperationKind_OPERATION_KIND_DELETE: state.OpDelete,
	kvv1.OperationKind_OPERATION_KIND_ADD:    state.OpAdd,
	kvv1.OperationKind_OPERATION_KIND_EXPIRE: state.OpExpire,
	kvv1.OperationKind_OPERATION_KIND_TXN:    state.OpTxn,
}

// Key is the key by which an operation is routed: its own, or one of its
// transaction's if it names none.
func Key(op *kvv1.Operation) []byte {
	t := op.Txn
	switch {
	case t == nil || len(op.Key) > 0:
		return op.Key
	case len(t.Compares) > 0:
		return t.Compares[0].GetKey()
	case len(t.Then) > 0:
		return t.Then[0].GetKey()
	case len(t.Otherwise) > 0:
		return t.Otherwise[0].GetKey()
	}
	return nil
}

// Write is the shard's form of a write that passed Check.
func Write(op *kvv1.Operation, request state.RequestID) state.Op {
	o := state.Op{
		Key: Key(op), Value: op.Value, Request: request,
		Condition: state.Condition(op.Condition), IfVersion: op.IfVersion,
		Expiry: state.Expiry(op.Expiry), TTL: op.TtlUs, Delta: op.Delta, Previous: op.WantPrevious,
	}
	switch op.Kind { // the map is for the rest: these are the hot ones
	case kvv1.OperationKind_OPERATION_KIND_PUT:
		o.Kind = state.OpPut
	case kvv1.OperationKind_OPERATION_KIND_DELETE:
		o.Kind = state.OpDelete
	default:
		o.Kind = stateKind[op.Kind]
		o.Txn = txnOf(op.Txn)
	}
	return o
}

func txnOf(t *kvv1.Txn) *state.Txn {
	if t == nil {
		return nil
	}
	txn := &state.Txn{Then: leavesOf(t.Then), Else: leavesOf(t.Otherwise)}
	if len(t.Compares) > 0 {
		txn.Compares = make([]state.Compare, len(t.Compares))
	}
	for i, c := range t.Compares {
		txn.Compares[i] = state.Compare{Kind: state.CompareKind(c.Kind), Key: c.Key, Version: c.Version, Value: c.Value}
	}
	return txn
}

func leavesOf(leaves []*kvv1.Leaf) []state.Op {
	if len(leaves) == 0 {
		return nil
	}
	ops := make([]state.Op, len(leaves))
	for i, l := range leaves {
		ops[i] = state.Op{
			Kind: stateKind[l.Kind], Key: l.Key, Value: l.Value, Expiry: state.Expiry(l.Expiry), TTL: l.TtlUs,
			Delta: l.Delta, Previous: l.WantPrevious,
		}
	}
	return ops
}

// isPlain reports whether an operation is a put or delete and no more, which needs
// no look at fields that it has not.
func isPlain(op *kvv1.Operation) bool {
	return (op.Kind == kvv1.OperationKind_OPERATION_KIND_PUT || op.Kind == kvv1.OperationKind_OPERATION_KIND_DELETE) &&
		op.Condition == 0 && op.IfVersion == 0 && op.Expiry == 0 && op.TtlUs == 0 && op.Delta == 0 && op.Txn == nil
}

// Limits are a node's own bounds, which may be lower than the shards'.
type Limits struct{ MaxKeyBytes, MaxValueBytes int }

// Check refuses a write that could never be applied, as Invalid or CrossSlot. Keys
// and values of a write that is no transaction are the caller's to bound.
func (l Limits) Check(op *kvv1.Operation) error {
	if isPlain(op) {
		return nil
	}
	if op.Condition < 0 || op.Condition > kvv1.Condition_CONDITION_VERSION || !knownExpiry(op.Expiry) {
		return kverr.New(kverr.Invalid, "condition %d or expiry %d is not known to this node", op.Condition, op.Expiry)
	}
	if op.Txn != nil {
		if err := l.checkTxn(op.Txn); err != nil {
			return err
		}
	}
	o := Write(op, state.RequestID{})
	return o.Validate()
}

func knownExpiry(e kvv1.Expiry) bool { return e >= 0 && e <= kvv1.Expiry_EXPIRY_AFTER }

// checkTxn refuses what Write cannot convert, and what is over the limits.
func (l Limits) checkTxn(t *kvv1.Txn) error {
	n := len(t.Compares) + len(t.Then) + len(t.Otherwise)
	if n > state.MaxTxnOps {
		return kverr.New(kverr.Invalid, "a transaction of %d compares and leaves; at most %d are allowed", n, state.MaxTxnOps)
	}
	bounded := func(key, value []byte) error {
		if len(key) > l.MaxKeyBytes || len(value) > l.MaxValueBytes {
			return kverr.New(kverr.Invalid, "a key of %d bytes with a value of %d in a transaction; at most %d and %d are allowed",
				len(key), len(value), l.MaxKeyBytes, l.MaxValueBytes)
		}
		return nil
	}
	for _, c := range t.Compares {
		if c.GetKind() < 0 || c.GetKind() > kvv1.CompareKind_COMPARE_KIND_VALUE_GREATER {
			return kverr.New(kverr.Invalid, "compare %d is not known to this node", c.GetKind())
		}
		if err := bounded(c.GetKey(), c.GetValue()); err != nil {
			return err
		}
	}
	for _, leaves := range [][]*kvv1.Leaf{t.Then, t.Otherwise} {
		for _, leaf := range leaves {
			if stateKind[leaf.GetKind()] == 0 || !knownExpiry(leaf.GetExpiry()) {
				return kverr.New(kverr.Invalid, "operation %d with expiry %d in a transaction is not known to this node", leaf.GetKind(), leaf.GetExpiry())
			}
			if err := bounded(leaf.GetKey(), leaf.GetValue()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Answer fills in the answer to a write; false when it was decided against it, and
// the error is still to be set.
func Answer(a *kvv1.Answer, r *state.Result) bool {
	a.Repeated = r.Repeated
	d := r.Detail
	if r.Verdict != state.Applied {
		if d != nil {
			a.Found, a.Version = d.Found, d.KeyVersion
		}
		return false
	}
	a.Version = r.Version
	if d == nil {
		return true
	}
	a.Found, a.Counter, a.Otherwise, a.DetailDropped = d.Found, d.Number, d.Else, d.Dropped
	a.Previous = previousOf(d.Previous)
	if len(d.Leaves) > 0 {
		a.Leaves = make([]*kvv1.LeafAnswer, len(d.Leaves))
	}
	for i := range d.Leaves {
		l := &d.Leaves[i]
		a.Leaves[i] = &kvv1.LeafAnswer{
			Found: l.Found, Value: l.Value.Data, Version: l.Value.Version, ExpiresUs: l.Value.Expires,
			Counter: l.Number, Previous: previousOf(l.Previous),
		}
	}
	return true
}

func previousOf(v *state.Value) *kvv1.Previous {
	if v == nil {
		return nil
	}
	return &kvv1.Previous{Found: true, Value: v.Data, Version: v.Version, ExpiresUs: v.Expires}
}

// Refusal is the error of a write to key that was decided against, or not decided.
func Refusal(r *state.Result, key []byte) *kverr.Error {
	e := &kverr.Error{Message: refusalText(r, key)}
	switch r.Verdict {
	case state.WrongShard:
		e.Kind = kverr.WrongShard
	case state.Expired:
		e.Kind = kverr.Expired
	case state.TooFar, state.TxnTooLarge:
		e.Kind = kverr.Invalid
	case state.StaleDuplicate:
		e.Kind = kverr.StaleDuplicate
	case state.TableFull:
		e.Kind, e.RetryAfter = kverr.Overloaded, tableFullRetry
	case state.Superseded:
		e.Kind = kverr.NotLeader
	case state.CondFailed:
		e.Kind = kverr.CondFailed
	case state.NotANumber:
		e.Kind = kverr.NotANumber
	case state.Overflow:
		e.Kind = kverr.Overflow
	default: // what this build cannot read it cannot vouch for
		e.Kind, e.Message = kverr.OutcomeUnknown, r.Verdict.String()
	}
	return e
}

// tableFullRetry is the hint at a full request table: its records go as their
// callers close them.
const tableFullRetry = time.Second

func refusalText(r *state.Result, key []byte) string {
	switch {
	case r.Verdict == state.CondFailed && r.Detail != nil && !r.Detail.Found:
		return fmt.Sprintf("not applied: the condition on %.64q does not hold: there is no such key", key)
	case r.Verdict == state.CondFailed && r.Detail != nil:
		return fmt.Sprintf("not applied: the condition on %.64q does not hold: its version is %d", key, r.Detail.KeyVersion)
	}
	return "not applied: " + r.Verdict.String()
}
