package nodetest

import (
	"sync"

	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// hang is a place at which a disk may hang. The zero hang lets everybody pass.
type hang struct {
	mu   sync.Mutex
	gate chan struct{} // nil while nothing hangs
}

func (h *hang) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gate == nil {
		h.gate = make(chan struct{})
	}
}

func (h *hang) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gate != nil {
		close(h.gate)
		h.gate = nil
	}
}

func (h *hang) wait() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// HangLog makes every sync of the node's log wait until Unhang.
func (s *Server) HangLog() { s.logHang.begin() }

// HangApply makes the application of committed entries wait until Unhang.
func (s *Server) HangApply() { s.applyHang.begin() }

// Unhang lets the disk go on. The end of a life does so too.
func (s *Server) Unhang() {
	s.logHang.end()
	s.applyHang.end()
}

func (s *Server) tuneHangs(o *raftstore.Options) {
	o.BeforeSync = s.logHang.wait
	o.BeforeApply = func(shardmap.ShardID) { s.applyHang.wait() }
}
