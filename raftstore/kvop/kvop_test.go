package kvop

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

var limits = Limits{MaxKeyBytes: 100, MaxValueBytes: 1000}

func TestWriteTranslatesEveryField(t *testing.T) {
	k, id := []byte("{k}1"), state.RequestID{Number: 7}
	for name, tc := range map[string]struct {
		op   *kvv1.Operation
		want state.Op
	}{
		"put": {
			&kvv1.Operation{
				Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: k, Value: []byte("v"), WantPrevious: true,
				Condition: kvv1.Condition_CONDITION_VERSION, IfVersion: 5, Expiry: kvv1.Expiry_EXPIRY_AFTER, TtlUs: 9,
			},
			state.Op{Kind: state.OpPut, Key: k, Value: []byte("v"), Previous: true, Condition: state.IfVersion, IfVersion: 5,
				Expiry: state.ExpireAfter, TTL: 9, Request: id},
		},
		"delete": {
			&kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_DELETE, Key: k, Condition: kvv1.Condition_CONDITION_PRESENT},
			state.Op{Kind: state.OpDelete, Key: k, Condition: state.IfPresent, Request: id},
		},
		"add": {
			&kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_ADD, Key: k, Delta: -3},
			state.Op{Kind: state.OpAdd, Key: k, Delta: -3, Request: id},
		},
		"persist": {
			&kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_EXPIRE, Key: k},
			state.Op{Kind: state.OpExpire, Key: k, Request: id},
		},
		"txn": {
			&kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_TXN, Key: k, Txn: &kvv1.Txn{
				Compares: []*kvv1.Compare{
					{Kind: kvv1.CompareKind_COMPARE_KIND_VALUE_LESS, Key: k, Value: []byte("x")},
					{Kind: kvv1.CompareKind_COMPARE_KIND_VERSION_GREATER, Key: k, Version: 4},
				},
				Then: []*kvv1.Leaf{{Kind: kvv1.OperationKind_OPERATION_KIND_PUT, Key: k, Value: []byte("y"),
					Expiry: kvv1.Expiry_EXPIRY_KEEP, WantPrevious: true}},
				Otherwise: []*kvv1.Leaf{{Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: k},
					{Kind: kvv1.OperationKind_OPERATION_KIND_ADD, Key: k, Delta: 2}},
			}},
			state.Op{Kind: state.OpTxn, Key: k, Request: id, Txn: &state.Txn{
				Compares: []state.Compare{
					{Kind: state.CompareValueLess, Key: k, Value: []byte("x")},
					{Kind: state.CompareVersionGreater, Key: k, Version: 4},
				},
				Then: []state.Op{{Kind: state.OpPut, Key: k, Value: []byte("y"), Expiry: state.KeepExpiry, Previous: true}},
				Else: []state.Op{{Kind: state.OpGet, Key: k}, {Kind: state.OpAdd, Key: k, Delta: 2}},
			}},
		},
	} {
		if err := limits.Check(tc.op); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, Write(tc.op, id)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestCrossSlotIsItsOwnKind(t *testing.T) {
	op := &kvv1.Operation{Kind: kvv1.OperationKind_OPERATION_KIND_TXN, Key: []byte("a"), Txn: &kvv1.Txn{
		Then: []*kvv1.Leaf{{Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: []byte("b")}}}}
	if err := limits.Check(op); kverr.KindOf(err) != kverr.CrossSlot {
		t.Error(err)
	}
}

// Every verdict that is not success has a kind of its own meaning, and only what
// this build does not know is in doubt.
func TestRefusals(t *testing.T) {
	for v := state.Verdict(2); v < 30; v++ {
		e := Refusal(&state.Result{Verdict: v}, []byte("k"))
		if unknown := v > state.TxnTooLarge; (e.Kind == kverr.OutcomeUnknown) != unknown || e.Kind == kverr.None || e.Message == "" {
			t.Errorf("%v: %v, %q", v, e.Kind, e.Message)
		}
	}
}

func TestAnswerBringsEveryDetail(t *testing.T) {
	value := state.Value{Version: 3, Expires: 8, Data: []byte("old")}
	previous := &kvv1.Previous{Found: true, Value: []byte("old"), Version: 3, ExpiresUs: 8}
	for name, tc := range map[string]struct {
		result state.Result
		want   *kvv1.Answer
	}{
		"plain":    {state.Result{Verdict: state.Applied, Version: 9, Repeated: true}, &kvv1.Answer{Version: 9, Repeated: true}},
		"previous": {state.Result{Verdict: state.Applied, Version: 9, Detail: &state.Detail{Previous: &value}}, &kvv1.Answer{Version: 9, Previous: previous}},
		"sum": {
			state.Result{Verdict: state.Applied, Version: 9, Detail: &state.Detail{Found: true, KeyVersion: 3, Number: -4}},
			&kvv1.Answer{Version: 9, Found: true, Counter: -4},
		},
		"txn": {
			state.Result{Verdict: state.Applied, Version: 9, Detail: &state.Detail{Else: true, Leaves: []state.Leaf{
				{Found: true, Value: value}, {Number: 5}, {Found: true, Previous: &value}}}},
			&kvv1.Answer{Version: 9, Otherwise: true, Leaves: []*kvv1.LeafAnswer{
				{Found: true, Value: []byte("old"), Version: 3, ExpiresUs: 8}, {Counter: 5}, {Found: true, Previous: previous}}},
		},
		"dropped": {state.Result{Verdict: state.Applied, Version: 9, Detail: &state.Detail{Dropped: true}}, &kvv1.Answer{Version: 9, DetailDropped: true}},
		"refused": {
			state.Result{Verdict: state.CondFailed, Version: 9, Detail: &state.Detail{Found: true, KeyVersion: 3}},
			&kvv1.Answer{Found: true, Version: 3},
		},
	} {
		got := new(kvv1.Answer)
		if ok := Answer(got, &tc.result); ok != (tc.result.Verdict == state.Applied) {
			t.Errorf("%s: %t", name, ok)
		}
		if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}
