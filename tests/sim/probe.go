package sim

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/nodetest"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// probe talks to replicas directly, past the client library, which would soon
// know better. It reads from whichever node would answer, a deposed leader too,
// and sends every write twice under one request id, to two nodes and with a pause
// between: what a network that repeats messages may do at any time.
type probe struct {
	work    *workload
	cluster *nodetest.Cluster
	id      int
	rng     *rand.Rand
	client  state.ClientID
	number  uint64
	writes  bool // or reads: a write to a deposed leader would keep it for seconds
	asked   *asked
}

// asked counts the reads that only a guard of the read path keeps from being
// stale. Without any of them a scenario proves nothing about that guard.
type asked struct {
	deposed atomic.Int64 // of a leader after a later one had acknowledged a write
	lagging atomic.Int64 // of a leader that had not applied what another replica had
}

func (s *scenario) newProbe(id int, writes bool) *probe {
	p := &probe{work: s.work, cluster: s.cluster, id: id, rng: rand.New(rand.NewPCG(s.plan.Seed, uint64(id))),
		writes: writes, asked: &s.asked}
	for i := range p.client {
		p.client[i] = byte(p.rng.Uint32())
	}
	return p
}

func (p *probe) run(stop <-chan struct{}) {
	for {
		think := time.NewTimer(between(p.rng, 2*time.Millisecond, 60*time.Millisecond))
		select {
		case <-stop:
			think.Stop()
			return
		case <-think.C:
		}
		slot, key, value := p.work.pick(p.rng)
		if !p.writes {
			if g := p.group(key); g != nil {
				p.get(g, key)
			}
			continue
		}
		if p.put(key, value) == Unknown {
			p.work.noteUnknown(slot, key)
		}
	}
}

// group is a replica of the key's shard on a random node, nil when it is down.
func (p *probe) group(key string) *raftstore.Group {
	n := p.cluster.Servers[p.rng.IntN(len(p.cluster.Servers))].Running()
	if n == nil {
		return nil
	}
	g, _ := n.Store().Group(p.work.shardOf(key))
	return g
}

// replicas is all running replicas of a shard.
func replicas(c *nodetest.Cluster, shard shardmap.ShardID) (groups []*raftstore.Group) {
	for _, srv := range c.Servers {
		if n := srv.Running(); n != nil {
			if g, here := n.Store().Group(shard); here {
				groups = append(groups, g)
			}
		}
	}
	return groups
}

// standing is how far a replica is, and the shard as a whole.
type standing struct {
	ready       bool
	version     uint64
	term        uint64
	ahead, last uint64 // the highest version applied, and term known, on any replica
}

func (p *probe) standing(g *raftstore.Group) standing {
	own := g.Status()
	s := standing{ready: own.Ready, version: own.Version, term: own.Term}
	for _, other := range replicas(p.cluster, g.Shard()) {
		st := other.Status()
		s.ahead, s.last = max(s.ahead, st.Version), max(s.last, st.Term)
	}
	return s
}

// lagging: it leads, and has not applied what another replica has.
func (s standing) lagging() bool { return s.ready && s.term == s.last && s.version < s.ahead }

// get reads the key from one replica. If another one is ahead, that is recorded
// first: the read may be served late or not at all, but not from behind.
func (p *probe) get(g *raftstore.Group, key string) {
	if s := p.standing(g); s.version < s.ahead {
		if s.lagging() {
			p.asked.lagging.Add(1)
		}
		now := time.Since(p.work.start)
		p.work.history.add(Op{Client: p.id, Kind: Seen, Shard: g.Shard(), Key: key, View: s.ahead, Call: now, Return: now, Outcome: Done})
		time.Sleep(time.Nanosecond) // the read begins later, by the judge's clock too
	}
	op := Op{Client: p.id, Kind: Get, Shard: g.Shard(), Key: key, Call: time.Since(p.work.start), Outcome: NotApplied}
	done := make(chan struct{})
	g.Get(&raftstore.Read{Keys: [][]byte{[]byte(key)}, Deadline: time.Now().Add(time.Second),
		Done: func(v []raftstore.Value, view uint64, err error) {
			if err == nil {
				op.Outcome, op.Value, op.Version, op.View = Done, string(v[0].Data), v[0].Version, view
			}
			close(done)
		}})
	<-done
	op.Return = time.Since(p.work.start)
	if op.Outcome == Done {
		p.work.history.add(op)
	}
}

// put sends one write twice.
func (p *probe) put(key, value string) Outcome {
	p.number++
	op := Op{Client: p.id, Kind: Put, Shard: p.work.shardOf(key), Key: key, Value: value, Call: time.Since(p.work.start)}
	first, version := p.propose(p.group(key), key, value)
	time.Sleep(between(p.rng, 0, 400*time.Millisecond))
	second, again := p.propose(p.group(key), key, value)
	op.Return = time.Since(p.work.start)
	op.Version = max(version, again) // they are equal unless one is 0
	switch {
	case first == Done || second == Done:
		op.Outcome = Done
	case first == Unknown || second == Unknown:
		op.Outcome = Unknown
	default:
		op.Outcome = NotApplied
	}
	p.work.history.add(op)
	return op.Outcome
}

// putOnce sends one write once, to one replica.
func (p *probe) putOnce(g *raftstore.Group, key, value string) Outcome {
	p.number++
	op := Op{Client: p.id, Kind: Put, Shard: g.Shard(), Key: key, Value: value, Call: time.Since(p.work.start)}
	op.Outcome, op.Version = p.propose(g, key, value)
	op.Return = time.Since(p.work.start)
	p.work.history.add(op)
	return op.Outcome
}

// propose sends a write under the probe's current number.
func (p *probe) propose(g *raftstore.Group, key, value string) (Outcome, uint64) {
	if g == nil {
		return NotApplied, 0
	}
	outcome, version := Unknown, uint64(0)
	done := make(chan struct{})
	g.Propose(&raftstore.Write{
		Ops: []state.Op{{Kind: state.OpPut, Key: []byte(key), Value: []byte(value), Request: state.RequestID{
			Client: p.client, Number: p.number, LowestOpen: p.number,
			NotAfter: uint64(time.Now().Add(5 * time.Minute).UnixMicro()),
		}}},
		Deadline: time.Now().Add(2 * time.Second),
		Done: func(r []state.Result, _ uint64, err error) {
			switch {
			case err == nil && r[0].Verdict == state.Applied:
				outcome, version = Done, r[0].Version
			case err == nil || !errors.Is(err, kverr.OutcomeUnknown):
				outcome = NotApplied
			}
			close(done)
		},
	})
	<-done
	return outcome, version
}
