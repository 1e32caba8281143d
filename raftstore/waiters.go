package raftstore

import (
	"sync"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// proposal is one entry handed to Raft whose fate the log has not told yet.
type proposal struct {
	id      state.ProposalID
	term    uint64
	calls   []*writeCall
	bytes   int
	applied chan struct{} // closed when it leaves the table
	landed  bool          // applied, as against lost; valid once applied is closed
	// giveUp is when its callers are told "outcome unknown" although the log may
	// still tell: zero while the leadership that proposed it lasts.
	giveUp time.Time
}

// waiters is the table of proposals in flight (rule L6). The apply loop, not a
// Raft future, completes them: by their id when their entry is applied, and as
// not applied when an entry of a later term is, because a later term's entry
// has then taken the place in the log that theirs would have had.
type waiters struct {
	done func(*proposal) // called for each that leaves, outside the lock

	mu struct {
		sync.Mutex
		open map[uint64]*proposal // by counter; ids of other processes are never in it
	}
}

func newWaiters(done func(*proposal)) *waiters {
	w := &waiters{done: done}
	w.mu.open = make(map[uint64]*proposal)
	return w
}

func (w *waiters) add(p *proposal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.open[p.id.Counter] = p
}

// landed completes the proposal with this id, if it is one of ours, with the
// results of its operations in order.
func (w *waiters) landed(id state.ProposalID, results []state.Result, version uint64) {
	w.mu.Lock()
	p := w.mu.open[id.Counter]
	if p == nil || p.id != id { // another replica's, or from before a restart
		w.mu.Unlock()
		return
	}
	delete(w.mu.open, id.Counter)
	w.mu.Unlock()

	p.landed = true
	for _, c := range p.calls {
		n := len(c.Ops)
		c.answer(results[:n:n], version)
		results = results[n:]
	}
	w.leave(p)
}

// forget takes out a proposal without calls.
func (w *waiters) forget(p *proposal) {
	w.mu.Lock()
	_, open := w.mu.open[p.id.Counter]
	delete(w.mu.open, p.id.Counter)
	w.mu.Unlock()
	if open {
		w.leave(p)
	}
}

// passed completes as not applied every proposal of a term before this one.
func (w *waiters) passed(term uint64) {
	w.drop(func(p *proposal) bool { return p.term < term },
		kverr.New(kverr.NotLeader, "another leader's entry took this write's place in the log; it was not applied"))
}

// abandon completes everything as unknown: the group stops.
func (w *waiters) abandon() {
	w.drop(func(*proposal) bool { return true },
		kverr.New(kverr.OutcomeUnknown, "the group stopped before the write's outcome was known"))
}

func (w *waiters) drop(which func(*proposal) bool, err error) {
	w.mu.Lock()
	var gone []*proposal
	for n, p := range w.mu.open {
		if which(p) {
			delete(w.mu.open, n)
			gone = append(gone, p)
		}
	}
	w.mu.Unlock()
	for _, p := range gone {
		for _, c := range p.calls {
			c.refuse(phaseProposed, err)
		}
		w.leave(p)
	}
}

func (w *waiters) leave(p *proposal) {
	close(p.applied)
	w.done(p)
}

// deposed notes that the leadership of term is over: what the log has not told
// by giveUp is answered as unknown, so that a caller with a request id can ask
// the new leader.
func (w *waiters) deposed(term uint64, giveUp time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.mu.open {
		if p.term == term && p.giveUp.IsZero() {
			p.giveUp = giveUp
		}
	}
}

// expire answers calls past their deadline as unknown. Their proposals stay:
// the log will still tell when the place in flight is free.
func (w *waiters) expire(now time.Time) {
	var late []*writeCall
	w.mu.Lock()
	for _, p := range w.mu.open {
		given := !p.giveUp.IsZero() && now.After(p.giveUp)
		for _, c := range p.calls {
			if given || now.After(c.Deadline) {
				late = append(late, c)
			}
		}
	}
	w.mu.Unlock()
	for _, c := range late {
		c.refuse(phaseProposed, kverr.New(kverr.OutcomeUnknown, "the write was proposed and its outcome is not known yet"))
	}
}

// inFlight is how many proposals of the term are open, and their bytes.
func (w *waiters) inFlight(term uint64) (entries, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.mu.open {
		if p.term == term {
			entries++
			bytes += p.bytes
		}
	}
	return entries, bytes
}
