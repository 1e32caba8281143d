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

// Op is one leaf operation. Key and Value are borrowed until the entry is encoded.
type Op struct {
	Kind    OpKind
	Key     []byte
	Value   []byte
	Request RequestID
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
	Applied        Verdict = 1 // took effect now
	WrongShard     Verdict = 2 // not applied: the slot is outside the arc
	Expired        Verdict = 3 // not applied now: shard time is past NotAfter
	TooFar         Verdict = 4 // not applied: NotAfter is more than MaxRequestAhead away
	StaleDuplicate Verdict = 5 // not applied now: the number was closed before
	TableFull      Verdict = 6 // not applied: the request table is at its bound
	Superseded     Verdict = 7 // not applied: the entry landed in a later term
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
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// Result is the answer to one operation. The same operation has the same result
// on every replica.
type Result struct {
	Verdict  Verdict
	Version  uint64 // of the write, when Verdict is Applied
	Repeated bool   // an earlier attempt was applied; this is its first answer
}
