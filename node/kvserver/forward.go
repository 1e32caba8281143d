package kvserver

import (
	"context"
	"fmt"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// maxPatience bounds how long a unary call waits for a shard to get a leader;
	// half of the caller's time left bounds it too, so that the call can still be
	// served, or refused with the reason. An election takes one to two seconds.
	maxPatience = 4 * time.Second
	// A waiting call looks again at once when a leader is pushed, and now and then
	// without being told: that a leader got ready, or can be reached again, is not
	// pushed. The pause doubles so that many waiting calls cost little.
	minPause = 25 * time.Millisecond
	maxPause = 400 * time.Millisecond
)

// attempt is one unary operation's search for its leader.
type attempt struct {
	op        *kvv1.Operation
	answer    *kvv1.Answer    // the last refusal
	unreached shardmap.NodeID // a leader to which there was no connection
}

// serveOrForward serves op here or, K4, forwards it once to the leader. While
// there is no leader to be reached it waits a while: an election may be going on.
// Trying again is safe since every refusal it goes on from means "not applied".
func (s *Server) serveOrForward(ctx context.Context, op *kvv1.Operation) *kvv1.Answer {
	patience := time.NewTimer(patienceOf(ctx))
	defer patience.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	at := attempt{op: op}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		changed := s.hints.changed() // before looking, so that no change is missed
		setTimeLeft(ctx, op)
		at.answer = s.serveHere(ctx, op)
		if !mayBeElection(at.answer.Error) {
			return at.answer
		}
		if a := s.forward(ctx, &at); a != nil {
			return a
		}
		again.Reset(pause)
		select {
		case <-changed:
		case <-again.C:
		case <-patience.C:
			return s.leaderless(&at)
		case <-ctx.Done():
			return s.leaderless(&at)
		case <-s.draining:
			return s.leaderless(&at)
		}
	}
}

func patienceOf(ctx context.Context) time.Duration {
	left := DefaultTimeLeft
	if at, ok := ctx.Deadline(); ok {
		left = time.Until(at)
	}
	return min(left/2, maxPatience)
}

// mayBeElection reports whether a refusal may pass within an election's time.
func mayBeElection(e *kvv1.Error) bool {
	return e.GetKind() == kvv1.ErrorKind_ERROR_KIND_NOT_LEADER || e.GetKind() == kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE
}

// forward sends the operation to where its refusal points. It returns nil when
// the operation has gone nowhere.
func (s *Server) forward(ctx context.Context, at *attempt) *kvv1.Answer {
	if s.opts.Peers == nil || at.answer.Error.Kind != kvv1.ErrorKind_ERROR_KIND_NOT_LEADER {
		return nil
	}
	record := at.answer.Record
	shard := shardmap.ShardID(record.GetShard())
	_, local := s.opts.Shards.Group(shard)
	if !local && (at.answer.Leader == nil || at.unreached != "") {
		if a := s.ask(ctx, at, record); a != nil {
			return a
		}
	}
	leader := s.leader(shard).Node
	if leader == "" || leader == s.opts.Self {
		return nil
	}
	a := s.forwardTo(ctx, leader, at.op)
	if a == nil || !local && a.Error.GetKind() == kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE {
		at.unreached = leader // or cut off from its quorum: next time the others are asked
		if a != nil {
			at.answer = a // it says why
		}
		return nil
	}
	return a
}

// ask sends the operation to the shard's voters, one after the other, until one
// serves it or says news of the leader. It is for a node without a replica, which
// knows no leader or only one that is gone: no election would ever tell it
// another. A voter that does not lead refuses, and the operation has gone nowhere
// yet; so this is the search for the one hop of K4, not a second.
func (s *Server) ask(ctx context.Context, at *attempt, record *kvv1.ShardRecord) *kvv1.Answer {
	shard := shardmap.ShardID(record.GetShard())
	known := s.leader(shard)
	for _, m := range record.GetReplicas() {
		if m.Role != kvv1.Role_ROLE_VOTER || m.NodeId == string(s.opts.Self) {
			continue
		}
		a := s.forwardTo(ctx, shardmap.NodeID(m.NodeId), at.op)
		switch {
		case a == nil:
			continue // not reached
		case !mayBeElection(a.Error):
			return a
		}
		at.answer = a
		if newer(s.leader(shard), known) { // forwardTo has learned its hint
			return nil
		}
	}
	return nil
}

// forwardTo sends op to a node. It returns nil when op never left this node.
func (s *Server) forwardTo(ctx context.Context, node shardmap.NodeID, op *kvv1.Operation) *kvv1.Answer {
	setTimeLeft(ctx, op)
	a, err := s.opts.Peers.Forward(ctx, node, op)
	kind := kverr.KindOf(err)
	if kind == kverr.Unavailable {
		return nil
	}
	s.counters.forwarded.Add(1)
	switch {
	case err == nil && a != nil:
		if a.Error == nil {
			a.ServedBy = kvv1.ServedBy_SERVED_BY_FORWARD
		}
		if h, err := wire.HintFromProto(a.Leader); err == nil {
			s.PushLeader(h)
		}
		return a
	case err == nil || kind == kverr.Internal || kind == kverr.OutcomeUnknown:
		err = lost(op, node, err)
	}
	return &kvv1.Answer{Id: op.Id, Error: s.failure(0, err)}
}

// setTimeLeft writes what is left of ctx's time into op; at least 1 µs, since 0
// would mean the default.
func setTimeLeft(ctx context.Context, op *kvv1.Operation) {
	if at, ok := ctx.Deadline(); ok {
		op.TimeLeftUs = uint64(max(time.Until(at), time.Microsecond) / time.Microsecond)
	}
}

// lost is the error for an operation that was sent and not answered (K5).
func lost(op *kvv1.Operation, node shardmap.NodeID, cause error) error {
	kind := kverr.OutcomeUnknown
	if op.Kind == kvv1.OperationKind_OPERATION_KIND_GET {
		kind = kverr.Unavailable // a read may be repeated
	}
	return &kverr.Error{Kind: kind, Node: string(node), Err: cause,
		Message: fmt.Sprintf("node %s was sent the operation and did not answer it: %v", node.Short(), cause)}
}

// leaderless is the answer when patience has run out. A group's own refusal says
// more than we could ("no quorum since …").
func (s *Server) leaderless(at *attempt) *kvv1.Answer {
	if at.answer.Error.Kind == kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE {
		return at.answer
	}
	shard := shardmap.ShardID(at.answer.Error.Shard)
	err := kverr.New(kverr.Unavailable, "shard %d has no known leader", shard)
	if at.unreached != "" {
		err = kverr.New(kverr.Unavailable, "shard %d: its leader, node %s, cannot be reached", shard, at.unreached.Short())
	}
	return &kvv1.Answer{Id: at.op.Id, Error: s.failure(shard, err)}
}
