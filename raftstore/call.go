package raftstore

import (
	"sync/atomic"

	"github.com/ringfort/ringfort/raftstore/state"
)

// A call moves through these phases. Whoever swaps it out of a phase owns the
// next step, so Done runs exactly once and never while the caller's buffers are
// being read.
const (
	phaseWaiting  = iota // queued; the sweeper may answer it
	phaseBusy            // its buffers are being read; nobody else may answer it
	phaseProposed        // encoded; the apply loop or the sweeper may answer it
	phaseAnswered
)

// writeCall is one Write on its way.
type writeCall struct {
	*Write
	phase atomic.Int32
	bytes int
}

func (c *writeCall) move(from, to int32) bool { return c.phase.CompareAndSwap(from, to) }

// refuse answers with err if the call is still in phase from.
func (c *writeCall) refuse(from int32, err error) bool {
	if !c.move(from, phaseAnswered) {
		return false
	}
	c.Done(nil, 0, err)
	return true
}

// answer completes a proposed call.
func (c *writeCall) answer(results []state.Result, version uint64) {
	if c.move(phaseProposed, phaseAnswered) {
		c.Done(results, version, nil)
	}
}

// readCall is one Read on its way.
type readCall struct {
	*Read
	phase atomic.Int32
	// led: a confirm round of this replica proves it. Guarded by the backlog's lock
	// until the read runs.
	led bool
	// asked: the leader's index proves it. Guarded likewise.
	asked bool
	// index, if not nil, is told the round's index at once: it is a peer's question.
	index func(uint64)
	// repeated: the expiry of due keys was seen to, so that what is still due is
	// answered as it is.
	repeated bool
}

// weight is what the read counts in the backlog.
func (c *readCall) weight() int { return max(1, len(c.Keys)) }

// served is how the read was proven.
func (c *readCall) served() ServedBy {
	switch {
	case c.led:
		return ByLeader
	case c.asked:
		return ByFollower
	}
	return ByReplica
}

func (c *readCall) move(from, to int32) bool { return c.phase.CompareAndSwap(from, to) }

func (c *readCall) refuse(from int32, err error) bool {
	if !c.move(from, phaseAnswered) {
		return false
	}
	c.Done(nil, 0, err)
	return true
}
