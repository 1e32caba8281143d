package raftstore

import (
	"cmp"
	"sync"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// secondWave is how long a round waits for the voters it asked first before
	// it asks all others too.
	secondWave = 2 * time.Millisecond
	// confirmTimeout ends a round; its readers go into the next one.
	confirmTimeout = 500 * time.Millisecond
	// maxOpenRounds bounds the rounds that wait for slow voters at a time. A group
	// is in one open round at most, so a shard without a quorum takes one place.
	maxOpenRounds = 64
)

// confirmer runs confirm rounds for all groups of a node: for every group with
// readers it notes (term, commit index), asks the voters' nodes in one message
// each "is your replica's term still this one?", and releases a group's readers
// when a majority of its voters said yes. A leader of a later term would have
// needed a vote from one of them, which raises the voter's term before the vote
// is sent; so no later leader had been elected when the round began, and the
// commit index noted then covers every write acknowledged before. No disk, no
// Raft main loop, no clock.
type confirmer struct {
	store  *Store
	kick   chan struct{} // capacity 1: a group has readers
	ended  chan struct{} // capacity 1: an open round ended
	closed chan struct{}
	done   sync.WaitGroup

	mu struct {
		sync.Mutex
		groups map[*Group]struct{}             // with readers for the next round
		clocks map[*Group][]chan<- clockAnswer // with clock rounds for the next one
		rtt    map[shardmap.NodeID]time.Duration
		open   int
	}
}

// clockAnswer is what a clock round found.
type clockAnswer struct {
	clocks  []uint64
	voters  int
	elapsed uint64 // the most that a voter knows of the shard's time
}

func newConfirmer(s *Store) *confirmer {
	c := &confirmer{store: s, kick: make(chan struct{}, 1), ended: make(chan struct{}, 1), closed: make(chan struct{})}
	c.mu.groups = make(map[*Group]struct{})
	c.mu.clocks = make(map[*Group][]chan<- clockAnswer)
	c.mu.rtt = make(map[shardmap.NodeID]time.Duration)
	c.done.Go(c.loop)
	return c
}

func (c *confirmer) close() {
	close(c.closed)
	c.done.Wait()
}

// enqueue has g's pending reads join the next round.
func (c *confirmer) enqueue(g *Group) {
	c.mu.Lock()
	c.mu.groups[g] = struct{}{}
	c.mu.Unlock()
	signal(c.kick)
}

// clockRound asks the voters for their clocks (T1) in the next round. It returns
// false when the tenure ends first.
func (g *Group) clockRound(t *tenure) (found clockAnswer, ok bool) {
	c := g.store.confirmer
	for {
		answer := make(chan clockAnswer, 1)
		c.mu.Lock()
		c.mu.clocks[g] = append(c.mu.clocks[g], answer)
		c.mu.Unlock()
		signal(c.kick)
		retry := time.NewTimer(confirmTimeout)
		select {
		case a := <-answer:
			retry.Stop()
			return a, true
		case <-retry.C: // the round found no majority; ask again
		case <-t.over:
			retry.Stop()
			return clockAnswer{}, false
		case <-g.closing:
			retry.Stop()
			return clockAnswer{}, false
		}
	}
}

// loop starts rounds. One round at a time gives the best batching; a round that
// meets a slow voter is left to finish beside the next.
func (c *confirmer) loop() {
	for {
		select {
		case <-c.closed:
			return
		case <-c.kick:
		}
		r := c.begin()
		if r == nil {
			continue
		}
		c.ask(r, r.firstWave(c.order()))
		wave := time.NewTimer(secondWave)
		select {
		case <-r.finished:
			wave.Stop()
		case <-c.closed:
			wave.Stop()
			return
		case <-wave.C:
			c.ask(r, r.rest())
			if !c.awaitPlace() {
				return
			}
		}
	}
}

func (c *confirmer) awaitPlace() bool {
	for {
		c.mu.Lock()
		open := c.mu.open
		c.mu.Unlock()
		if open < maxOpenRounds {
			return true
		}
		select {
		case <-c.ended:
		case <-c.closed:
			return false
		}
	}
}

// begin fixes the readers of a round (R3) and then notes each group's term,
// commit index and voters (R1, R2).
func (c *confirmer) begin() *round {
	c.mu.Lock()
	groups, clocks := c.mu.groups, c.mu.clocks
	c.mu.groups = make(map[*Group]struct{})
	c.mu.clocks = make(map[*Group][]chan<- clockAnswer)
	c.mu.Unlock()

	r := &round{confirmer: c, finished: make(chan struct{})}
	for g := range clocks {
		groups[g] = struct{}{}
	}
	for g := range groups {
		if g.inRound.Load() {
			c.postpone(g, clocks[g]) // more brings them when that round is decided
			continue
		}
		began := c.store.opts.Clock.Boot()
		m := &roundMember{group: g, began: began, reads: g.reads.takePending(), clocks: clocks[g]}
		if len(m.reads) == 0 && len(m.clocks) == 0 {
			continue
		}
		if !m.fix() {
			refuseReads(g, m.reads, g.unavailable())
			continue
		}
		g.inRound.Store(true)
		r.members = append(r.members, m)
	}
	if len(r.members) == 0 {
		return nil
	}
	r.mu.unreleased = len(r.members)
	c.mu.Lock()
	c.mu.open++
	c.mu.Unlock()
	c.store.counters.readRounds.Add(1)
	return r
}

func refuseReads(g *Group, calls []*readCall, err error) {
	for _, call := range calls {
		call.refuse(phaseWaiting, err)
	}
	g.reads.gone(calls...)
}

// order is the nodes by how fast they answered lately.
func (c *confirmer) order() func(a, b shardmap.NodeID) int {
	c.mu.Lock()
	rtt := make(map[shardmap.NodeID]time.Duration, len(c.mu.rtt))
	for n, d := range c.mu.rtt {
		rtt[n] = d
	}
	c.mu.Unlock()
	return func(a, b shardmap.NodeID) int {
		return cmp.Or(cmp.Compare(rtt[a], rtt[b]), cmp.Compare(a, b))
	}
}

func (c *confirmer) observe(node shardmap.NodeID, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.mu.rtt[node]
	if !known {
		old = took
	}
	c.mu.rtt[node] = old - old/8 + took/8
}

// ask sends each node its questions.
func (c *confirmer) ask(r *round, questions map[shardmap.NodeID][]question) {
	r.mu.Lock()
	r.mu.waiting += len(questions)
	r.mu.Unlock()
	for node, qs := range questions {
		wire := make([]*peerv1.TermQuestion, len(qs))
		for i, q := range qs {
			wire[i] = &peerv1.TermQuestion{
				Group: uint64(q.member.group.shard), Replica: uint64(q.replica), Term: q.member.term,
				WantTime: len(q.member.clocks) > 0,
			}
		}
		sent := time.Now()
		c.store.opts.Network.Confirm(node, wire, confirmTimeout, func(a transport.Confirmation, err error) {
			took := time.Since(sent)
			if err != nil {
				took = confirmTimeout // a silent voter goes to the end of the order
				a = transport.Confirmation{}
			}
			c.observe(node, took)
			r.answered(qs, a)
		})
	}
	r.answered(nil, transport.Confirmation{}) // groups with this replica as the only voter need no answer
}

// postpone keeps clock rounds of a group that is in an open round.
func (c *confirmer) postpone(g *Group, clocks []chan<- clockAnswer) {
	if len(clocks) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.clocks[g] = append(c.mu.clocks[g], clocks...)
}

// more has what came while its group was in a round join the next one.
func (c *confirmer) more(g *Group) {
	c.mu.Lock()
	clocks := len(c.mu.clocks[g])
	c.mu.Unlock()
	if clocks > 0 || g.reads.hasPending() {
		c.enqueue(g)
	}
}

// retry returns what a round could not settle to the next one. Its clock rounds
// ask again by themselves.
func (c *confirmer) retry(m *roundMember) {
	m.group.reads.requeue(m.reads)
}

func (c *confirmer) roundEnded() {
	c.mu.Lock()
	c.mu.open--
	c.mu.Unlock()
	signal(c.ended)
}
