package client

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/ringfort/ringfort/shardmap"
)

// route is where one shard's keys go: the newest record known and who is
// thought to lead. The record and conns are immutable.
type route struct {
	record shardmap.Record
	conns  []*conn // of the voters, in the record's order; only nodes that the map names
	leader atomic.Pointer[leadership]
	recent atomic.Pointer[conn] // who served last
}

// leadership is a leader hint resolved to a connection; immutable. conn is nil
// when the node is not known yet, or has denied that it led in that term.
type leadership struct {
	term   uint64
	node   shardmap.NodeID
	denied bool
	conn   *conn
}

// newerRecord reports whether a says more than b about the same shard.
func newerRecord(a, b shardmap.Record) bool {
	return cmp.Or(cmp.Compare(a.ArcEpoch, b.ArcEpoch), cmp.Compare(a.MemberEpoch, b.MemberEpoch)) > 0
}

// lookup returns the route of a slot, nil when none is known.
func (t *topology) lookup(s shardmap.Slot) *route { return t.slots[s].Load() }

// knows reports whether there is a route for the slot.
func (t *topology) knows(s shardmap.Slot) bool { return t.lookup(s) != nil }

// pick chooses where the next attempt of a call goes and notes the route it
// follows: the leader as far as known, else who served last, else the replicas in
// turn, each unless it just refused this call or keeps silent; at worst any node,
// for its opinion. It returns nil when nothing can be reached.
func (t *topology) pick(c *call, now instant) *conn {
	r := t.lookup(c.slot)
	c.try.route, c.try.leader, c.try.shard, c.try.arcEpoch = r, nil, 0, 0
	if r == nil {
		return t.pickAny(c, now)
	}
	c.try.shard, c.try.arcEpoch = r.record.Shard, r.record.ArcEpoch
	if c.replicas != replicaLeader {
		if n := t.pickReplica(r, c, now); n != nil {
			return n
		}
	}
	c.try.leader = r.leader.Load()
	if l := c.try.leader; l != nil && l.conn != nil && l.conn != c.avoid && l.conn.usable(now) {
		return l.conn
	}
	if n := r.recent.Load(); n != nil && n != c.avoid && n.usable(now) {
		return n
	}
	if n := choose(r.conns, c, now); n != nil {
		return n
	}
	return t.pickAny(c, now)
}

// choose goes round the nodes from where the call stopped last. A call's first
// attempt goes to a node that is connected already, if there is one; later ones
// must not, or a replica that nobody is connected to would never be asked.
func choose(nodes []*conn, c *call, now instant) *conn {
	if c.attempts == 0 {
		for _, n := range nodes {
			if n.inPhase(phaseReady) && n.usable(now) && n != c.avoid {
				return n
			}
		}
	}
	var second *conn
	for range nodes {
		n := nodes[c.turn%len(nodes)]
		c.turn++
		switch {
		case !n.open():
		case n.usable(now) && n != c.avoid:
			return n
		case second == nil:
			second = n
		}
	}
	return second
}

// pickAny chooses a node for a call without a route: one that is connected,
// else one after the other.
func (t *topology) pickAny(c *call, now instant) *conn {
	all := *t.everyone.Load()
	for _, n := range all {
		if n.inPhase(phaseReady) && n.usable(now) && n != c.avoid {
			return n
		}
	}
	return choose(all, c, now)
}

// reach is where the slots from the beginning of an arc stop following a route.
func (t *topology) reach(r *route, arc shardmap.Arc) shardmap.Slot {
	to := arc.From + 1
	for to < arc.To && t.lookup(to) == r {
		to++
	}
	return to
}

// reachBack is where the slots that follow a route up to the end of an arc begin.
func (t *topology) reachBack(r *route, arc shardmap.Arc) shardmap.Slot {
	from := arc.To - 1
	for from > arc.From && t.lookup(from-1) == r {
		from--
	}
	return from
}

// replicas are the nodes that could serve a shard's watch.
func (r *route) replicas() []*conn {
	if r == nil {
		return nil
	}
	return r.conns
}

// candidates is the number of nodes that could serve the slot.
func (t *topology) candidates(s shardmap.Slot) int {
	if r := t.lookup(s); r != nil {
		return len(r.conns)
	}
	return len(*t.everyone.Load())
}

// exploreEach is how often a read that wants the nearest replica asks another
// one, whose pace may have changed: once in so many.
const exploreEach = 64

// pickReplica chooses the replica that a read prefers. It returns nil when the
// leader should be asked: when no other is usable, or when each had its chance.
func (t *topology) pickReplica(r *route, c *call, now instant) *conn {
	others := len(r.conns)
	if c.replicas == replicaFollower {
		others--
	}
	if c.attempts >= others && c.attempts > 0 {
		return nil // each had its chance
	}
	if c.turn == 0 {
		c.turn = int(t.turns.Add(1) % 1e9)
	}
	var leader *conn
	if c.replicas == replicaFollower {
		leader = r.recent.Load()
		if l := r.leader.Load(); l != nil && l.conn != nil {
			leader = l.conn
		}
	}
	var room [8]*conn
	fit := room[:0]
	for _, n := range r.conns {
		if n != leader && n != c.avoid && n.usable(now) {
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	best := fit[c.turn%len(fit)]
	if c.replicas == replicaNearest && c.turn%exploreEach != 0 {
		for _, n := range fit { // 0, for one that was never asked, is the fastest of all
			if n.pace.Load() < best.pace.Load() {
				best = n
			}
		}
	}
	c.turn++
	return best
}

// causes says why each node could not be reached.
func (t *topology) causes() []error {
	var causes []error
	for _, n := range *t.everyone.Load() {
		if cause := n.lastCause(); cause != nil {
			causes = append(causes, cause)
		}
	}
	return causes
}

// served notes who answered a call.
func (r *route) served(n *conn) {
	if r != nil && r.recent.Load() != n {
		r.recent.Store(n)
	}
}

// refused notes that the node does not lead. If it was asked because of a hint,
// the hint is void; only a higher term brings a new one.
func (r *route) refused(n *conn, followed *leadership) {
	if r == nil {
		return
	}
	r.recent.CompareAndSwap(n, nil)
	if followed != nil && followed.conn == n {
		r.leader.CompareAndSwap(followed, &leadership{term: followed.term, node: followed.node, denied: true})
	}
}

// installLocked makes r the route of its shard. REQUIRES: t.mu is held.
//
// A slot follows the record with the highest arc epoch that claims it: splits
// and merges raise it above that of every shard they take slots from.
func (t *topology) installLocked(r *route) {
	old := t.routes[r.record.Shard]
	t.routes[r.record.Shard] = r
	if old != nil {
		r.leader.Store(t.resolveLocked(old.leader.Load()))
		if n := old.recent.Load(); n != nil && slices.Contains(r.conns, n) {
			r.recent.Store(n)
		}
		for s := old.record.Arc.From; s < min(old.record.Arc.To, shardmap.Slots); s++ {
			if !r.record.Arc.Contains(s) {
				t.slots[s].CompareAndSwap(old, nil)
			}
		}
	}
	for s := r.record.Arc.From; s < min(r.record.Arc.To, shardmap.Slots); s++ {
		cur := t.slots[s].Load()
		if cur == nil || cur == old || cur.record.ArcEpoch <= r.record.ArcEpoch {
			t.slots[s].Store(r)
		}
	}
}

// routeLocked resolves a record's voters to connections.
func (t *topology) routeLocked(rec shardmap.Record) *route {
	r := &route{record: rec}
	for _, replica := range rec.Replicas {
		if n := t.nodes[replica.Node]; n != nil && replica.Role == shardmap.Voter {
			r.conns = append(r.conns, n)
		}
	}
	return r
}

// resolveLocked finds a hint's node again after the nodes may have changed.
func (t *topology) resolveLocked(l *leadership) *leadership {
	if l == nil || l.denied {
		return l
	}
	return &leadership{term: l.term, node: l.node, conn: t.nodes[l.node]}
}
