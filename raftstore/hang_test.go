package raftstore

import "sync"

// hang is a place where a disk can be made to hang (M1). The zero hang lets
// everybody pass.
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
