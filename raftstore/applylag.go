package raftstore

import (
	"sync/atomic"
	"time"
)

// maxLagMarks bounds the marks of one group: more than fit into DiskSilence at the
// gate's pace. When they are full the oldest still tells the age.
const maxLagMarks = 64

// applyLag tells the disk gate how far a group's state machine is behind.
//
// Raft's own view is not enough: its applied index moves when entries are handed
// over, and no-ops, which begin every term, never reach the state machine, so the
// state's applied index may stay below the commit index for ever. Two things are
// sound. A step of the apply loop that has begun and not ended, or a main loop
// that hands committed entries over no further, is stuck, in any role. And on a
// leader that is ready everything committed after its first entry is a command or
// a configuration, so there the two indexes are comparable; that finds a state
// machine that moves on but ever further behind. What a follower replays after a
// restart is neither.
type applyLag struct {
	steps atomic.Uint64 // odd while the apply loop is inside one

	// The gate's alone.
	lastStep   uint64
	inStep     hangTimer
	handedOver uint64
	handing    hangTimer
	marks      []lagMark
	quiet      gateLatch
}

// lagMark is a commit index, and when it was first seen.
type lagMark struct {
	index uint64
	at    time.Duration
}

func (l *applyLag) begin() { l.steps.Add(1) }
func (l *applyLag) end()   { l.steps.Add(1) }

// progress is where a group is.
type progress struct {
	handedOver, commit uint64 // by raft
	applied            uint64 // by the state machine
	ready              bool   // leads, and its tenure is ready
}

func (g *Group) progress() progress {
	t := g.tenure.Load()
	return progress{
		handedOver: g.raft.AppliedIndex(), commit: g.raft.CommitIndex(),
		applied: g.view.Load().applied, ready: t != nil && t.ready.Load(),
	}
}

// look takes note of where the group is at the gate's time now, a stride after the
// last look, and returns the age of its oldest entry that is committed and not
// applied, or 0.
func (l *applyLag) look(p progress, now, step time.Duration) time.Duration {
	steps := l.steps.Load()
	l.inStep.still(steps%2 == 1 && steps == l.lastStep, step)
	l.lastStep = steps

	l.handing.still(p.handedOver < p.commit && p.handedOver == l.handedOver, step)
	l.handedOver = p.handedOver

	if !p.ready {
		l.marks = l.marks[:0]
		return l.stuck()
	}
	if n := len(l.marks); n == 0 || n < maxLagMarks && l.marks[n-1].index < p.commit {
		l.marks = append(l.marks, lagMark{p.commit, now})
	}
	reached := 0
	for reached < len(l.marks) && l.marks[reached].index <= p.applied {
		reached++
	}
	l.marks = append(l.marks[:0], l.marks[reached:]...)
	if len(l.marks) == 0 {
		return l.stuck()
	}
	return max(l.stuck(), now-l.marks[0].at)
}

// stuck is for how long nothing at all has moved.
func (l *applyLag) stuck() time.Duration { return max(l.inStep.seen, l.handing.seen) }
