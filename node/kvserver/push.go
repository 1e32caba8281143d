package kvserver

import (
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// PushMap sends a map to all open streams if it is newer than every earlier one.
// A stream that cannot take it yet gets the newest when it can. PushMap does not
// block and keeps m.
func (s *Server) PushMap(m *shardmap.Map) {
	s.mu.Lock()
	known := s.mu.mapEpoch
	s.mu.Unlock()
	if m.Epoch() <= known {
		return
	}
	// One wire form for all streams, made outside the lock: it may take a while.
	shardMap := wire.MapToProto(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Epoch() <= s.mu.mapEpoch {
		return
	}
	s.mu.shardMap, s.mu.mapEpoch = shardMap, m.Epoch()
	for st := range s.mu.streams {
		st.box.pushMap(shardMap, m.Epoch())
	}
}

// newestMap is the wire form of the newest map, nil while there is none. The
// node may use a map before it pushes it, so both are asked.
func (s *Server) newestMap() (shardMap *kvv1.ShardMap, epoch uint64) {
	s.PushMap(s.opts.Shards.Map())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.shardMap, s.mu.mapEpoch
}

// PushLeader sends a hint to all open streams if it is news; each keeps the
// newest per shard until it can send it. PushLeader does not block.
func (s *Server) PushLeader(h shardmap.LeaderHint) {
	if !s.hints.learn(h) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.mu.streams {
		st.box.pushLeader(h)
	}
}

// leader is the newest hint from anybody; its Node is empty when there is none.
func (s *Server) leader(shard shardmap.ShardID) shardmap.LeaderHint {
	hint := s.hints.get(shard)
	if g, ok := s.opts.Shards.Group(shard); ok {
		if h, ok := g.Leader(); ok && newer(h, hint) {
			hint = h
		}
	}
	return hint
}

// leaders are the newest hints for every shard that anything is known of.
func (s *Server) leaders() []shardmap.LeaderHint {
	for _, rec := range s.opts.Shards.Map().Records() {
		if h := s.leader(rec.Shard); h.Node != "" {
			s.PushLeader(h)
		}
	}
	return s.hints.all()
}
