package kvserver

import (
	"sync/atomic"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/histogram"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Op is a kind of operation in the figures.
type Op uint8

// The kinds of operation that are told apart.
const (
	OpGet Op = iota
	OpPut
	OpDelete
	OpAdd
	OpExpire
	OpTxn
	OpUnknown // of a newer client; always refused
	numOps
)

func (op Op) String() string {
	return [...]string{"get", "put", "delete", "add", "expire", "txn", "unknown"}[op]
}

func opOf(kind kvv1.OperationKind) Op {
	switch kind {
	case kvv1.OperationKind_OPERATION_KIND_GET:
		return OpGet
	case kvv1.OperationKind_OPERATION_KIND_PUT:
		return OpPut
	case kvv1.OperationKind_OPERATION_KIND_DELETE:
		return OpDelete
	case kvv1.OperationKind_OPERATION_KIND_ADD:
		return OpAdd
	case kvv1.OperationKind_OPERATION_KIND_EXPIRE:
		return OpExpire
	case kvv1.OperationKind_OPERATION_KIND_TXN:
		return OpTxn
	}
	return OpUnknown
}

// numResults is one for each kverr.Kind; kverr.None is success.
const numResults = 22

// measures count answers where they are made: once per batch for what went well,
// once per operation for what did not.
type measures struct {
	results [numOps][numResults]atomic.Uint64
	// All writes of a batch take one way and one time.
	reads, writes, failures histogram.Histogram
	batches, answered       atomic.Uint64
}

// failed counts an operation that was refused.
func (m *measures) failed(op Op, kind kvv1.ErrorKind) {
	if kind < 0 || int(kind) >= numResults {
		kind = kvv1.ErrorKind(kverr.Internal)
	}
	m.results[op][kind].Add(1)
}

// took counts the times of a batch's operations, of which some failed.
func (m *measures) took(ok *histogram.Histogram, arrived time.Time, all, failed int) {
	took := time.Since(arrived)
	if all > failed {
		ok.Observe(took, uint64(all-failed))
	}
	if failed > 0 {
		m.failures.Observe(took, uint64(failed))
	}
}

// OpCount is how often an operation was answered in some way.
type OpCount struct {
	Op     Op
	Result kverr.Kind // kverr.None is success
	Count  uint64
}

// Latencies are the times from a frame's arrival to its answer's being ready to
// send.
type Latencies struct {
	Reads, Writes histogram.Snapshot // that went well
	Failures      histogram.Snapshot // operations of any kind that did not
}

// usual are the kinds of answer whose totals are shown from the start, so that a
// first one is a rise: what trouble brings about. The others, of mistakes and of
// decisions, are shown once there was one, which bounds what a node tells by what
// it has met.
var usual = map[kverr.Kind]bool{
	kverr.None: true, kverr.NotLeader: true, kverr.Unavailable: true, kverr.Overloaded: true,
	kverr.OutcomeUnknown: true, kverr.Deadline: true, kverr.NoSpace: true, kverr.Internal: true,
}

// Results are the totals of all kinds of answer that are usual or that there were.
func (s *Server) Results() []OpCount {
	counts := make([]OpCount, 0, numOps*numResults)
	for op := range numOps {
		for kind := range kverr.Kind(numResults) {
			n := s.measures.results[op][kind].Load()
			if n > 0 || op != OpUnknown && usual[kind] {
				counts = append(counts, OpCount{op, kind, n})
			}
		}
	}
	return counts
}

// Latencies returns the totals.
func (s *Server) Latencies() Latencies {
	m := &s.measures
	return Latencies{Reads: m.reads.Snapshot(), Writes: m.writes.Snapshot(), Failures: m.failures.Snapshot()}
}

// InFlight is what clients have under way here now.
type InFlight struct {
	Streams    int
	Unary      int // calls, forwarded ones included
	Scans      int
	Watches    int
	Operations int // of streams, until their answers were handed to gRPC
	// Batches are the reads or the writes of one frame for one shard that its group
	// has not answered.
	Batches uint64
	// RequestBytes are those of operations that groups have not answered,
	// AnswerBytes those of answers not handed to gRPC.
	RequestBytes, AnswerBytes int
	// HeldBytes are both, and what unary calls hold.
	HeldBytes int
}

// InFlight adds up all streams. They are asked one by one.
func (s *Server) InFlight() InFlight {
	s.mu.Lock()
	f := InFlight{Streams: len(s.mu.streams), Unary: s.mu.unary, Scans: s.mu.feeds[feedScan], Watches: s.mu.feeds[feedWatch], HeldBytes: s.HeldBytes()}
	streams := make([]*stream, 0, f.Streams)
	for st := range s.mu.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	for _, st := range streams {
		ops, requests, answers := st.box.inFlight()
		f.Operations += ops
		f.RequestBytes += requests
		f.AnswerBytes += answers
	}
	answered := s.measures.answered.Load() // first, or a batch could be answered before it was counted
	f.Batches = s.measures.batches.Load() - answered
	return f
}
