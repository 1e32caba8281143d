package kvserver

import (
	"sync"

	"github.com/ringfort/ringfort/shardmap"
)

// hintTable keeps the newest leader hint per shard. It is as large as the number
// of shards there ever were.
type hintTable struct {
	mu struct {
		sync.Mutex
		hints   map[shardmap.ShardID]shardmap.LeaderHint
		changed chan struct{} // closed and replaced at each change
	}
}

func newHintTable() *hintTable {
	t := &hintTable{}
	t.mu.hints = make(map[shardmap.ShardID]shardmap.LeaderHint)
	t.mu.changed = make(chan struct{})
	return t
}

// learn takes a hint in and reports whether it is news.
func (t *hintTable) learn(h shardmap.LeaderHint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !newer(h, t.mu.hints[h.Shard]) {
		return false
	}
	t.mu.hints[h.Shard] = h
	close(t.mu.changed)
	t.mu.changed = make(chan struct{})
	return true
}

// newer reports whether a says more than b: it names a node, in a later term. A
// term has one leader, so equal terms say the same.
func newer(a, b shardmap.LeaderHint) bool {
	return a.Node != "" && (b.Node == "" || a.Term > b.Term)
}

func (t *hintTable) get(shard shardmap.ShardID) shardmap.LeaderHint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.hints[shard]
}

func (t *hintTable) all() []shardmap.LeaderHint {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]shardmap.LeaderHint, 0, len(t.mu.hints))
	for _, h := range t.mu.hints {
		all = append(all, h)
	}
	return all
}

// changed is closed at the next change after this call.
func (t *hintTable) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.changed
}
