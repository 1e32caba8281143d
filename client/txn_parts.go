package client

import (
	"fmt"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Compare is a condition of a transaction on one key.
type Compare struct {
	kind    kvv1.CompareKind
	key     string
	version uint64
	value   []byte
	flaw    string
}

// KeyAbsent holds if the key does not exist.
func KeyAbsent(key string) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_ABSENT, key: key}
}

// KeyPresent holds if the key exists.
func KeyPresent(key string) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_PRESENT, key: key}
}

// VersionIs holds if the key's version is v. Here and below a key that does not
// exist has version 0.
func VersionIs(key string, v uint64) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VERSION_EQUAL, key: key, version: v}
}

// VersionIsNot holds if the key's version is another one than v.
func VersionIsNot(key string, v uint64) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VERSION_NOT_EQUAL, key: key, version: v}
}

// VersionBelow holds if the key's version is less than v.
func VersionBelow(key string, v uint64) Compare {
	c := Compare{kind: kvv1.CompareKind_COMPARE_KIND_VERSION_LESS, key: key, version: v}
	if v == 0 {
		c.flaw = "no version is below 0"
	}
	return c
}

// VersionAbove holds if the key's version is greater than v.
func VersionAbove(key string, v uint64) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VERSION_GREATER, key: key, version: v}
}

// ValueIs holds if the key exists and its value is this one. Values are compared
// by their bytes, here and below.
func ValueIs(key string, value []byte) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VALUE_EQUAL, key: key, value: value}
}

// ValueIsNot holds if the key does not exist or its value is another one.
func ValueIsNot(key string, value []byte) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VALUE_NOT_EQUAL, key: key, value: value}
}

// ValueBelow holds if the key exists and its value sorts before this one.
func ValueBelow(key string, value []byte) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VALUE_LESS, key: key, value: value}
}

// ValueAbove holds if the key exists and its value sorts behind this one.
func ValueAbove(key string, value []byte) Compare {
	return Compare{kind: kvv1.CompareKind_COMPARE_KIND_VALUE_GREATER, key: key, value: value}
}

// Op is one operation of a transaction.
type Op struct {
	verb  verb
	key   string
	value []byte
	delta int64
	params
}

// OpPut is a Put in a transaction. It takes WithTTL, KeepTTL and WithPrevious; the
// conditions are the transaction's.
func OpPut(key string, value []byte, opts ...WriteOption) Op {
	op := Op{verb: verbPut, key: key, value: value}
	op.apply(opts)
	return op
}

// OpDelete is a Delete in a transaction. It takes WithPrevious.
func OpDelete(key string, opts ...WriteOption) Op {
	op := Op{verb: verbDelete, key: key}
	op.apply(opts)
	return op
}

// OpAdd is an Add in a transaction.
func OpAdd(key string, delta int64) Op { return Op{verb: verbAdd, key: key, delta: delta} }

// OpGet reads a key in a transaction, as the operations before it have left it.
func OpGet(key string) Op { return Op{verb: verbGet, key: key} }

// OpExpire is an Expire in a transaction. A key that does not exist is no error:
// its result is not Found.
func OpExpire(key string, ttl time.Duration) Op {
	op := Op{verb: verbExpire, key: key}
	op.expiry, op.ttl = kvv1.Expiry_EXPIRY_AFTER, ttlMicros(ttl)
	if flaw := ttlFlaw(ttl); flaw != "" {
		op.spoil("%s", flaw)
	}
	return op
}

// OpPersist is a Persist in a transaction. A key that does not exist is no error:
// its result is not Found.
func OpPersist(key string) Op { return Op{verb: verbPersist, key: key} }

func (op *Op) apply(opts []WriteOption) {
	for _, opt := range opts {
		opt.write(&op.params)
	}
	const alien = optIdentity | optCondition | optSession
	if op.used&alien != 0 {
		op.spoil("an operation takes no condition, request id or session of its own: use If, and the options of Commit")
	}
}

// crossSlot says which two keys cannot be changed together.
func crossSlot(a string, slotA shardmap.Slot, b string, slotB shardmap.Slot) error {
	return fmt.Errorf("%s lies in slot %d and %s in slot %d: give keys that belong together a common {hash tag}",
		quoteKey(a), slotA, quoteKey(b), slotB)
}
