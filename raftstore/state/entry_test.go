package state

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
)

func drawAnyRequest(t *rapid.T) RequestID {
	if rapid.Bool().Draw(t, "anonymous") {
		return RequestID{}
	}
	return RequestID{
		Client:     ClientID{rapid.ByteMax(2).Draw(t, "client")},
		Number:     rapid.Uint64Min(1).Draw(t, "number"),
		LowestOpen: rapid.Uint64().Draw(t, "lowest open"),
		NotAfter:   rapid.Uint64().Draw(t, "not after"),
	}
}

func drawAnyEntry(t *rapid.T) Entry {
	e := Entry{
		ShardTime: rapid.Uint64Max(MaxVersion).Draw(t, "shard time"),
		Term:      rapid.Uint64().Draw(t, "term"),
		Proposal: ProposalID{
			Replica: rapid.Uint64().Draw(t, "replica"),
			Nonce:   rapid.Uint64().Draw(t, "nonce"),
			Counter: rapid.Uint64().Draw(t, "counter"),
		},
	}
	for range rapid.IntRange(0, 6).Draw(t, "ops") {
		if rapid.Bool().Draw(t, "of the data API") {
			op := drawOp(t, 1000, []twinDeadline{{deadline: 1005, key: "foo"}})
			if op.Kind != OpVerify && op.Kind != OpSweep {
				op.Request = drawAnyRequest(t)
			}
			e.Ops = append(e.Ops, op)
			continue
		}
		op := Op{
			Kind:    rapid.SampledFrom([]OpKind{OpPut, OpDelete, OpVerify}).Draw(t, "kind"),
			Key:     rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "key"),
			Request: drawAnyRequest(t),
		}
		if op.Kind == OpPut {
			op.Value = rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "value")
		}
		if op.Kind == OpVerify {
			op.Key, op.Request = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"), RequestID{}
		}
		e.Ops = append(e.Ops, op)
	}
	return e
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawAnyEntry(t)
		b := e.AppendTo([]byte("before"))[len("before"):]
		bound := EntryOverhead
		for i := range e.Ops {
			bound += OpSize(&e.Ops[i])
		}
		if len(b) > bound {
			t.Fatalf("%d bytes are over the bound of %d", len(b), bound)
		}
		got, err := DecodeEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		checkStrict(t, b, func(b []byte) error { _, err := DecodeEntry(b); return err })
	})
}

func TestOpSizeBoundsTheLargestOp(t *testing.T) {
	op := Op{
		Kind: OpPut, Key: make([]byte, MaxKeyBytes), Value: make([]byte, MaxValueBytes),
		Request: RequestID{Client: ClientID{1}, Number: 1, LowestOpen: 1 << 63, NotAfter: 1 << 63},
	}
	with := Entry{ShardTime: MaxVersion, Term: math.MaxUint64, Ops: []Op{op},
		Proposal: ProposalID{math.MaxUint64, math.MaxUint64, math.MaxUint64}}
	if n := len(with.AppendTo(nil)); n > EntryOverhead+OpSize(&op) {
		t.Errorf("%d bytes are over the bound of %d", n, EntryOverhead+OpSize(&op))
	}
}

// rawEntry is an entry of term 1 at shard time 0 with operations given as bytes.
func rawEntry(ops ...[]byte) []byte {
	b := (&Entry{Term: 1}).AppendTo(nil)
	b[len(b)-1] = byte(len(ops)) // the count comes last when it is 0
	return append(b, bytes.Join(ops, nil)...)
}

func TestEntryRefused(t *testing.T) {
	const put, numbered, same = byte(OpPut), byte(OpPut) | headRequest, byte(OpPut) | headRequest | headSameClient
	client := func(head byte, number byte) []byte {
		op := []byte{head, 1, 'k', 1, 'v'}
		if head&headSameClient == 0 {
			op = append(op, bytes.Repeat([]byte{7}, len(ClientID{}))...)
		}
		return append(op, number, 0, 0)
	}
	verification := func(head byte, id int) []byte { return append([]byte{head, byte(id)}, make([]byte, id)...) }
	long := func(key, value int) []byte {
		op := Op{Kind: OpPut, Key: make([]byte, key), Value: make([]byte, value)}
		return op.appendTo(nil, 0, nil)
	}
	late := append([]byte{entryFormat, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10}, rawEntry()[2:]...)
	newer := rawEntry()
	newer[0]++
	for _, tc := range []struct {
		name string
		b    []byte
		kind kverr.Kind
	}{
		{"sound", rawEntry([]byte{put, 1, 'k', 0}), kverr.None},
		{"sound, numbered", rawEntry(client(numbered, 1), client(same, 1)), kverr.None},
		{"sound, longest", rawEntry(long(MaxKeyBytes, MaxValueBytes)), kverr.None},
		{"empty", nil, kverr.Internal},
		{"over the limit", append(rawEntry(), make([]byte, MaxEntryBytes)...), kverr.Internal},
		{"newer format", newer, kverr.Format},
		{"sound, verification", rawEntry(verification(byte(OpVerify), 16)), kverr.None},
		{"verification with a short id", rawEntry(verification(byte(OpVerify), 15)), kverr.Internal},
		{"verification with a long id", rawEntry(verification(byte(OpVerify), 17)), kverr.Internal},
		{"verification with a request", rawEntry(append(verification(byte(OpVerify)|headRequest, 16), make([]byte, 16+3)...)), kverr.Internal},
		{"newer operation", rawEntry([]byte{9, 1, 'k', 0}), kverr.Format},
		{"sound, add", rawEntry([]byte{byte(OpAdd), 1, 'k', 3}), kverr.None},
		{"options that say nothing", rawEntry([]byte{put | headOptions, 0, 1, 'k', 0}), kverr.Internal},
		{"unknown option", rawEntry([]byte{put | headOptions, 0x20, 1, 'k', 0}), kverr.Internal},
		{"condition on version 0", rawEntry([]byte{put | headOptions, byte(IfVersion), 1, 'k', 0, 0}), kverr.Internal},
		{"time to live 0", rawEntry([]byte{put | headOptions, byte(ExpireAfter) << 2, 1, 'k', 0, 0}), kverr.Internal},
		{"get outside a transaction", rawEntry([]byte{byte(OpGet), 1, 'k'}), kverr.Internal},
		{"transaction of nothing", rawEntry([]byte{byte(OpTxn), 1, 'k', 0, 0, 0}), kverr.Internal},
		{"transaction with a get", rawEntry([]byte{byte(OpTxn), 1, 'k', 0, 1, byte(OpGet), 1, 'k', 0}), kverr.None},
		{"transaction across slots", rawEntry([]byte{byte(OpTxn), 1, 'k', 0, 1, byte(OpGet), 1, 'j', 0}), kverr.Internal},
		{"transaction in a transaction", rawEntry([]byte{byte(OpTxn), 1, 'k', 0, 1, byte(OpTxn), 1, 'k', 0, 0, 0, 0}), kverr.Internal},
		{"leaf with a request", rawEntry([]byte{byte(OpTxn), 1, 'k', 0, 1, byte(OpDelete) | headSameClient, 1, 'k', 0}), kverr.Internal},
		{"newer compare", rawEntry([]byte{byte(OpTxn), 1, 'k', 1, 11, 1, 'k', 0, 0}), kverr.Format},
		{"operation 0", rawEntry([]byte{0, 1, 'k', 0}), kverr.Format},
		{"unknown head bit", rawEntry([]byte{put | 0x80, 1, 'k', 0}), kverr.Internal},
		{"same client as nobody", rawEntry(client(same, 1)), kverr.Internal},
		{"same client without request", rawEntry([]byte{put | headSameClient, 1, 'k', 0}), kverr.Internal},
		{"client spelled out twice", rawEntry(client(numbered, 1), client(numbered, 1)), kverr.Internal},
		{"number 0", rawEntry(client(numbered, 0)), kverr.Internal},
		{"empty key", rawEntry([]byte{put, 0, 1, 'v'}), kverr.Internal},
		{"long key", rawEntry(long(MaxKeyBytes+1, 0)), kverr.Internal},
		{"long value", rawEntry(long(1, MaxValueBytes+1)), kverr.Internal},
		{"shard time past the end", late, kverr.Internal},
		{"more operations than bytes", append(rawEntry()[:len(rawEntry())-1], 100, put, 1, 'k', 0), kverr.Internal},
	} {
		_, err := DecodeEntry(tc.b)
		if tc.kind != kverr.None {
			wantKind(t, tc.name, err, tc.kind)
		} else if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
	}
}

func TestOpValidate(t *testing.T) {
	key := []byte("k")
	for _, tc := range []struct {
		name string
		op   Op
		ok   bool
	}{
		{"put", Op{Kind: OpPut, Key: key, Value: []byte("v")}, true},
		{"put of nothing", Op{Kind: OpPut, Key: key}, true},
		{"delete", Op{Kind: OpDelete, Key: key}, true},
		{"longest", Op{Kind: OpPut, Key: make([]byte, MaxKeyBytes), Value: make([]byte, MaxValueBytes)}, true},
		{"no kind", Op{Key: key}, false},
		{"verification", Op{Kind: OpVerify, Key: make([]byte, 16)}, true},
		{"verification with a short id", Op{Kind: OpVerify, Key: make([]byte, 15)}, false},
		{"verification with a value", Op{Kind: OpVerify, Key: make([]byte, 16), Value: []byte("v")}, false},
		{"verification with a request", Op{Kind: OpVerify, Key: make([]byte, 16), Request: RequestID{Number: 1}}, false},
		{"kind 9", Op{Kind: 9, Key: key}, false},
		{"add", Op{Kind: OpAdd, Key: key, Delta: -1}, true},
		{"add with value", Op{Kind: OpAdd, Key: key, Value: []byte("1")}, false},
		{"put if", Op{Kind: OpPut, Key: key, Condition: IfVersion, IfVersion: 7, Expiry: KeepExpiry, Previous: true}, true},
		{"put if version 0", Op{Kind: OpPut, Key: key, Condition: IfVersion}, false},
		{"put with a version it has no use for", Op{Kind: OpPut, Key: key, IfVersion: 7}, false},
		{"put if what", Op{Kind: OpPut, Key: key, Condition: 4}, false},
		{"add if", Op{Kind: OpAdd, Key: key, Condition: IfPresent}, false},
		{"longest life", Op{Kind: OpPut, Key: key, Expiry: ExpireAfter, TTL: maxTTLMicros}, true},
		{"too long a life", Op{Kind: OpPut, Key: key, Expiry: ExpireAfter, TTL: maxTTLMicros + 1}, false},
		{"no life", Op{Kind: OpExpire, Key: key, Expiry: ExpireAfter}, false},
		{"life without expiry", Op{Kind: OpPut, Key: key, TTL: 5}, false},
		{"expire", Op{Kind: OpExpire, Key: key, Expiry: ExpireAfter, TTL: 1}, true},
		{"persist", Op{Kind: OpExpire, Key: key}, true},
		{"expire keeping", Op{Kind: OpExpire, Key: key, Expiry: KeepExpiry}, false},
		{"delete with a life", Op{Kind: OpDelete, Key: key, Expiry: ExpireAfter, TTL: 1}, false},
		{"get", Op{Kind: OpGet, Key: key}, false},
		{"sweep", Op{Kind: OpSweep, Key: key, Deadline: 5}, true},
		{"sweep of no deadline", Op{Kind: OpSweep, Key: key}, false},
		{"sweep with a request", Op{Kind: OpSweep, Key: key, Deadline: 5, Request: RequestID{Number: 1}}, false},
		{"transaction", txnOf(Op{Kind: OpGet, Key: key}, Op{Kind: OpPut, Key: []byte("{k}2")}), true},
		{"transaction without content", Op{Kind: OpTxn, Key: key}, false},
		{"transaction of nothing", txnOf(), false},
		{"transaction too long", txnOf(make([]Op, MaxTxnOps+1)...), false},
		{"condition in a transaction", txnOf(Op{Kind: OpDelete, Key: key, Condition: IfPresent}), false},
		{"sweep in a transaction", txnOf(Op{Kind: OpSweep, Key: key, Deadline: 1}), false},
		{"compare with what is another's", Op{Kind: OpTxn, Key: key, Txn: &Txn{Compares: []Compare{
			{Kind: CompareAbsent, Key: key, Version: 1}}}}, false},
		{"compare nothing", Op{Kind: OpTxn, Key: key, Txn: &Txn{Compares: []Compare{{Key: key}}}}, false},
		{"empty key", Op{Kind: OpPut}, false},
		{"long key", Op{Kind: OpDelete, Key: make([]byte, MaxKeyBytes+1)}, false},
		{"long value", Op{Kind: OpPut, Key: key, Value: make([]byte, MaxValueBytes+1)}, false},
		{"delete with value", Op{Kind: OpDelete, Key: key, Value: []byte("v")}, false},
	} {
		err := tc.op.Validate()
		if tc.ok != (err == nil) {
			t.Errorf("%s: %v", tc.name, err)
		}
		e := Entry{Term: 1, Ops: []Op{tc.op}}
		if panics := panics(func() { e.AppendTo(nil) }); panics == tc.ok {
			t.Errorf("%s: encoding panics: %t", tc.name, panics)
		}
		if !tc.ok {
			wantKind(t, tc.name, err, kverr.Invalid)
		}
	}
}

func TestEncodingRefusesWhatDecodingRefuses(t *testing.T) {
	big := Op{Kind: OpPut, Key: []byte("k"), Value: make([]byte, MaxValueBytes)}
	for name, e := range map[string]Entry{
		"shard time":      {ShardTime: MaxVersion + 1},
		"many operations": {Ops: make([]Op, MaxEntryOps+1)},
		"many bytes":      {Ops: []Op{big, big}},
	} {
		if !panics(func() { e.AppendTo(nil) }) {
			t.Errorf("%s: encoding does not panic", name)
		}
	}
}

func panics(fn func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	fn()
	return false
}

func TestDecodeEntryAllocatesOnlyTheOps(t *testing.T) {
	e := benchEntry(64)
	b := e.AppendTo(nil)
	n := testing.AllocsPerRun(100, func() {
		if _, err := DecodeEntry(b); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add((&Entry{Term: 1}).AppendTo(nil))
	f.Add(benchEntry(3).AppendTo(nil))
	f.Add((&Entry{Term: 7, ShardTime: 1 << 50, Ops: []Op{
		{Kind: OpDelete, Key: []byte("k")},
		{Kind: OpVerify, Key: make([]byte, 16)},
		{Kind: OpPut, Key: []byte("k"), Request: RequestID{Number: 9, LowestOpen: 3, NotAfter: 1 << 60}},
		{Kind: OpDelete, Key: []byte("k"), Request: RequestID{Number: 8, LowestOpen: 11}},
	}}).AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			return
		}
		if again := e.AppendTo(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to what is written as %x", b, again)
		}
	})
}

// txnOf is a transaction on key k.
func txnOf(leaves ...Op) Op { return Op{Kind: OpTxn, Key: []byte("k"), Txn: &Txn{Then: leaves}} }

func TestKeysOfATransactionShareASlot(t *testing.T) {
	for name, op := range map[string]Op{
		"leaf":    txnOf(Op{Kind: OpGet, Key: []byte("j")}),
		"compare": {Kind: OpTxn, Key: []byte("k"), Txn: &Txn{Compares: []Compare{{Kind: CompareAbsent, Key: []byte("j")}}}},
	} {
		err := op.Validate()
		wantKind(t, name, err, kverr.CrossSlot)
		for _, key := range []string{`"k"`, `"j"`} {
			if !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v does not name %s", name, err, key)
			}
		}
	}
}
