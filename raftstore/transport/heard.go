package transport

import (
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
)

// Heard is what the heartbeats of the group's leader say beside raft: how far it
// had committed in the term when it sent the latest one. Zero when it has not said.
type Heard struct {
	Term   uint64
	Commit uint64
	At     time.Time // when the latest one arrived
}

// SetCommitIndex sets what this replica's heartbeats say about the commit index.
// Without it they say nothing.
func (g *Group) SetCommitIndex(commit func() uint64) { g.commitIndex.Store(&commit) }

// Heard returns what the leader of the highest term heard of has said. It is a
// hint: nothing may be committed or read because of it.
func (g *Group) Heard() Heard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.heard
}

// Receiving reports whether a snapshot for this replica is being received or
// installed.
func (g *Group) Receiving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.receiving
}

// hear takes note of a heartbeat; a later one of the same term may have been
// overtaken, so the index only rises within a term.
func (g *Group) hear(a *peerv1.AppendEntries) {
	if a.GetKnownCommit() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := &g.mu.heard
	switch {
	case a.GetTerm() < h.Term:
		return
	case a.GetTerm() > h.Term:
		*h = Heard{Term: a.GetTerm()}
	}
	h.Commit, h.At = max(h.Commit, a.GetKnownCommit()), time.Now()
}
