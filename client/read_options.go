package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// ReadOption configures one read. An option that means nothing to the verb it is
// given to is an error of kind ErrInvalid, and nothing is sent.
type ReadOption interface{ read(p *params) }

// LevelOption configures a read or a scan.
type LevelOption interface {
	ReadOption
	ScanOption
}

// PlaceOption configures a read, a scan or a watch.
type PlaceOption interface {
	ReadOption
	ScanOption
	WatchOption
}

// SessionOption configures a read, a scan or a write.
type SessionOption interface {
	ReadOption
	ScanOption
	WriteOption
}

// paramOption is an option of whatever takes params; the interfaces that it is
// returned as say what may have it.
type paramOption func(p *params)

func (o paramOption) read(p *params)  { o(p) }
func (o paramOption) write(p *params) { o(p) }

func (o paramOption) scan(c *scanConfig)   { o(&c.params) }
func (o paramOption) watch(c *watchConfig) { o(&c.params) }

// replicas says which replica a read should be served by.
type replicas uint8

const (
	replicaLeader replicas = iota
	replicaFollower
	replicaNearest
)

// Linearizable is the default level: the read sees every write that was
// acknowledged, to anybody, before the call.
func Linearizable() LevelOption {
	return paramOption(func(p *params) { p.setLevel(kvv1.ReadLevel_READ_LEVEL_LINEARIZABLE) })
}

// AtLeast reads at the level Session: the answer is not older than the token, so
// whoever collected it in a session reads their own writes and never goes back in
// time. It may miss later writes of others. A token of another cluster is
// ErrBadToken.
func AtLeast(t Token) LevelOption {
	return paramOption(func(p *params) {
		p.setLevel(kvv1.ReadLevel_READ_LEVEL_SESSION)
		if !t.IsZero() {
			p.token = &t
		}
	})
}

// InSession reads like AtLeast the session's token, and the session collects how
// far the answer has seen.
func InSession(s *Session) LevelOption {
	return paramOption(func(p *params) {
		p.setLevel(kvv1.ReadLevel_READ_LEVEL_SESSION)
		p.inSession = true
		p.setSession(s)
	})
}

// WithSession makes the session collect how far the answer to a read or a write
// has seen. It does not change the level of a read.
func WithSession(s *Session) SessionOption {
	return paramOption(func(p *params) { p.setSession(s) })
}

// BoundedStale reads what was true at most d before the call: the answer reflects
// every write acknowledged by then. d is from a microsecond to 100 years.
func BoundedStale(d time.Duration) LevelOption {
	return paramOption(func(p *params) {
		p.setLevel(kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE)
		if d < time.Microsecond || d > maxDuration {
			p.spoil("a read can be stale by 1µs to 100 years, not by %v", d)
			return
		}
		p.maxAge = micros(d)
	})
}

// Any reads whatever the replica that is asked has applied, however old.
func Any() LevelOption {
	return paramOption(func(p *params) { p.setLevel(kvv1.ReadLevel_READ_LEVEL_ANY) })
}

// FromFollower prefers replicas other than the shard's leader, in turn, at any
// level: a follower serves a linearizable read by asking the leader how far it has
// to be. When none can serve, the leader is asked.
func FromFollower() PlaceOption {
	return paramOption(func(p *params) { p.setReplicas(replicaFollower) })
}

// Nearest prefers the replica that has been answering this client fastest, at any
// level, like FromFollower.
func Nearest() PlaceOption {
	return paramOption(func(p *params) { p.setReplicas(replicaNearest) })
}

// KeysOnly reads everything but the value.
func KeysOnly() PlaceOption {
	return paramOption(func(p *params) { p.used |= optKeysOnly; p.keysOnly = true })
}

// IfNotVersion saves a Get the bytes of a value that the caller has already: if
// the value still has version v, the item is NotModified and has no Value.
func IfNotVersion(v uint64) ReadOption {
	return paramOption(func(p *params) {
		p.used |= optIfNotVersion
		if v == 0 {
			p.spoil("no value has version 0")
		}
		p.ifNotVersion = v
	})
}

// WithoutCache makes a Get or GetMany pass by the client's cache: it is not served
// from there, and leaves nothing there.
func WithoutCache() ReadOption {
	return paramOption(func(p *params) { p.used |= optWithoutCache })
}

func (p *params) setLevel(l kvv1.ReadLevel) {
	if p.used&optLevel != 0 && p.level != l {
		p.spoil("more than one read level")
	}
	p.used |= optLevel
	p.level = l
}

func (p *params) setReplicas(r replicas) {
	if p.used&optReplica != 0 && p.replicas != r {
		p.spoil("both FromFollower and Nearest")
	}
	p.used |= optReplica
	p.replicas = r
}

func (p *params) setSession(s *Session) {
	switch {
	case s == nil:
		p.spoil("the session is nil: use NewSession")
	case p.session != nil && p.session != s:
		p.spoil("more than one session")
	}
	p.used |= optSession
	p.session = s
}
