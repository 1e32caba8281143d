package kvtest

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Kind is a kind of request, as a node sees it.
type Kind uint8

// The kinds of request. Calls of the client with many keys make a request for each.
const (
	AnyKind Kind = 0
	Get     Kind = 1 // also of client.TTL
	Put     Kind = 2
	Delete  Kind = 3 // also of client.DeleteRange, beside a Scan
	Add     Kind = 4
	Expire  Kind = 5 // also of client.Persist
	Txn     Kind = 6 // also of client.Batch
	Scan    Kind = 7 // also of client.Count and DeleteRange: one for each shard
	Watch   Kind = 8 // one for each shard
)

// The numbers are those of the wire.
const (
	_ = uint(Get) - uint(kvv1.OperationKind_OPERATION_KIND_GET)
	_ = uint(kvv1.OperationKind_OPERATION_KIND_GET) - uint(Get)
	_ = uint(Txn) - uint(kvv1.OperationKind_OPERATION_KIND_TXN)
	_ = uint(kvv1.OperationKind_OPERATION_KIND_TXN) - uint(Txn)
)

// Forever is the Match.Times of a fault that strikes until it is lifted.
const Forever = -1

// Match chooses the requests that a fault strikes: those that fit all fields which
// are set. The zero Match is the next request, whatever it is. Attempts count: a
// request that the client repeats by itself is matched anew.
type Match struct {
	Kind Kind
	// Key and Prefix are about the request's key. Of a transaction they fit if one of
	// its keys does; of a scan or watch if the range has room for such a key.
	Key    string
	Prefix string
	// Times is how many requests are struck: 0 means one, Forever all.
	Times int
}

// Fault is one that was set up. It is safe for concurrent use.
type Fault struct {
	faults *faults
	match  Match
	left   int // under faults.mu, as hits; negative for ever

	refusal *kvv1.Answer  // FailNext: an answer with an error
	delay   time.Duration // Delay
	drop    bool          // DropReply

	hits int
	over chan struct{} // closed by Lift
	once sync.Once
}

// Hits is how many requests the fault has struck.
func (f *Fault) Hits() int {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	return f.hits
}

// Lift ends the fault. Requests that it delays go on at once.
func (f *Fault) Lift() {
	f.faults.mu.Lock()
	f.left = 0
	f.faults.mu.Unlock()
	f.once.Do(func() { close(f.over) })
}

// faults are those of a server, in the order in which they were set up.
type faults struct {
	mu  sync.Mutex
	all []*Fault
}

func (fs *faults) add(f *Fault) *Fault {
	f.faults, f.left, f.over = fs, f.match.Times, make(chan struct{})
	if f.left == 0 {
		f.left = 1
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.all = append(fs.all, f)
	return f
}

// struck is what happens to a request: at most one fault of each sort, the first that
// was set up.
type struck struct {
	refusal *kvv1.Answer
	delay   *Fault
	drop    bool
}

// strike decides about a request that has come.
func (fs *faults) strike(kind Kind, fits func(*Match) bool) (s struck) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.all {
		taken := f.refusal != nil && s.refusal != nil || f.delay != 0 && s.delay != nil || f.drop && s.drop
		if f.left == 0 || taken || f.match.Kind != AnyKind && f.match.Kind != kind || !fits(&f.match) {
			continue
		}
		f.hits++
		if f.left > 0 {
			f.left--
		}
		switch {
		case f.refusal != nil:
			s.refusal = f.refusal
		case f.drop:
			s.drop = true
		default:
			s.delay = f
		}
	}
	return s
}

func (m *Match) fitsKey(key []byte) bool {
	return (m.Key == "" || m.Key == string(key)) && strings.HasPrefix(string(key), m.Prefix)
}

// fitsOp reports whether an operation has a key that fits.
func (m *Match) fitsOp(op *kvv1.Operation) bool {
	if op.GetTxn() == nil {
		return m.fitsKey(op.GetKey())
	}
	for _, c := range op.GetTxn().GetCompares() {
		if m.fitsKey(c.GetKey()) {
			return true
		}
	}
	for _, leaves := range [][]*kvv1.Leaf{op.GetTxn().GetThen(), op.GetTxn().GetOtherwise()} {
		for _, l := range leaves {
			if m.fitsKey(l.GetKey()) {
				return true
			}
		}
	}
	return false
}

// fitsRange reports whether a key that fits could lie in [from, to).
func (m *Match) fitsRange(from, to []byte) bool {
	before := func(key string) bool { return len(to) == 0 || key < string(to) }
	if m.Key != "" {
		return strings.HasPrefix(m.Key, m.Prefix) && m.Key >= string(from) && before(m.Key)
	}
	return before(m.Prefix) && (bytes.HasPrefix(from, []byte(m.Prefix)) || m.Prefix >= string(from))
}

// kinds are the errors that FailNext can have a node say. What wraps another one
// stands before it.
var kinds = []struct {
	is   error
	kind kverr.Kind
}{
	{client.ErrInDoubt, kverr.OutcomeUnknown},
	{client.ErrCrossSlot, kverr.CrossSlot},
	{client.ErrTooLarge, kverr.Invalid},
	{client.ErrInvalid, kverr.Invalid},
	{client.ErrConditionFailed, kverr.CondFailed},
	{client.ErrNotANumber, kverr.NotANumber},
	{client.ErrOverflow, kverr.Overflow},
	{client.ErrCompacted, kverr.Compacted},
	{client.ErrUnavailable, kverr.Unavailable},
	{client.ErrOverloaded, kverr.Overloaded},
	{client.ErrNoSpace, kverr.NoSpace},
	{client.ErrTimeout, kverr.Deadline},
	{client.ErrExpired, kverr.Expired},
	{client.ErrNotInitialized, kverr.NotInitialized},
	{client.ErrWrongCluster, kverr.WrongCluster},
	{client.ErrFormat, kverr.Format},
	{client.ErrInternal, kverr.Internal},
}

// refusalOf is the answer with an error of the client's; false for one that no node
// says.
func refusalOf(err error) (*kvv1.Answer, bool) {
	for _, k := range kinds {
		if !errors.Is(err, k.is) {
			continue
		}
		a := &kvv1.Answer{Error: &kvv1.Error{Kind: kvv1.ErrorKind(k.kind), Message: "the test said so", NodeId: nodeID}}
		var e *client.Error
		if errors.As(err, &e) {
			a.Error.RetryAfterUs = uint64(max(0, e.RetryAfter.Microseconds()))
			a.Found, a.Version = e.Exists, e.Version
		}
		return a, true
	}
	return nil, false
}

// FailNext has the next request that m chooses refused with err instead of being
// carried out. err is an error of package client, or a *client.Error of that Kind,
// whose RetryAfter, Exists and Version travel with it.
//
// The client treats it as it would a node's. ErrUnavailable, ErrOverloaded,
// ErrTimeout and ErrInDoubt say that a later attempt may do better, so it repeats the
// request, and the caller sees the error only if it lasts as long as the call does,
// or, ErrInDoubt, if the write has no request id. ErrExpired is repeated once under a
// new id. The others come through at once. Errors that no node says, such as
// ErrNotFound and ErrClosed, fail the test.
func (s *Server) FailNext(m Match, err error) *Fault {
	s.t.Helper()
	refusal, ok := refusalOf(err)
	if !ok {
		s.t.Fatalf("kvtest: FailNext: no node refuses a request with %v", err)
	}
	return s.faults.add(&Fault{match: m, refusal: refusal})
}

// Delay has the next request that m chooses wait for d before it is carried out, or
// until the fault is lifted. Later requests pass it by, as they may on a node. If the
// caller's time is over then, it is not carried out any more.
//
// d is of package time, also with WithVirtualTime: it is the patience of callers that
// it tries.
func (s *Server) Delay(m Match, d time.Duration) *Fault {
	s.t.Helper()
	if d <= 0 {
		s.t.Fatalf("kvtest: Delay: %v is not a delay", d)
	}
	return s.faults.add(&Fault{match: m, delay: d})
}

// DropReply has the next request that m chooses carried out, and its answer lost with
// the connection: a scan's before its first page, a watch's in place of its first
// change. The client connects again and repeats what was under way. A write has its
// request id, by which the shard knows that it was applied: the caller gets the first
// answer, marked Repeated. WithoutRequestID the caller gets ErrInDoubt.
func (s *Server) DropReply(m Match) *Fault { return s.faults.add(&Fault{match: m, drop: true}) }
