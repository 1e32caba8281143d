package client

import (
	"sync"

	"github.com/ringfort/ringfort/shardmap"
)

// Session collects how far its reads and writes have seen, so that later reads,
// wherever they are served, see no less: one's own writes, and nothing older than
// what one has read. Give it to calls by WithSession and InSession. It is safe for
// concurrent use; one per user, or per request, is cheap.
type Session struct {
	mu      sync.Mutex
	cluster string // of the first answer
	marks   []mark // what raised returns is never changed but by bounded, before it gets here
}

// NewSession returns a session that has seen nothing.
func NewSession() *Session { return &Session{} }

// Token is what the session has seen so far. It stays as it is.
func (s *Session) Token() Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Token{cluster: s.cluster, marks: s.marks}
}

// Merge makes the session see no less than the token has, which may come from
// another process. A token of another cluster is ErrBadToken.
func (s *Session) Merge(t Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.IsZero() {
		return nil
	}
	if s.cluster != "" && s.cluster != t.cluster {
		return badToken("session", "the token is of cluster %s, the session of %s", t.cluster, s.cluster)
	}
	s.cluster = t.cluster
	for _, m := range t.marks {
		s.raiseLocked(shardmap.Arc{From: m.from, To: m.to}, m.version)
	}
	return nil
}

// saw notes a version of the shard that has the arc.
func (s *Session) saw(cluster string, arc shardmap.Arc, version uint64) {
	if version == 0 || arc.From >= shardmap.Slots {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == "" {
		s.cluster = cluster
	}
	if s.cluster == cluster {
		s.raiseLocked(arc, version)
	}
}

func (s *Session) raiseLocked(arc shardmap.Arc, version uint64) {
	arc.To = min(arc.To, shardmap.Slots)
	if m, ok := findMark(s.marks, arc.From); ok && m.to >= arc.To && m.version >= version {
		return // by far the most frequent
	}
	s.marks = bounded(raised(s.marks, arc, version), maxSessionMarks)
}

func (s *Session) at(slot shardmap.Slot) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, _ := findMark(s.marks, slot)
	return m.version
}

func (s *Session) clusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster
}
