package raftstore

import (
	"sync"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

const (
	// indexTimeout is how long a leader tries to confirm an index for a peer,
	// flightTimeout how long the peer waits for it.
	indexTimeout  = 400 * time.Millisecond
	flightTimeout = 600 * time.Millisecond
	// indexGrace is how long the groups of a flight that are known wait for the
	// others, which may have no quorum (P8); those are asked for again.
	indexGrace = 5 * time.Millisecond
	// flightPatience is how long one flight keeps those that come after it waiting,
	// maxFlights how many may be in the air to one node.
	flightPatience = 20 * time.Millisecond
	maxFlights     = 16
)

// asker asks leaders on other nodes up to where the replicas here must have applied:
// what a linearizable read of a replica that does not lead needs to know. One
// message per pair of nodes is in the air at a time, for all groups and readers that
// wait; those that come meanwhile go with the next, so a message's readers were
// there before it left (R3).
type asker struct {
	store *Store

	mu struct {
		sync.Mutex
		nodes map[shardmap.NodeID]*pair
	}
}

// pair is what is asked of one node.
type pair struct {
	waiting map[*Group]struct{} // for the next flight
	inAir   int
	left    time.Time // when the last flight left
}

func newAsker(s *Store) *asker {
	a := &asker{store: s}
	a.mu.nodes = make(map[shardmap.NodeID]*pair)
	return a
}

// enqueue has g's questions go with the next flight to a node.
func (a *asker) enqueue(node shardmap.NodeID, g *Group) {
	a.mu.Lock()
	p := a.mu.nodes[node]
	if p == nil {
		p = &pair{waiting: make(map[*Group]struct{})}
		a.mu.nodes[node] = p
	}
	p.waiting[g] = struct{}{}
	free := p.inAir == 0
	a.mu.Unlock()
	if free {
		a.fly(node)
	}
}

// sweep lets flights leave beside one that takes long.
func (a *asker) sweep(now time.Time) {
	a.mu.Lock()
	var late []shardmap.NodeID
	for node, p := range a.mu.nodes {
		if len(p.waiting) > 0 && p.inAir < maxFlights && now.Sub(p.left) >= flightPatience {
			late = append(late, node)
		}
	}
	a.mu.Unlock()
	for _, node := range late {
		a.fly(node)
	}
}

// fly sends one flight with all that wait.
func (a *asker) fly(node shardmap.NodeID) {
	a.mu.Lock()
	p := a.mu.nodes[node]
	if len(p.waiting) == 0 {
		a.mu.Unlock()
		return
	}
	waiting := p.waiting
	p.waiting = make(map[*Group]struct{})
	p.inAir++
	p.left = time.Now()
	a.mu.Unlock()

	at := a.store.opts.Clock.Boot() // R4: before anything is asked
	var groups []uint64
	var members []*Group
	var calls [][]*readCall
	for g := range waiting {
		if c := g.reads.takeAsking(); len(c) > 0 { // R3: fixed before the message leaves
			groups, members, calls = append(groups, uint64(g.shard)), append(members, g), append(calls, c)
		}
	}
	if len(groups) == 0 {
		a.landed(node)
		return
	}
	a.store.counters.indexFlights.Add(1)
	a.store.opts.Network.ReadIndex(node, groups, flightTimeout, func(indexes []uint64, err error) {
		if err != nil {
			a.store.counters.indexFailures.Add(1)
			indexes = make([]uint64, len(groups))
		}
		for i, g := range members {
			if indexes[i] == 0 {
				g.reads.ask(calls[i]...) // the sweeper asks again, or knows better by then
				continue
			}
			g.learn(at, indexes[i])
			g.release(indexes[i], calls[i])
		}
		a.landed(node)
	})
}

func (a *asker) landed(node shardmap.NodeID) {
	a.mu.Lock()
	p := a.mu.nodes[node]
	p.inAir--
	more := len(p.waiting) > 0 && p.inAir < maxFlights
	a.mu.Unlock()
	if more {
		a.fly(node)
	}
}

// ask has a read go to the leader's node, and refuses it when none is known.
func (g *Group) ask(c *readCall) {
	h, known := g.Leader()
	if !known || h.Node == g.store.opts.Self {
		g.drop(c, g.unavailable())
		return
	}
	g.reads.ask(c)
	g.store.asker.enqueue(h.Node, g)
}

// askAgain brings on what was not answered: to the leader that is known now, which
// may be this replica.
func (g *Group) askAgain() {
	h, known := g.Leader()
	switch {
	case g.serves():
		for _, c := range g.reads.takeAsking() {
			g.confirm(c)
		}
	case known && h.Node != g.store.opts.Self:
		g.store.asker.enqueue(h.Node, g)
	case !known:
		for _, c := range g.reads.takeAsking() {
			g.drop(c, g.unavailable())
		}
	}
}

// indexAnswer collects the indexes for one peer's flight.
type indexAnswer struct {
	answer func([]uint64)

	mu struct {
		sync.Mutex
		indexes []uint64
		left    int
		done    bool
		grace   *time.Timer
	}
}

// answerIndexes answers a peer: for each group that this replica leads, the index of
// a confirm round that begins now. Groups without a quorum do not hold up the others.
func (s *Store) answerIndexes(groups []uint64, answer func([]uint64)) {
	a := &indexAnswer{answer: answer}
	a.mu.indexes = make([]uint64, len(groups))
	a.mu.left = len(groups)
	if len(groups) == 0 || s.dead.Load() {
		answer(a.mu.indexes)
		return
	}
	deadline := time.Now().Add(indexTimeout)
	for i, id := range groups {
		g, ok := s.Group(shardmap.ShardID(id))
		if !ok {
			a.decide(i, 0)
			continue
		}
		c := &readCall{Read: &Read{Deadline: deadline}, index: func(index uint64) { a.decide(i, index) }}
		c.Done = func(_ []Value, _ uint64, err error) { a.decide(i, 0) } // it is refused, or told its index
		g.read(c)
	}
}

func (a *indexAnswer) decide(i int, index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.done {
		return
	}
	a.mu.indexes[i] = index
	a.mu.left--
	switch {
	case a.mu.left == 0:
		a.finishLocked()
	case index > 0 && a.mu.grace == nil:
		a.mu.grace = time.AfterFunc(indexGrace, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.finishLocked()
		})
	}
}

func (a *indexAnswer) finishLocked() {
	if a.mu.done {
		return
	}
	a.mu.done = true
	if a.mu.grace != nil {
		a.mu.grace.Stop()
	}
	a.answer(append([]uint64(nil), a.mu.indexes...))
}

// tellIndexes answers the questions of peers among the reads of a round, and returns
// the others.
func (g *Group) tellIndexes(index uint64, calls []*readCall) []*readCall {
	rest := calls[:0]
	for _, c := range calls {
		if c.index == nil {
			rest = append(rest, c)
			continue
		}
		if c.move(phaseWaiting, phaseAnswered) {
			c.index(index)
		}
		g.reads.gone(c)
	}
	return rest
}
