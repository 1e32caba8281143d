package kvserver

import (
	"context"
	"sync"
	"sync/atomic"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/kvop"
)

// Format is the wire format of kv.v1 that this build speaks.
const Format = 1

// Server serves kv.v1.KV. Safe for concurrent use.
type Server struct {
	kvv1.UnimplementedKVServer
	opts        Options
	limits      Limits
	writeLimits kvop.Limits // the same, for writes
	hints       *hintTable
	counters    counters
	measures    measures
	held        held
	overflow    *kvv1.Error // shared by all answers whose value was shed

	draining chan struct{}   // closed when Close begins
	life     context.Context // ends when Close waits no longer
	cut      context.CancelFunc
	idle     chan struct{} // closed when Close has begun and nothing is open

	mu struct {
		sync.Mutex
		streams  map[*stream]struct{}
		unary    int
		feeds    [numFeeds]int
		leaving  bool // new streams are refused, open ones were told
		closing  bool // unary calls are refused too, streams drain
		mapEpoch uint64
		shardMap *kvv1.ShardMap // newest; shared by all streams, read-only
	}
}

var _ kvv1.KVServer = (*Server)(nil)

// New returns a server, or all faults of its options.
func New(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		opts:        opts,
		limits:      opts.Limits,
		writeLimits: kvop.Limits{MaxKeyBytes: opts.Limits.MaxKeyBytes, MaxValueBytes: opts.Limits.MaxValueBytes},
		hints:       newHintTable(),
		draining:    make(chan struct{}),
		idle:        make(chan struct{}),
	}
	s.life, s.cut = context.WithCancel(context.Background())
	s.overflow = s.failure(0, &kverr.Error{Kind: kverr.Overloaded, RetryAfter: overflowRetry,
		Message: "the values read exceed what this stream may hold unread; ask for fewer at a time"})
	s.held.max = s.limits.MaxHeldBytes
	s.mu.streams = make(map[*stream]struct{})
	return s, nil
}

// Limits are the limits in force, defaults filled in.
func (s *Server) Limits() Limits { return s.limits }

// GoingAway refuses new streams and tells the clients of open ones to send
// nothing more. What is sent nevertheless is served until Close.
func (s *Server) GoingAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.leaving {
		return
	}
	s.mu.leaving = true
	for st := range s.mu.streams {
		st.box.goAway()
	}
}

// Close refuses what is new as UNAVAILABLE, waits until all that is in progress
// was answered and every stream and call has ended, and returns nil. When ctx
// ends first it cuts them, waits for their goroutines and returns ctx's error;
// clients then see UNAVAILABLE without knowing the outcome of what was open.
// It may be called again.
func (s *Server) Close(ctx context.Context) error {
	s.GoingAway()
	s.mu.Lock()
	if !s.mu.closing {
		s.mu.closing = true
		close(s.draining)
		s.closeIdleLocked()
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
	}
	s.cut()
	<-s.idle
	return ctx.Err()
}

func (s *Server) closeIdleLocked() {
	if s.mu.closing && len(s.mu.streams) == 0 && s.mu.unary == 0 && s.mu.feeds == [numFeeds]int{} {
		close(s.idle)
	}
}

// enterStream admits a stream; its last goroutine calls leaveStream.
func (s *Server) enterStream(st *stream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.leaving:
		return s.stopping()
	case len(s.mu.streams) >= s.limits.MaxStreams:
		return s.overloaded("this node has %d streams open, its limit; connect to another", len(s.mu.streams))
	}
	s.mu.streams[st] = struct{}{}
	return nil
}

func (s *Server) leaveStream(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.streams, st)
	s.closeIdleLocked()
}

func (s *Server) enterUnary() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.closing:
		return s.stopping()
	case s.mu.unary >= s.limits.MaxUnary:
		return s.overloaded("this node has %d calls in progress, its limit", s.mu.unary)
	}
	s.mu.unary++
	return nil
}

func (s *Server) leaveUnary() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.unary--
	s.closeIdleLocked()
}

// untilCut bounds the context of a call by the server's own end.
func (s *Server) untilCut(cancel context.CancelFunc) (stop func()) {
	unhook := context.AfterFunc(s.life, cancel)
	return func() { unhook(); cancel() }
}

// stopped reports whether Close has begun.
func (s *Server) stopped() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Counters are running totals since the start, and the streams open now.
type Counters struct {
	Frames     uint64 // client frames, unary calls included
	Operations uint64 // in them
	Reads      uint64 // of those, handed to a local group
	Writes     uint64 // of those, handed to a local group
	Overloaded uint64 // operations, calls and streams refused as Overloaded
	Forwarded  uint64 // unary operations sent to another node
	Stalled    uint64 // streams cut because the client did not read
	NodeFull   uint64 // parts of frames, and calls, refused for MaxHeldBytes
	Shed       uint64 // of Overloaded: answers to reads that lost their value on the way out
	Streams    int

	Scans        uint64 // begun
	ScansFailed  uint64 // ended with an error other than directions
	ScanItems    uint64 // keys sent
	ScanBytes    uint64 // of keys and values sent
	ScanSeeks    uint64 // of scans that came to their end
	ScanExamined uint64 // likewise: keys looked at
	FeedsStalled uint64 // scans and watches cut because the client did not read

	Watches          uint64 // begun
	WatchesCompacted uint64 // ended, or refused, because the changes are not remembered
	WatchesCutOff    uint64 // ended because the replica did not know whether it is cut off
	WatchChanges     uint64 // sent
	WatchBytes       uint64
}

type counters struct {
	frames, operations, reads, writes, overloaded, forwarded, stalled, shed atomic.Uint64

	feeds                                                      [numFeeds]atomic.Uint64
	watchesCompacted, watchesCutOff, watchChanges, watchBytes  atomic.Uint64
	feedsStalled                                               atomic.Uint64
	scansFailed, scanItems, scanBytes, scanSeeks, scanExamined atomic.Uint64
}

// Counters returns the totals. They are read one by one, not as of one moment.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	streams := len(s.mu.streams)
	s.mu.Unlock()
	c := &s.counters
	return Counters{
		Frames: c.frames.Load(), Operations: c.operations.Load(), Reads: c.reads.Load(), Writes: c.writes.Load(),
		Overloaded: c.overloaded.Load(), Forwarded: c.forwarded.Load(), Stalled: c.stalled.Load(), Shed: c.shed.Load(),
		NodeFull: s.held.refused.Load(), Streams: streams,
		Scans: c.feeds[feedScan].Load(), ScansFailed: c.scansFailed.Load(), ScanItems: c.scanItems.Load(), ScanBytes: c.scanBytes.Load(),
		ScanSeeks: c.scanSeeks.Load(), ScanExamined: c.scanExamined.Load(), FeedsStalled: c.feedsStalled.Load(),
		Watches: c.feeds[feedWatch].Load(), WatchesCompacted: c.watchesCompacted.Load(), WatchesCutOff: c.watchesCutOff.Load(),
		WatchChanges: c.watchChanges.Load(), WatchBytes: c.watchBytes.Load(),
	}
}
