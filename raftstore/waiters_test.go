package raftstore

import (
	"testing"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// answerLog records how often and how a call was answered.
type answerLog struct {
	results []state.Result
	version uint64
	err     error
	times   int
}

func loggedWrite(ops int, deadline time.Time) (*writeCall, *answerLog) {
	log := &answerLog{}
	w := &Write{Ops: make([]state.Op, ops), Deadline: deadline}
	w.Done = func(r []state.Result, v uint64, err error) {
		log.results, log.version, log.err = r, v, err
		log.times++
	}
	return &writeCall{Write: w}, log
}

func proposed(w *waiters, id state.ProposalID, term uint64, calls ...*writeCall) *proposal {
	p := &proposal{id: id, term: term, calls: calls, applied: make(chan struct{})}
	for _, c := range calls {
		c.phase.Store(phaseProposed)
	}
	w.add(p)
	return p
}

func TestL6_OnlyTheFullIDCompletes(t *testing.T) {
	w := newWaiters(func(*proposal) {})
	c, log := loggedWrite(1, time.Now().Add(time.Hour))
	mine := state.ProposalID{Replica: 7, Nonce: 99, Counter: 3}
	proposed(w, mine, 2, c)
	result := []state.Result{{Verdict: state.Applied, Version: 5}}
	// An entry from before a restart, or of another replica, has the same counter.
	w.landed(state.ProposalID{Replica: 7, Nonce: 98, Counter: 3}, result, 5)
	w.landed(state.ProposalID{Replica: 8, Nonce: 99, Counter: 3}, result, 5)
	if log.times != 0 {
		t.Fatal("somebody else's entry completed the waiter")
	}
	w.landed(mine, result, 5)
	w.landed(mine, result, 5)
	if log.times != 1 || log.err != nil || log.version != 5 || log.results[0].Version != 5 {
		t.Fatalf("answered %d times with %+v", log.times, log)
	}
}

func TestL6_ResultsAreDealtInOrder(t *testing.T) {
	w := newWaiters(func(*proposal) {})
	a, logA := loggedWrite(2, time.Now().Add(time.Hour))
	b, logB := loggedWrite(1, time.Now().Add(time.Hour))
	id := state.ProposalID{Counter: 1}
	proposed(w, id, 2, a, b)
	w.landed(id, []state.Result{{Version: 1}, {Version: 2}, {Version: 3}}, 3)
	if len(logA.results) != 2 || logA.results[1].Version != 2 || len(logB.results) != 1 || logB.results[0].Version != 3 {
		t.Fatalf("dealt %+v and %+v", logA.results, logB.results)
	}
}

func TestL6_AnEntryOfALaterTermMeansNotApplied(t *testing.T) {
	w := newWaiters(func(*proposal) {})
	old, oldLog := loggedWrite(1, time.Now().Add(time.Hour))
	now, nowLog := loggedWrite(1, time.Now().Add(time.Hour))
	p := proposed(w, state.ProposalID{Counter: 1}, 2, old)
	proposed(w, state.ProposalID{Counter: 2}, 3, now)
	w.passed(2)
	if oldLog.times != 0 {
		t.Fatal("an entry of its own term proves nothing about a proposal")
	}
	w.passed(3)
	if oldLog.times != 1 || kverr.KindOf(oldLog.err) != kverr.NotLeader {
		t.Fatalf("overtaken write: answered %d times, %v; want not leader, which means not applied", oldLog.times, oldLog.err)
	}
	if nowLog.times != 0 {
		t.Fatal("the current term's proposal was dropped")
	}
	<-p.applied
	if p.landed {
		t.Fatal("an overtaken proposal counts as landed")
	}
}

func TestL6_RestartAndGraceMeanUnknown(t *testing.T) {
	start := time.Now()
	w := newWaiters(func(*proposal) {})
	c, log := loggedWrite(1, start.Add(time.Hour))
	proposed(w, state.ProposalID{Counter: 1}, 2, c)
	w.deposed(2, start.Add(deposedGrace))
	w.expire(start.Add(deposedGrace / 2))
	if log.times != 0 {
		t.Fatal("answered before the grace was over")
	}
	w.expire(start.Add(2 * deposedGrace))
	if log.times != 1 || kverr.KindOf(log.err) != kverr.OutcomeUnknown {
		t.Fatalf("deposed: %d answers, %v", log.times, log.err)
	}
	// The log may still tell; the caller has its one answer already.
	w.landed(state.ProposalID{Counter: 1}, []state.Result{{}}, 1)
	if log.times != 1 {
		t.Fatal("answered twice")
	}

	d, log2 := loggedWrite(1, start.Add(time.Hour))
	proposed(w, state.ProposalID{Counter: 2}, 2, d)
	w.abandon()
	if log2.times != 1 || kverr.KindOf(log2.err) != kverr.OutcomeUnknown {
		t.Fatalf("group restart: %d answers, %v", log2.times, log2.err)
	}
}

func TestWaitersDeadlineIsUnknownOnceProposed(t *testing.T) {
	start := time.Now()
	left := 0
	w := newWaiters(func(*proposal) { left++ })
	c, log := loggedWrite(1, start.Add(time.Second))
	proposed(w, state.ProposalID{Counter: 1}, 2, c)
	w.expire(start.Add(2 * time.Second))
	if log.times != 1 || kverr.KindOf(log.err) != kverr.OutcomeUnknown {
		t.Fatalf("%d answers, %v", log.times, log.err)
	}
	if n, _ := w.inFlight(2); n != 1 || left != 0 {
		t.Fatal("the entry is still in flight although its caller has gone")
	}
}
