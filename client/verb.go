package client

import kvv1 "github.com/ringfort/ringfort/api/kv/v1"

// verb is a method of the client as its caller knows it.
type verb uint8

const (
	verbGet verb = iota
	verbTTL
	verbPut
	verbDelete
	verbAdd
	verbExpire
	verbPersist
	verbTxn
	verbBatch
	verbScan
	verbCount
	verbDeleteRange
	verbWatch
)

// verbs has for each its name in errors, its kind on the wire, and the options
// that mean something to it.
var verbs = [...]struct {
	name   string
	kind   kvv1.OperationKind
	allows optionSet
}{
	verbGet:         {"get", kvv1.OperationKind_OPERATION_KIND_GET, optReads | optIfNotVersion | optWithoutCache},
	verbTTL:         {"ttl", kvv1.OperationKind_OPERATION_KIND_GET, optReads &^ optKeysOnly},
	verbPut:         {"put", kvv1.OperationKind_OPERATION_KIND_PUT, optWrites | optCondition | optExpiry | optPrevious},
	verbDelete:      {"delete", kvv1.OperationKind_OPERATION_KIND_DELETE, optWrites | optCondition | optPrevious},
	verbAdd:         {"add", kvv1.OperationKind_OPERATION_KIND_ADD, optWrites},
	verbExpire:      {"expire", kvv1.OperationKind_OPERATION_KIND_EXPIRE, optWrites},
	verbPersist:     {"persist", kvv1.OperationKind_OPERATION_KIND_EXPIRE, optWrites},
	verbTxn:         {"txn", kvv1.OperationKind_OPERATION_KIND_TXN, optWrites},
	verbBatch:       {"batch", kvv1.OperationKind_OPERATION_KIND_TXN, optWrites},
	verbScan:        {"scan", 0, optReads},
	verbCount:       {"count", 0, optReads &^ optKeysOnly},
	verbDeleteRange: {"delete range", 0, 0},
	verbWatch:       {"watch", 0, optKeysOnly | optReplica},
}

func (v verb) String() string { return verbs[v].name }

// isWrite reports whether the verb's operation may change something.
func (v verb) isWrite() bool { return v > verbTTL }
