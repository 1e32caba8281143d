package state

import "fmt"

// OpKind is what an operation does.
type OpKind uint8

// The kinds of operation. Numbers are on disk.
const (
	OpPut    OpKind = 1
	OpDelete OpKind = 2
	// OpVerify changes nothing. Its key is a [VerifyID], its effect a mark that
	// the machine shows at the entry's index (see [Machine.Marks]): where replicas
	// whose states are to be compared take them.
	OpVerify OpKind = 3
	// OpAdd adds Delta to the number that the value spells; see counter.go.
	OpAdd OpKind = 4
	// OpExpire sets or removes the deadline of a key that exists.
	OpExpire OpKind = 5
	// OpTxn decides and applies its Txn's leaves as one.
	OpTxn OpKind = 6
	// OpGet reads a key; a leaf of a transaction only.
	OpGet OpKind = 7
	// OpSweep applies the expiry of one entry of the index of deadlines. It comes
	// from leaders, not from clients.
	OpSweep OpKind = 8
)

// Condition must hold for a put or delete to take effect.
type Condition uint8

// The conditions. Numbers are on disk.
const (
	Always    Condition = 0
	IfAbsent  Condition = 1
	IfPresent Condition = 2
	IfVersion Condition = 3 // the key exists and its version is Op.IfVersion
)

// Expiry is what a put or expire does to the key's deadline.
type Expiry uint8

// What can be done to a deadline. Numbers are on disk.
const (
	NoExpiry    Expiry = 0 // there is none afterwards
	KeepExpiry  Expiry = 1 // a put leaves it as it is
	ExpireAfter Expiry = 2 // Op.TTL after the entry's shard time
)

// VerifyID names one comparison of a shard's replicas; random.
type VerifyID [16]byte

// ClientID is the random half of a request's identity.
type ClientID [16]byte

// RequestID makes a write take effect at most once (after RIFL, Lee et al.
// 2015). Number 0 means the write has no identity. Number, operation and
// NotAfter are the same in every attempt; LowestOpen is what holds when an
// attempt is sent.
type RequestID struct {
	Client     ClientID
	Number     uint64
	LowestOpen uint64 // every lower number of this client is closed
	NotAfter   uint64 // shard time in µs after which it must not be applied
}

// Op is one operation, and the unit that is applied as a whole. Key and Value are
// borrowed until the entry is encoded. Fields that the kind has no use for are
// zero.
type Op struct {
	Kind      OpKind
	Condition Condition
	Expiry    Expiry
	Previous  bool // of a put or delete: the result brings what it replaced
	Key       []byte
	Value     []byte
	IfVersion uint64
	TTL       uint64 // µs
	Deadline  uint64 // of a sweep: where the key stands in the index of deadlines
	Delta     int64
	Txn       *Txn // Key is one of its keys then
	Request   RequestID
}

// reads reports whether deciding about the operation takes a look at the store.
func (o *Op) reads() bool {
	switch o.Kind {
	case OpPut, OpDelete:
		return o.Condition != Always || o.Expiry == KeepExpiry || o.Previous
	}
	return o.Kind != OpVerify
}

// Txn is a transaction: if all compares hold the leaves of Then are applied, and
// otherwise those of Else. All its keys lie in one slot.
type Txn struct {
	Compares   []Compare
	Then, Else []Op // without conditions and request identities
}

// CompareKind says what is compared, and how.
type CompareKind uint8

// The compares; numbers are on disk and those of kv.v1.CompareKind. A key that
// does not exist has version 0 and no value.
const (
	CompareAbsent          CompareKind = 1
	ComparePresent         CompareKind = 2
	CompareVersionEqual    CompareKind = 3
	CompareVersionNotEqual CompareKind = 4
	CompareVersionLess     CompareKind = 5
	CompareVersionGreater  CompareKind = 6
	CompareValueEqual      CompareKind = 7
	CompareValueNotEqual   CompareKind = 8
	CompareValueLess       CompareKind = 9
	CompareValueGreater    CompareKind = 10
)

// Compare is one condition of a transaction.
type Compare struct {
	Kind    CompareKind
	Key     []byte
	Version uint64
	Value   []byte
}

// ProposalID names one proposed entry (rule L6).
type ProposalID struct {
	Replica uint64 // replica that proposed it
	Nonce   uint64 // random, drawn at that process's start
	Counter uint64 // rises within the process
}

// Entry is the payload of one Raft log entry. An entry without operations is
// the no-op with which a leader opens its term.
type Entry struct {
	ShardTime uint64     // the leader's shard time in µs (rule T1)
	Term      uint64     // the term the proposer led in; applied in no other
	Proposal  ProposalID // completes the proposer's waiter
	Ops       []Op
}

// Verdict is what apply decided about one operation.
type Verdict uint8

// The verdicts. Numbers are on disk (request table): append only.
const (
	Applied        Verdict = 1  // took effect now
	WrongShard     Verdict = 2  // not applied: the slot is outside the arc
	Expired        Verdict = 3  // not applied now: shard time is past NotAfter
	TooFar         Verdict = 4  // not applied: NotAfter is more than MaxRequestAhead away
	StaleDuplicate Verdict = 5  // not applied now: the number was closed before
	TableFull      Verdict = 6  // not applied: the request table is at its bound
	Superseded     Verdict = 7  // not applied: the entry landed in a later term
	CondFailed     Verdict = 8  // not applied: the condition did not hold
	NotANumber     Verdict = 9  // not applied: an add met a value that is no number
	Overflow       Verdict = 10 // not applied: an add would leave the range
	TxnTooLarge    Verdict = 11 // not applied: the values a transaction meets exceed MaxTxnRead
)

func (v Verdict) String() string {
	switch v {
	case Applied:
		return "applied"
	case WrongShard:
		return "wrong shard"
	case Expired:
		return "expired"
	case TooFar:
		return "not-after too far ahead"
	case StaleDuplicate:
		return "stale duplicate"
	case TableFull:
		return "request table full"
	case Superseded:
		return "superseded"
	case CondFailed:
		return "condition does not hold"
	case NotANumber:
		return "the value is not a decimal number of 64 bits"
	case TxnTooLarge:
		return "the values that the transaction reads or replaces are too large"
	case Overflow:
		return "the number would leave the range of 64 bits"
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// decided reports whether the verdict is a decision about the operation itself,
// which every attempt is to be answered with.
func (v Verdict) decided() bool {
	return v == Applied || v == CondFailed || v == NotANumber || v == Overflow || v == TxnTooLarge
}

// Result is the answer to one operation. The same operation has the same result
// on every replica.
type Result struct {
	Verdict Verdict
	// Repeated: an earlier attempt was decided; this is its answer.
	Repeated bool
	// Version is the write's, when Verdict is Applied; otherwise, if the operation
	// was decided, its place among the shard's writes.
	Version uint64
	Detail  *Detail // nil when there is nothing to add
}

// Detail is what some operations are answered beyond verdict and version.
type Detail struct {
	// Found and KeyVersion: the key as the operation met it. Of conditions that do
	// not hold, of adds and expires.
	Found      bool
	KeyVersion uint64
	Number     int64  // of an add: the new number
	Previous   *Value // what was replaced, if it was asked for and there was any
	Else       bool   // of a transaction: a compare did not hold
	Leaves     []Leaf // of a transaction
	// Dropped: Previous or Leaves of a repeated answer were too large to be kept.
	Dropped bool
}

// Leaf is the answer to one leaf of a transaction.
type Leaf struct {
	Found    bool  // a get or expire found the key
	Number   int64 // of an add
	Value    Value // of a get
	Previous *Value
}
