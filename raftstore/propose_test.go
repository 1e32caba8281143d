package raftstore

import (
	"fmt"
	"testing"

	"github.com/ringfort/ringfort/raftstore/state"
)

// P9: what keeps an entry counts its length, so it has about that.
func TestP9_AnEntryTakesWhatItCounts(t *testing.T) {
	txn := &state.Txn{}
	for i := range 1000 {
		txn.Then = append(txn.Then, state.Op{Kind: state.OpGet, Key: fmt.Append(nil, "{k}", i)})
	}
	op := state.Op{Kind: state.OpTxn, Key: []byte("{k}0"), Txn: txn}
	data := encode(&state.Entry{Term: 1, Ops: []state.Op{op}}, state.OpSize(&op))
	if cap(data) > 2*len(data)+4<<10 {
		t.Errorf("an entry of %d bytes takes %d", len(data), cap(data))
	}
	if e, err := state.DecodeEntry(data); err != nil || len(e.Ops) != 1 || len(e.Ops[0].Txn.Then) != 1000 {
		t.Errorf("%d operations, %v", len(e.Ops), err)
	}
}
