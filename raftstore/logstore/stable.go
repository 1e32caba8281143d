package logstore

import (
	"bytes"

	"github.com/ringfort/ringfort/internal/kverr"
)

// The three keys of raft.StableStore, as raft spells them. Raft keeps nothing
// else there, and a key we do not know could not be guarded.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

func (g *Group) unknownKey(key []byte) error {
	return kverr.New(kverr.Internal, "logstore: group %d: raft uses the stable key %q, which this build does not know", g.id, key)
}

// SetUint64 stores CurrentTerm durably, unless it is stored already, and holds
// LastVoteTerm back until the candidate is known (S3). A lower term is refused:
// raft then stops the process, which is right, as two of its goroutines must
// disagree about the term.
func (g *Group) SetUint64(key []byte, v uint64) error {
	switch string(key) {
	case keyCurrentTerm:
		if s := g.view(); s.term == v && !s.retired {
			return nil // raft rewrites it at every start: an fsync per group
		}
		return g.db.answer(g.db.submit(&request{op: &termOp{group: g, term: v}, group: g}))
	case keyLastVoteTerm:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.staged = v
		return nil
	}
	return g.unknownKey(key)
}

// GetUint64 answers 0 for what was never stored.
func (g *Group) GetUint64(key []byte) (uint64, error) {
	s := g.view()
	switch string(key) {
	case keyCurrentTerm:
		return s.term, g.gone(s)
	case keyLastVoteTerm:
		return s.vote.term, g.gone(s)
	}
	return 0, g.unknownKey(key)
}

// Set stores LastVoteCand together with the term staged before it, durably.
func (g *Group) Set(key, candidate []byte) error {
	if string(key) != keyLastVoteCand {
		return g.unknownKey(key)
	}
	g.mu.Lock()
	v := vote{term: g.staged, candidate: append([]byte{}, candidate...)}
	g.staged = 0
	g.mu.Unlock()
	return g.db.answer(g.db.submit(&request{op: &voteOp{group: g, vote: v}, group: g}))
}

// Get answers nil for a vote never given.
func (g *Group) Get(key []byte) ([]byte, error) {
	if string(key) != keyLastVoteCand {
		return nil, g.unknownKey(key)
	}
	s := g.view()
	return bytes.Clone(s.vote.candidate), g.gone(s)
}

// termOp raises CurrentTerm.
type termOp struct {
	group *Group
	term  uint64
}

func (o *termOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	switch {
	case s.retired:
		return g.goneRefusal()
	case o.term < s.term:
		return refuse(kverr.Internal, g.id, "current term %d must not fall to %d", s.term, o.term)
	case o.term == s.term:
		return nil
	}
	b.setRecord(recordKey(g.id, kindTerm), numbers(o.term))
	return nil
}

func (o *termOp) publish() {
	o.group.change(func(s *groupState) { s.term = o.term })
	o.group.db.marks.note(o.group)
}

// voteOp records a vote.
type voteOp struct {
	group *Group
	vote  vote
}

func (o *voteOp) stage(b *batch) error {
	g, s, v := o.group, &o.group.state, o.vote
	reason, quarantined := g.db.members.quarantine(Member{g.id, s.replica})
	switch {
	case s.retired:
		return g.goneRefusal()
	case quarantined:
		return refuse(kverr.Internal, g.id, "replica %d is in quarantine and does not vote: %s", s.replica, reason)
	case v.term == 0:
		return refuse(kverr.Internal, g.id, "a candidate without the term of the vote")
	case v.term > s.term:
		return refuse(kverr.Internal, g.id, "a vote in term %d before term %d has ended", v.term, s.term)
	case v.term < s.vote.term:
		return refuse(kverr.Internal, g.id, "a vote in term %d after one in term %d", v.term, s.vote.term)
	case v.term == s.vote.term && !bytes.Equal(v.candidate, s.vote.candidate):
		return refuse(kverr.Internal, g.id, "a second vote in term %d", v.term)
	case v.term == s.vote.term:
		return nil
	}
	b.setRecord(recordKey(g.id, kindVote), encodeVote(v))
	b.votes = true
	return nil
}

func (o *voteOp) publish() {
	o.group.change(func(s *groupState) { s.vote = o.vote })
	o.group.db.marks.note(o.group)
}
