package state

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// TestPlainWritesReadNothing: the batches of this test cannot read.
func TestPlainWritesReadNothing(t *testing.T) {
	m := newMachine(t, fullRecord(), defaultLimits)
	ops := []Op{
		put("a", "v", RequestID{}), put("a", "v", request(1, 1, 1, 10)), {Kind: OpDelete, Key: []byte("a")},
		{Kind: OpPut, Key: []byte("a"), Expiry: ExpireAfter, TTL: 5},
	}
	e := Entry{Term: birthTerm, ShardTime: 5, Ops: ops}
	if _, _, err := m.ApplyEntry(newBatch(), birthIndex+1, birthTerm, e.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	reading := Entry{Term: birthTerm, Ops: []Op{{Kind: OpAdd, Key: []byte("a")}}}
	if _, _, err := m.ApplyEntry(newBatch(), birthIndex+2, birthTerm, reading.AppendTo(nil)); err == nil {
		t.Fatal("these batches can read, so this test shows nothing")
	}
}

// TestAFailedReadStopsTheMachine: some replicas might decide otherwise.
func TestAFailedReadStopsTheMachine(t *testing.T) {
	for name, op := range map[string]Op{
		"add": {Kind: OpAdd, Key: []byte("a")}, "sweep": {Kind: OpSweep, Key: []byte("a"), Deadline: 1},
		"transaction": {Kind: OpTxn, Key: []byte("a"), Txn: &Txn{Compares: []Compare{{Kind: CompareAbsent, Key: []byte("a")}}}},
	} {
		m := newMachine(t, fullRecord(), defaultLimits)
		e := Entry{Term: birthTerm, ShardTime: 5, Ops: []Op{op}}
		_, _, err := m.ApplyEntry(newBatch(), birthIndex+1, birthTerm, e.AppendTo(nil))
		if err == nil || !errors.Is(m.Finish(newBatch()), err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRS3_ARefusalIsRemembered: a condition that did not hold must not hold for a
// late copy of the same request.
func TestRS3_ARefusalIsRemembered(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	ifAbsent := put("k", "mine", request(1, 1, 1, 1000))
	ifAbsent.Condition = IfAbsent
	res := apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{put("k", "theirs", RequestID{}), ifAbsent,
		{Kind: OpDelete, Key: []byte("k")}, ifAbsent}})
	refused := Result{Verdict: CondFailed, Version: 11, Detail: &Detail{Found: true, KeyVersion: 10}}
	again := refused
	again.Repeated = true
	want := []Result{{Verdict: Applied, Version: 10}, refused, {Verdict: Applied, Version: 12}, again}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Error(diff)
	}
	if len(s.data(t)) != 0 {
		t.Errorf("the late copy was applied: %v", s.data(t))
	}
}

// data is the user keys of a store.
func (s store) data(t testing.TB) map[string]Value {
	all := make(map[string]Value)
	for k, raw := range s {
		if _, key, ok := ParseDataKey([]byte(k)); ok {
			v, err := DecodeValue([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			all[string(key)] = v
		}
	}
	return all
}

// TestLargeDetailsAreNotKept: a repeated answer says that it lacks something.
func TestLargeDetailsAreNotKept(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	large := string(bytes.Repeat([]byte("x"), maxDetail))
	replace := put("k", "v", request(1, 1, 1, 1000))
	replace.Previous = true
	read := txnOf(Op{Kind: OpGet, Key: []byte("l")})
	read.Key, read.Request = []byte("l"), request(1, 2, 1, 1000)
	res := apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{
		put("k", large, RequestID{}), put("l", large, RequestID{}), replace, read, replace, read,
	}})[2:]
	if res[0].Detail == nil || string(res[0].Detail.Previous.Data) != large || string(res[1].Detail.Leaves[0].Value.Data) != large {
		t.Fatal("the first answers lack something")
	}
	want := []Result{
		{Verdict: Applied, Version: 12, Repeated: true, Detail: &Detail{Dropped: true}},
		{Verdict: Applied, Version: 13, Repeated: true, Detail: &Detail{Dropped: true}},
	}
	if diff := cmp.Diff(want, res[2:]); diff != "" {
		t.Error(diff)
	}
	if st := m.Requests(); st.Detail == 0 || st.Detail > 2*maxDetail {
		t.Errorf("%+v", st)
	}
}

// TestExpiryAfterTheEndOfTime: deadlines stay within what shard time can reach.
func TestExpiryAfterTheEndOfTime(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	op := Op{Kind: OpPut, Key: []byte("k"), Expiry: ExpireAfter, TTL: maxTTLMicros}
	apply(t, m, s, Entry{ShardTime: MaxVersion - 1, Ops: []Op{op}})
	if v := s.data(t)["k"]; v.Expires != MaxVersion {
		t.Errorf("%+v", v)
	}
}

// TestTouchedOnce: the second change of a key in a transaction is the one seen,
// and a value that was put stays a put when its deadline changes after it.
func TestTouchedOnce(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	k := []byte("k")
	apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{txnOf(
		Op{Kind: OpPut, Key: k, Value: []byte("v")}, Op{Kind: OpExpire, Key: k, Expiry: ExpireAfter, TTL: 5})}})
	want := []Change{{Kind: ChangePut, Version: 10, Expires: 15, Key: k, Value: []byte("v")}}
	if diff := cmp.Diff(want, m.Changes()); diff != "" {
		t.Error(diff)
	}
}

func TestDetailRoundTrip(t *testing.T) {
	value := func(t *rapid.T) *Value {
		if rapid.Bool().Draw(t, "none") {
			return nil
		}
		return &Value{
			Version: rapid.Uint64Range(1, MaxVersion).Draw(t, "version"),
			Expires: rapid.Uint64Max(MaxVersion).Draw(t, "expires"),
			Data:    rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "data"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := Result{Verdict: rapid.SampledFrom([]Verdict{Applied, CondFailed, NotANumber, Overflow}).Draw(t, "verdict"), Version: 9}
		r.Detail = &Detail{
			Found: rapid.Bool().Draw(t, "found"), Number: rapid.Int64().Draw(t, "number"), Previous: value(t),
			Else: rapid.Bool().Draw(t, "else"), Dropped: rapid.Bool().Draw(t, "dropped"),
		}
		if r.Detail.Found {
			r.Detail.KeyVersion = rapid.Uint64Max(MaxVersion).Draw(t, "key version")
		}
		for range rapid.IntRange(0, 3).Draw(t, "leaves") {
			l := Leaf{Found: rapid.Bool().Draw(t, "found"), Number: rapid.Int64().Draw(t, "number"), Previous: value(t)}
			if v := value(t); v != nil {
				l.Value = *v
			}
			r.Detail.Leaves = append(r.Detail.Leaves, l)
		}
		s := r.keep()
		got, ok := kept(9, s)
		if diff := cmp.Diff(r, got, cmpopts.EquateEmpty()); !ok || diff != "" {
			t.Fatalf("%x: %t\n%s", s, ok, diff)
		}
		for i := range len(s) {
			if i > 0 {
				if _, ok := kept(9, s[:i]); ok {
					t.Fatalf("%x is sound when cut to %d", s, i)
				}
			}
		}
		if _, ok := kept(9, s+"\x00"); ok {
			t.Fatal("a stray byte is accepted")
		}
	})
}

func FuzzKept(f *testing.F) {
	f.Add("\x08\x01\x05")
	f.Add("\x01\x20\x01\x50\x0c\x0b\x01\x00\x00\x00\x00\x00\x00\x00\x00\x05x")
	f.Fuzz(func(t *testing.T, s string) {
		if r, ok := kept(9, s); ok && r.keep() != s {
			t.Fatalf("%x is %+v, which is kept as %x", s, r, r.keep())
		}
	})
}

// TestATransactionMeetsBoundedValues: neither what it finds nor what it answers
// may be more than fits into memory.
func TestATransactionMeetsBoundedValues(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	half := string(bytes.Repeat([]byte("x"), MaxTxnRead/2))
	keys := []string{"{k}1", "{k}2", "{k}3"}
	for _, k := range keys {
		apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{put(k, half, RequestID{})}})
	}
	get := func(keys ...string) Op {
		var leaves []Op
		for _, k := range keys {
			leaves = append(leaves, Op{Kind: OpGet, Key: []byte(k)})
		}
		return txnOf(append(leaves, Op{Kind: OpPut, Key: []byte("{k}4")})...)
	}
	for name, tc := range map[string]struct {
		op   Op
		want Verdict
	}{
		"as much as may be": {get(keys[0], keys[1]), Applied},
		"finds too much":    {get(keys...), TxnTooLarge},
		"answers too much":  {get(keys[0], keys[0], keys[0]), TxnTooLarge},
	} {
		before := len(s)
		if got := apply(t, m, s, Entry{Ops: []Op{tc.op}})[0]; got.Verdict != tc.want {
			t.Errorf("%s: %v", name, got.Verdict)
		}
		if wrote := len(s) != before; wrote != (tc.want == Applied) {
			t.Errorf("%s: wrote %t", name, wrote)
		}
		delete(s, string(DataKey(nil, SlotFor(fullRecord().Shard, []byte("k")), []byte("{k}4"))))
	}
}

// A transaction that finds too much reads no further: a thousand large values would
// hold up the apply loop of every replica.
func TestATransactionThatFindsTooMuchEnds(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	large := string(bytes.Repeat([]byte("x"), MaxTxnRead/2))
	var compares []Compare
	var leaves []Op
	for i := range 12 {
		key := fmt.Sprint("{k}", i)
		apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{put(key, large, RequestID{})}})
		if i < 6 {
			compares = append(compares, Compare{Kind: ComparePresent, Key: []byte(key)})
		} else {
			leaves = append(leaves, Op{Kind: OpGet, Key: []byte(key)})
		}
	}
	for name, tc := range map[string]Op{
		"compares": {Kind: OpTxn, Key: []byte("{k}0"), Txn: &Txn{Compares: compares}},
		"leaves":   {Kind: OpTxn, Key: []byte("{k}0"), Txn: &Txn{Then: leaves[:1], Else: leaves[1:]}},
	} {
		b := newBatch(s)
		res, err := m.decide(b, SlotFor(fullRecord().Shard, []byte("{k}0")), &tc)
		if err != nil || res.Verdict != TxnTooLarge || b.reads != 3 {
			t.Errorf("%s: %v after %d reads, %v", name, res.Verdict, b.reads, err)
		}
	}
}
