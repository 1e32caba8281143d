package sim

import (
	"errors"
	"math/rand/v2"
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
}

func newProbe(w *workload, c *nodetest.Cluster, id int, rng *rand.Rand, writes bool) *probe {
	p := &probe{work: w, cluster: c, id: id, rng: rng, writes: writes}
	for i := range p.client {
		p.client[i] = byte(rng.Uint32())
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
			p.get(key)
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
	rec, ok := n.Map().Lookup(shardmap.SlotOf([]byte(key)))
	if !ok {
		return nil
	}
	g, _ := n.Store().Group(rec.Shard)
	return g
}

func (p *probe) get(key string) {
	g := p.group(key)
	if g == nil {
		return
	}
	op := Op{Client: p.id, Kind: Get, Key: key, Call: time.Since(p.work.start), Outcome: NotApplied}
	done := make(chan struct{})
	g.Get(&raftstore.Read{Keys: [][]byte{[]byte(key)}, Deadline: time.Now().Add(time.Second),
		Done: func(v []raftstore.Value, _ uint64, err error) {
			if err == nil {
				op.Outcome, op.Value, op.Version = Done, string(v[0].Data), v[0].Version
			}
			close(done)
		}})
	<-done
	op.Return = time.Since(p.work.start)
	if op.Outcome == Done {
		p.work.history.add(op)
	}
}

func (p *probe) put(key, value string) Outcome {
	p.number++
	op := Op{Client: p.id, Kind: Put, Key: key, Value: value, Call: time.Since(p.work.start)}
	first, version := p.propose(key, value, p.number)
	time.Sleep(between(p.rng, 0, 400*time.Millisecond))
	second, again := p.propose(key, value, p.number)
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

func (p *probe) propose(key, value string, number uint64) (Outcome, uint64) {
	g := p.group(key)
	if g == nil {
		return NotApplied, 0
	}
	outcome, version := Unknown, uint64(0)
	done := make(chan struct{})
	g.Propose(&raftstore.Write{
		Ops: []state.Op{{Kind: state.OpPut, Key: []byte(key), Value: []byte(value), Request: state.RequestID{
			Client: p.client, Number: number, LowestOpen: number,
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
