package kvserver

import (
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/raftstore/state"
)

// leafOverhead is what a compare or leaf costs in memory beside its bytes: the
// decoded message, the shard's form of it, its answer.
const leafOverhead = 320

func txnBytes(t *kvv1.Txn) (n int) {
	if t == nil {
		return 0
	}
	for _, c := range t.Compares {
		n += leafOverhead + len(c.GetKey()) + len(c.GetValue())
	}
	for _, leaves := range [][]*kvv1.Leaf{t.Then, t.Otherwise} {
		for _, l := range leaves {
			n += leafOverhead + len(l.GetKey()) + len(l.GetValue())
		}
	}
	return n
}

// space is the kind of operation that the disk has to have room for.
func space(op *kvv1.Operation) state.OpKind {
	if op.Kind == kvv1.OperationKind_OPERATION_KIND_DELETE {
		return state.OpDelete
	}
	return state.OpPut
}
