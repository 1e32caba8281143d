package kvserver

import (
	"context"
	"time"

	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// feedKind is a kind of call in which the server streams.
type feedKind uint8

const (
	feedScan feedKind = iota
	feedWatch
	numFeeds
)

func (k feedKind) String() string { return [...]string{"scan", "watch"}[k] }

// feed is one such call. What it sends comes from one goroutine, which the Server
// waits for: the handler must return for gRPC to free it from Send.
type feed struct {
	server *Server
	kind   feedKind
	ctx    context.Context // of the sending; ends with the call and with the server's draining
	stall  *time.Timer
	charge int // bytes held for it; the sending goroutine's
}

// serveFeed runs a call: send is given the feed and returns the call's error.
func (s *Server) serveFeed(rpc context.Context, kind feedKind, most int, send func(*feed) error) error {
	if err := s.enterFeed(kind, most); err != nil {
		return wire.StatusFromError(err)
	}
	ctx, cancel := context.WithCancel(rpc)
	f := &feed{server: s, kind: kind, ctx: ctx}
	stalled := make(chan struct{}, 1)
	f.stall = time.AfterFunc(s.opts.StallTimeout, func() { signal(stalled) })
	f.stall.Stop()
	ended := make(chan error, 1)
	go func() {
		defer s.leaveFeed(kind)
		err := send(f)
		_ = f.hold(0) // less is never refused
		f.stall.Stop()
		ended <- err
	}()
	defer cancel()
	select {
	case err := <-ended:
		return wire.StatusFromError(err)
	case <-stalled:
		s.counters.feedsStalled.Add(1)
		return wire.StatusFromError(f.stalledError())
	case <-s.draining:
		return wire.StatusFromError(s.stopping())
	case <-s.life.Done():
		return wire.StatusFromError(s.stopping())
	case <-rpc.Done():
		return status.FromContextError(rpc.Err()).Err()
	}
}

// stalledError is what a client is told that takes nothing for too long: a scan can
// go on where it was, a watch must know that it was too slow.
func (f *feed) stalledError() error {
	if f.kind == feedWatch {
		return &kverr.Error{Kind: kverr.Overloaded, Node: string(f.server.opts.Self), RetryAfter: busyRetry,
			Message: "the watch took nothing for " + f.server.opts.StallTimeout.String() + ": it is too slow"}
	}
	e := kverr.New(kverr.Unavailable, "the %s lay unread for %s; go on behind what was received", f.kind, f.server.opts.StallTimeout)
	e.Node = string(f.server.opts.Self)
	return e
}

// sending guards a Send: whoever takes nothing for StallTimeout is cut.
func (f *feed) sending(send func() error) error {
	f.stall.Reset(f.server.opts.StallTimeout)
	err := send()
	f.stall.Stop()
	return err
}

// hold sets what the feed is charged with. More may be refused as Overloaded.
func (f *feed) hold(bytes int) error {
	h := &f.server.held
	if more := bytes - f.charge; more > 0 && !h.take(more, f.charge) {
		h.refused.Add(1)
		f.server.counters.overloaded.Add(1)
		return f.server.full()
	} else if more < 0 {
		h.add(more)
	}
	f.charge = bytes
	return nil
}

func (s *Server) enterFeed(kind feedKind, most int) error {
	if s.opts.ClusterID() == "" {
		e := kverr.New(kverr.NotInitialized, "this node belongs to no cluster yet; run `kvctl cluster init`")
		e.Node = string(s.opts.Self)
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.leaving:
		return s.stopping()
	case s.mu.feeds[kind] >= most:
		return s.overloaded("this node has %d calls of kind %s in progress, its limit; try again shortly, or another replica", most, kind)
	}
	s.mu.feeds[kind]++
	s.counters.feeds[kind].Add(1)
	return nil
}

func (s *Server) leaveFeed(kind feedKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.feeds[kind]--
	s.closeIdleLocked()
}

// misrouted says whether an error is one that the call's first message brings, with
// directions, and what it says.
func (s *Server) misrouted(err error, shard shardmap.ShardID, slot shardmap.Slot) (*kvv1.Answer, bool) {
	if err == nil {
		return nil, false
	}
	failure := s.failure(shard, err)
	if !needsDirections(failure) {
		return nil, false
	}
	a := &kvv1.Answer{Error: failure}
	s.direct(&redirect{answer: a, shard: shard, slot: slot})
	return a, true
}

// feedArc is the slots that a call names, which must be some.
func feedArc(arc *kvv1.Arc) (shardmap.Arc, error) {
	from, to := arc.GetFrom(), arc.GetTo()
	if from >= to || to > shardmap.Slots {
		return shardmap.Arc{}, kverr.New(kverr.Invalid, "slots [%d,%d) are none of %d", from, to, shardmap.Slots)
	}
	return shardmap.Arc{From: shardmap.Slot(from), To: shardmap.Slot(to)}, nil
}

// feedGroup is the local replica that a call names.
func (s *Server) feedGroup(shard shardmap.ShardID, slot shardmap.Slot) (Group, error) {
	if shard == 0 {
		return nil, kverr.New(kverr.Invalid, "the call names no shard")
	}
	if g, ok := s.opts.Shards.Group(shard); ok {
		return g, nil
	}
	return nil, s.elsewhere(shard, slot)
}

// inside refuses slots of which the record does not have all.
func inside(rec shardmap.Record, arc shardmap.Arc) error {
	switch {
	case arc.From < rec.Arc.From || arc.From >= rec.Arc.To:
		return wrongShard(rec.Shard, arc.From)
	case arc.To > rec.Arc.To:
		return wrongShard(rec.Shard, rec.Arc.To)
	}
	return nil
}
