package node

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/ringfort/ringfort/shardmap"
)

// mapHolder holds the newest shard map this node has seen.
type mapHolder struct {
	cluster func() string
	logger  *slog.Logger
	current atomic.Pointer[shardmap.Map]
	changed broadcast
}

// Map returns the newest map, nil while there is none.
func (h *mapHolder) Map() *shardmap.Map { return h.current.Load() }

// offer takes a map if it is newer (N2) and reports whether it was.
func (h *mapHolder) offer(m *shardmap.Map) bool {
	if m == nil {
		return false
	}
	if own := h.cluster(); m.ClusterID() != own {
		h.logger.Error("ignored a map of another cluster", "its", m.ClusterID(), "own", own)
		return false
	}
	for {
		held := h.current.Load()
		if m.Epoch() <= held.Epoch() {
			return false
		}
		if h.current.CompareAndSwap(held, m) {
			h.changed.fire()
			return true
		}
	}
}

// await waits until a map is held.
func (h *mapHolder) await(ctx context.Context) (*shardmap.Map, error) {
	for {
		changed := h.changed.next()
		if m := h.Map(); m != nil {
			return m, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
