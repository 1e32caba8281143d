package transport

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// reign is what a replica sends as the leader of one term. Raft's replicators
// and heartbeats of an earlier term may still run; what they send is stopped
// here, since an old heartbeat keeps a follower from voting and an old append
// keeps its replicator from ending.
type reign struct {
	sync.Mutex
	from  uint64 // leaderships of earlier terms are over
	term  uint64 // of the records in peers
	peers map[raft.ServerID]*peer
}

// peer is what the leader of a term knows of one follower.
//
// It also closes a trap: after each append that fails raft sleeps, twice as long
// each time, up to 10.24 s, and nothing wakes it. A follower that was down for a
// minute would get nothing for ten seconds after it is back. So an append that
// follows a failed one is held back until the follower has answered a heartbeat,
// which raft sends at least every half heartbeat timeout; an outage then costs
// raft one or two failures, however long it lasts and whether the peer's node
// refuses connections, refuses messages or hangs.
type peer struct {
	mu       sync.Mutex
	progress Progress
	gone     error         // set when nothing may be sent to it any more in this term
	stop     chan struct{} // closed by Interrupt, which puts a new one here, and when gone is set
	revived  chan struct{} // not nil after a failed append: closed when a heartbeat is answered
}

// Progress is what a leader's transport knows of one follower in its term.
type Progress struct {
	Term uint64
	// Acked is the highest index up to which the follower has said that its log is
	// the leader's, Committed the highest commit index it was told with that.
	Acked, Committed uint64
	// Moved is when one of the two last rose; at first, when the record was made.
	Moved time.Time
	// Contact is when the follower last answered in the term, a heartbeat or an
	// append; zero before.
	Contact time.Time
	// Asked is when raft last handed over an append that is no heartbeat.
	Asked time.Time
	// Waiting tells that such an append is in the air or held back, Snapshot that
	// a snapshot is on its way or waits for its turn; that has its own limits.
	Waiting, Snapshot bool
	// NoSpace tells that the follower last declined entries for want of disk space:
	// it stands still and nothing here can help it.
	NoSpace bool
	// Failures counts what had no answer, snapshots too.
	Failures uint64
}

// PeerProgress is the record of a follower, if this replica leads, or led last,
// and has sent it anything in its term.
func (g *Group) PeerProgress(id raft.ServerID) (Progress, bool) {
	g.out.Lock()
	p := g.out.peers[id]
	g.out.Unlock()
	if p == nil {
		return Progress{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.progress, true
}

// Followers calls fn with the record of each follower that this replica has sent
// anything to in the term it leads, or led last. fn must not block.
func (g *Group) Followers(fn func(raft.ServerID, Progress)) {
	g.out.Lock()
	defer g.out.Unlock()
	for id, p := range g.out.peers {
		p.mu.Lock()
		progress := p.progress
		p.mu.Unlock()
		fn(id, progress)
	}
}

// Interrupt ends, with an error, the calls to a follower that are in the air or
// held back, so that raft begins afresh with it.
func (g *Group) Interrupt(id raft.ServerID) {
	g.out.Lock()
	p := g.out.peers[id]
	g.out.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone == nil {
		close(p.stop)
		p.stop = make(chan struct{})
	}
}

// Withdraw says that this replica's leaderships of terms up to term are over:
// nothing of them is sent any more, and calls of theirs end.
func (g *Group) Withdraw(term uint64) {
	g.out.Lock()
	defer g.out.Unlock()
	g.out.beginLocked(term + 1)
}

// beginLocked ends what belongs to terms before this one.
func (o *reign) beginLocked(term uint64) {
	if term <= o.from {
		return
	}
	o.from = term
	if o.term >= term {
		return
	}
	for id, p := range o.peers {
		p.dismiss(errDeposed(o.term))
		delete(o.peers, id)
	}
}

// Retain says who is in the configuration that holds: calls to others end. Raft
// stops replicating to a removed member only when the call it is in has ended.
func (g *Group) Retain(member func(raft.ServerID) bool) {
	g.out.Lock()
	defer g.out.Unlock()
	for id, p := range g.out.peers {
		if !member(id) {
			p.dismiss(errRemoved(id))
			delete(g.out.peers, id)
		}
	}
}

// follower is the record for something that the leader of term sends.
func (g *Group) follower(id raft.ServerID, term uint64) (*peer, error) {
	g.out.Lock()
	defer g.out.Unlock()
	g.out.beginLocked(term)
	if term < g.out.from {
		return nil, errDeposed(term)
	}
	if g.out.peers == nil || term > g.out.term {
		g.out.term, g.out.peers = term, make(map[raft.ServerID]*peer)
	}
	p := g.out.peers[id]
	if p == nil {
		p = &peer{stop: make(chan struct{}), progress: Progress{Term: term, Moved: time.Now()}}
		g.out.peers[id] = p
	}
	return p, nil
}

func (p *peer) dismiss(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = why
	close(p.stop)
}

// ready answers what ends a call that starts now, and what it must wait for first.
func (p *peer) ready() (stop, revived <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stop, p.revived, p.gone
}

// admit holds an append back while the follower is not known to be back, and
// answers what ends the call that follows. What is held back is unburdened first.
func (g *Group) admit(p *peer, unburden func()) (stop <-chan struct{}, err error) {
	p.mu.Lock()
	p.progress.Asked, p.progress.Waiting = time.Now(), true
	p.mu.Unlock()
	for {
		stop, revived, err := p.ready()
		if err != nil || revived == nil {
			return stop, err
		}
		unburden()
		select {
		case <-revived:
		case <-stop:
			if _, _, err := p.ready(); err != nil {
				return nil, err
			}
			return nil, errInterrupted()
		case <-g.closed:
			return nil, errGroupClosed(g.id)
		}
	}
}

// failed notes that an append had no answer: the follower is waited for from now on.
func (p *peer) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Waiting = false
	p.progress.Failures++
	if p.revived == nil {
		p.revived = make(chan struct{})
	}
}

func (p *peer) full(declined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.NoSpace = declined
}

func (p *peer) snapshot(under bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Snapshot = under
}

// answered notes an answer of the given term to an append that, if the follower
// accepted it, showed acked and committed to be the leader's.
func (p *peer) answered(term uint64, accepted bool, acked, committed uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Waiting = false
	p.contactLocked(term)
	if accepted && (acked > p.progress.Acked || committed > p.progress.Committed) {
		p.progress.Acked = max(p.progress.Acked, acked)
		p.progress.Committed = max(p.progress.Committed, committed)
		p.progress.Moved = time.Now()
	}
}

// alive notes an answered heartbeat. What the answer says does not matter to the
// append that waits: the replica's main loop runs.
func (p *peer) alive(resp *raft.AppendEntriesResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contactLocked(resp.Term)
	if p.revived != nil {
		close(p.revived)
		p.revived = nil
	}
}

func (p *peer) contactLocked(term uint64) {
	if term == p.progress.Term {
		p.progress.Contact = time.Now()
	}
}

// lost forgets the contact with a follower that just did not answer.
func (g *Group) lost(id raft.ServerID) {
	g.out.Lock()
	p := g.out.peers[id]
	g.out.Unlock()
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.progress.Contact = time.Time{}
	}
}

func errDeposed(term uint64) error {
	return kverr.New(kverr.NotLeader, "the leadership of term %d is over", term)
}

func errRemoved(id raft.ServerID) error {
	return kverr.New(kverr.Closed, "replica %s is no member any more", id)
}

func errInterrupted() error {
	return kverr.New(kverr.Unavailable, "the call was ended to begin afresh")
}
