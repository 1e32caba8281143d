package raftstore

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/transport"
	"github.com/ringfort/ringfort/shardmap"
)

// round is one exchange with the voters. Its members are fixed at its begin.
type round struct {
	confirmer *confirmer
	members   []*roundMember
	finished  chan struct{} // closed when every member is released or given up

	mu struct {
		sync.Mutex
		waiting    int // messages without an answer yet
		unreleased int
		ended      bool
	}
}

// roundMember is one group's part in a round.
type roundMember struct {
	group  *Group
	reads  []*readCall
	clocks []chan<- clockAnswer
	ready  bool          // the replica may serve as the leader: the index covers all that was acknowledged
	began  time.Duration // on the clock of ages, before its readers were fixed
	term   uint64
	index  uint64
	electorate

	yes      int // guarded by round.mu
	wall     []uint64
	agreed   []uint64 // wall when the member was released
	elapsed  uint64   // the most of what voters know of the shard's time
	released bool
}

// electorate is the voters of one configuration as one of its members sees them.
type electorate struct {
	voters int     // in all
	self   bool    // this replica is one of them
	others []voter // the rest
}

// votersOf reads a configuration (R1): a leader that is no voter, since it has
// appended its own removal, still leads and must not count itself.
func votersOf(conf raft.Configuration, self raft.ServerID) (electorate, error) {
	var e electorate
	for _, srv := range conf.Servers {
		if srv.Suffrage != raft.Voter {
			continue
		}
		e.voters++
		if srv.ID == self {
			e.self = true
			continue
		}
		node, replica, err := transport.ParseServerID(string(srv.ID))
		if err != nil {
			return electorate{}, err
		}
		e.others = append(e.others, voter{node, replica})
	}
	return e, nil
}

type voter struct {
	node    shardmap.NodeID
	replica shardmap.ReplicaID
}

type question struct {
	member  *roundMember
	replica shardmap.ReplicaID
}

// fix notes what the member's readers wait for. R1: the voters are those of the
// latest configuration, and this replica counts only if it is one. R2: the
// index is Raft's commit index.
func (m *roundMember) fix() bool {
	g := m.group
	t := g.tenure.Load()
	if t == nil {
		return false
	}
	m.ready = t.ready.Load()
	if len(m.reads) > 0 && !m.ready {
		return false
	}
	m.term = t.term
	m.index = g.raft.CommitIndex()
	future := g.raft.GetConfiguration()
	if future.Error() != nil {
		return false
	}
	electorate, err := votersOf(future.Configuration(), g.self)
	if err != nil {
		g.store.opts.Logger.Error("cannot confirm reads", "shard", g.shard, "err", err)
		return false
	}
	m.electorate = electorate
	m.countSelf(g.store.opts.Clock.WallMicros())
	return m.voters > 0
}

func (m *roundMember) countSelf(wall uint64) {
	if m.self {
		m.yes = 1
		m.wall = append(m.wall, wall)
	}
}

func (m *roundMember) majority() bool { return m.yes > m.voters/2 }

// firstWave asks, for each member, just enough voters, the fastest first.
func (r *round) firstWave(order func(a, b shardmap.NodeID) int) map[shardmap.NodeID][]question {
	out := make(map[shardmap.NodeID][]question)
	for _, m := range r.members {
		slices.SortFunc(m.others, func(a, b voter) int { return order(a.node, b.node) })
		need := m.voters/2 + 1 - m.yes
		for _, v := range m.others[:max(0, min(need, len(m.others)))] {
			out[v.node] = append(out[v.node], question{m, v.replica})
		}
		m.others = m.others[max(0, min(need, len(m.others))):]
	}
	return out
}

// rest asks every voter that has not been asked, for members without a majority.
func (r *round) rest() map[shardmap.NodeID][]question {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[shardmap.NodeID][]question)
	for _, m := range r.members {
		if m.released {
			continue
		}
		for _, v := range m.others {
			out[v.node] = append(out[v.node], question{m, v.replica})
		}
		m.others = nil
	}
	return out
}

// answered counts one node's answer and releases the members that it decides.
func (r *round) answered(qs []question, a transport.Confirmation) {
	var decided, lost []*roundMember
	r.mu.Lock()
	if len(qs) > 0 {
		r.mu.waiting--
	}
	for i, q := range qs {
		if i < len(a.Same) && a.Same[i] {
			q.member.yes++
			q.member.wall = append(q.member.wall, a.WallMicros)
			if len(a.Times) > 0 && !q.member.released {
				q.member.elapsed = max(q.member.elapsed, a.Times[i])
			}
		}
	}
	unasked := false
	for _, m := range r.members {
		if !m.released && m.majority() {
			m.released = true
			m.agreed = slices.Clone(m.wall) // later answers still append to wall
			decided = append(decided, m)
			r.mu.unreleased--
		}
		unasked = unasked || (!m.released && len(m.others) > 0)
	}
	over := r.mu.unreleased == 0 || r.mu.waiting == 0 && !unasked
	end := over && !r.mu.ended
	if end {
		r.mu.ended = true
		for _, m := range r.members {
			if !m.released {
				m.released = true
				lost = append(lost, m)
			}
		}
	}
	r.mu.Unlock()

	for _, m := range decided {
		m.group.inRound.Store(false)
		m.release()
		r.confirmer.more(m.group)
	}
	for _, m := range lost {
		m.group.inRound.Store(false)
		r.confirmer.retry(m) // the sweeper brings it into the next round
	}
	if end {
		close(r.finished)
		r.confirmer.roundEnded()
	}
}

// release serves the member's readers if this replica still leads the term.
func (m *roundMember) release() {
	g := m.group
	if term, leads := g.leading(); !leads || term != m.term {
		refuseReads(g, m.reads, &kverr.Error{Kind: kverr.NotLeader, Shard: uint64(g.shard),
			Message: "leadership of the shard was lost while the read was confirmed"})
		return
	}
	for _, ch := range m.clocks {
		ch <- clockAnswer{clocks: m.agreed, voters: m.voters, elapsed: m.elapsed}
	}
	if m.ready {
		g.learn(m.began, m.index)
	}
	if len(m.reads) > 0 {
		g.store.counters.readsConfirmed.Add(uint64(len(m.reads)))
		g.release(m.index, g.tellIndexes(m.index, m.reads))
	}
}
