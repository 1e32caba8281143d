package kvserver

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/kvop"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Hints for callers that were refused as Overloaded.
const (
	overflowRetry = 20 * time.Millisecond  // about one frame's way to the client
	busyRetry     = 100 * time.Millisecond // a node at its number of calls or streams
)

// failure is the wire form of err, with the shard and this node filled in where
// err names none.
func (s *Server) failure(shard shardmap.ShardID, err error) *kvv1.Error {
	e := wire.ErrorToProto(err)
	if e.Shard == 0 {
		e.Shard = uint64(shard)
	}
	if e.NodeId == "" {
		e.NodeId = string(s.opts.Self)
	}
	return e
}

// fault is an error as a gRPC status from this node.
func (s *Server) fault(kind kverr.Kind, format string, args ...any) error {
	e := kverr.New(kind, format, args...)
	e.Node = string(s.opts.Self)
	return wire.StatusFromError(e)
}

func (s *Server) stopping() error {
	return &kverr.Error{Kind: kverr.Unavailable, Node: string(s.opts.Self),
		Message: "this node is stopping; use another"}
}

func (s *Server) overloaded(format string, args ...any) error {
	s.counters.overloaded.Add(1)
	e := kverr.New(kverr.Overloaded, format, args...)
	e.Node, e.RetryAfter = string(s.opts.Self), busyRetry
	return e
}

// full is the refusal at the bound of what all clients may hold.
func (s *Server) full() error {
	return &kverr.Error{Kind: kverr.Overloaded, Node: string(s.opts.Self), RetryAfter: busyRetry,
		Message: "the requests and unread answers of this node's clients take all the memory they may; try again shortly"}
}

// setError makes a the answer of an operation that was refused.
func (s *Server) setError(a *kvv1.Answer, failure *kvv1.Error) {
	a.Error = failure
	if failure.Kind == kvv1.ErrorKind_ERROR_KIND_OVERLOADED {
		s.counters.overloaded.Add(1)
	}
}

// verdict is the error for a write that was not applied.
func (b *batch) verdict(r *state.Result, key []byte) *kvv1.Error {
	e := kvop.Refusal(r, key)
	e.Shard = uint64(b.shard)
	return b.server.failure(b.shard, e)
}

func needsDirections(e *kvv1.Error) bool {
	return e.Kind == kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD || e.Kind == kvv1.ErrorKind_ERROR_KIND_NOT_LEADER
}

// direct adds to an answer what this node knows better than the caller: the
// record to route by, and who leads that shard.
func (s *Server) direct(r *redirect) {
	rec, ok := s.recordOf(r.shard)
	if !ok || !rec.Arc.Contains(r.slot) {
		if better, found := s.recordFor(r.slot, rec); found {
			rec, ok = better, true
		}
	}
	if !ok {
		return
	}
	r.answer.Record = wire.RecordToProto(rec)
	if h := s.leader(rec.Shard); h.Node != "" {
		r.answer.Leader = wire.HintToProto(h)
	}
}

// recordOf is the newest record of a shard: its own statement where there is a
// replica here, otherwise the map's, or whichever has the later arc or members.
func (s *Server) recordOf(shard shardmap.ShardID) (shardmap.Record, bool) {
	if shard == 0 {
		return shardmap.Record{}, false
	}
	rec, ok := s.opts.Shards.Map().Shard(shard)
	if g, local := s.opts.Shards.Group(shard); local {
		if own := g.Record(); !ok || !older(own, rec) {
			return own, true
		}
	}
	return rec, ok
}

// older reports whether record a of a shard was made before b.
func older(a, b shardmap.Record) bool {
	return a.ArcEpoch < b.ArcEpoch || a.ArcEpoch == b.ArcEpoch && a.MemberEpoch < b.MemberEpoch
}

// recordFor is the best record for a slot that the asked shard has not: that of
// a shard that covers it. The asked shard itself is no answer: by its own record
// it gave the slot away, and only the map has not heard yet.
func (s *Server) recordFor(slot shardmap.Slot, asked shardmap.Record) (shardmap.Record, bool) {
	if g, ok := s.opts.Shards.LocalFor(slot); ok {
		return g.Record(), true
	}
	rec, ok := s.opts.Shards.Map().Lookup(slot)
	return rec, ok && rec.Shard != asked.Shard
}
