package kvserver

import "sync/atomic"

// heldShare is which part of what is free one stream may hold: n streams that do
// not read come to n parts of n+heldShare, and there is always a part left.
const heldShare = 8

// held is the account of what requests and answers of all clients hold in memory.
// Each stream has bounds of its own, and a thousand streams within theirs would
// still be too much.
type held struct {
	max     int64
	bytes   atomic.Int64
	refused atomic.Uint64
}

// take charges somebody who holds own already; who holds nothing may take what is
// left. False means no.
func (h *held) take(bytes, own int) bool {
	free := h.max - h.bytes.Add(int64(bytes))
	if free < 0 || own > 0 && int64(own+bytes) > free/heldShare {
		h.add(-bytes)
		return false
	}
	return true
}

// add charges what cannot be refused, such as a refusal, or takes a charge back.
func (h *held) add(bytes int) { h.bytes.Add(int64(bytes)) }

// HeldBytes is what requests and answers of all clients hold in memory.
func (s *Server) HeldBytes() int { return int(s.held.bytes.Load()) }
