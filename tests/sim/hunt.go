package sim

import (
	"time"

	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// huntEvery is how often a hunter looks whether its moment has come.
	huntEvery = 20 * time.Millisecond
	// pesterEvery is the pause between the reads of one that pesters.
	pesterEvery = 5 * time.Millisecond
	// hunters is where the ids of hunting probes begin.
	hunters = 100
)

// hunt runs a probe that waits for the moment that a fault is meant to bring
// about, and reads then: by luck the moment is seldom met.
func (s *scenario) hunt(step Step, do func(p *probe, until time.Duration)) {
	s.hunts++
	p, until := s.newProbe(hunters+s.hunts, false), min(step.At+step.For, s.plan.Length)
	s.strands.Go(func() { do(p, until) })
}

// huntLagging asks a node whenever it leads a shard of which it has not applied
// what another replica has.
func (p *probe) huntLagging(node int, until time.Duration) {
	keys := make(map[shardmap.ShardID]string)
	for ; time.Since(p.work.start) < until; time.Sleep(huntEvery) {
		n := p.cluster.Servers[node].Running()
		if n == nil {
			continue
		}
		for _, g := range n.Store().Groups() {
			if g.Shard() == shardmap.SystemShard || !p.standing(g).lagging() {
				continue
			}
			if keys[g.Shard()] == "" {
				keys[g.Shard()] = p.work.keyIn(g.Shard())
			}
			p.get(g, keys[g.Shard()])
		}
	}
}

// huntDeposed asks a leader that has been deposed and believes otherwise for a
// key, each time after the later leader has acknowledged a write of it.
func (p *probe) huntDeposed(l lead, until time.Duration) {
	key := p.work.keyIn(l.group.Shard())
	for ; time.Since(p.work.start) < until && l.believed(); time.Sleep(huntEvery) {
		later := p.laterLeader(l)
		if later == nil || p.putOnce(later, key, p.work.freshValue()) != Done {
			continue
		}
		time.Sleep(time.Nanosecond) // the read begins later, by the judge's clock too
		if l.believed() {
			p.asked.deposed.Add(1)
			p.get(l.group, key)
		}
	}
}

// pester has a leader confirm one read after another, so that a round is always
// open: also the one whose voters answer just before they elect another, and that
// is good for no reader who comes later (R3).
func (p *probe) pester(l lead, until time.Duration) {
	key := p.work.keyIn(l.group.Shard())
	for ; time.Since(p.work.start) < until && l.believed(); time.Sleep(pesterEvery) {
		p.get(l.group, key)
	}
}

// laterLeader is the replica that serves the shard in a later term, if one does.
func (p *probe) laterLeader(l lead) *raftstore.Group {
	for _, g := range replicas(p.cluster, l.group.Shard()) {
		if st := g.Status(); st.Ready && st.Term > l.term {
			return g
		}
	}
	return nil
}
