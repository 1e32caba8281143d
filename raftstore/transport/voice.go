package transport

import (
	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// Voice is what a group may send on its own behalf (rule D1). Answers to others
// and confirms are not concerned: they are true whatever the disk does.
type Voice uint8

// The voices.
const (
	// Speaking is the voice of a new group: everything.
	Speaking Voice = iota
	// Farewell sends only the TimeoutNow by which a leader names its successor.
	Farewell
	// Silent sends nothing, so that others elect another leader and this replica
	// is no candidate.
	Silent
)

// SetVoice changes what the group may send. What it may not send fails at once,
// and so do its RPCs that wait for an answer. While it is not Speaking, nobody
// makes it stand for election: Campaign does nothing and a TimeoutNow from its
// leader is refused as busy.
func (g *Group) SetVoice(v Voice) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.voice == v {
		return
	}
	if g.mu.voice == Speaking {
		close(g.mu.hushed)
	}
	if v == Speaking {
		g.mu.hushed = make(chan struct{})
	}
	g.mu.voice = v
}

// speak says whether m, nil for a snapshot, may be sent now, and gives a channel that is closed when
// it may not any more.
func (g *Group) speak(m *peerv1.Message) (hushed <-chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.mu.voice == Speaking:
		return g.mu.hushed, nil
	case g.mu.voice == Farewell && m.GetTimeoutNow() != nil:
		return nil, nil
	}
	return nil, errSilent(g.id)
}

// forbidsLocked reports whether a command would make a replica that may not
// speak a candidate.
func (g *Group) forbidsLocked(command any) bool {
	_, standing := command.(*raft.TimeoutNowRequest)
	return standing && g.mu.voice != Speaking
}

func errSilent(group uint64) error {
	return &kverr.Error{Kind: kverr.Unavailable, Shard: group, Message: "the replica is silent: its disk hangs"}
}
