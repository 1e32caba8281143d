package sim

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/raftstore"
)

// FaultFailpoint cuts a node's power at the next place of some kind in its code
// that it comes to, wherever in a birth, flush, truncation or install that is.
const FaultFailpoint Fault = "failpoint"

// storagePlan is what a seed decides about disks. It is drawn from a source of its
// own, so that the rest of a seed's plan stays what it was.
type storagePlan struct {
	// TinyLogs makes logs so short that a follower that misses a second needs a
	// snapshot.
	TinyLogs bool
	Steps    []Step
}

func newStoragePlan(seed uint64, p *Plan) storagePlan {
	rng := rand.New(rand.NewPCG(seed, 0xd15c))
	s := storagePlan{TinyLogs: rng.IntN(3) > 0}
	if !s.TinyLogs || rng.IntN(2) == 0 {
		return s
	}
	for at := between(rng, time.Second, 3*time.Second); at < p.Length-2*time.Second; at += between(rng, 2*time.Second, 5*time.Second) {
		s.Steps = append(s.Steps, Step{
			At: at, Fault: FaultFailpoint, For: between(rng, 200*time.Millisecond, 2*time.Second),
			Nodes: []int{rng.IntN(p.Nodes)}, Amount: rng.IntN(len(failpoint.All())),
		})
	}
	return s
}

// tune sets a node's store up as the plan wants it.
func (p storagePlan) tune(o *raftstore.Options, fail *failpoint.Set) {
	o.Failpoints = fail
	if p.TinyLogs {
		o.LogBytesPerShard, o.FlushBytes, o.MaxLogBytes = 2<<10, 4<<10, 256<<10
		o.FlushInterval = 300 * time.Millisecond
	}
}

// arm makes a node lose its power when it next comes to the step's failpoint; at
// the step's end the trap is taken away, or the node restarted.
func (s *scenario) arm(step Step) bool {
	i := step.Nodes[0]
	srv := s.cluster.Servers[i]
	if !srv.Up() {
		return false
	}
	at, keep := failpoint.All()[step.Amount], []int{0, 50, 100}[step.Amount%3]
	seed := s.plan.Seed ^ uint64(step.At)
	trap := func(got failpoint.Name) {
		if got == at {
			srv.CutPowerNow(keep, rand.New(rand.NewPCG(seed, 1)))
		}
	}
	s.fails[i].Hook(trap)
	s.after(step, func() error {
		s.fails[i].Hook(nil)
		if !srv.PowerCut() {
			return nil
		}
		s.struck[FaultFailpoint]++
		srv.Crash(keep, s.rng)
		return s.restart(i)
	})
	return true
}

// onOrder tells the failpoints that only an order leads to, and nobody gives such
// orders here: removals and quarantines are crashed at in raftstore's own tests.
func onOrder(at failpoint.Name) bool {
	return strings.HasPrefix(string(at), "removal/") || strings.HasPrefix(string(at), "quarantine/")
}

// visits adds up how often the nodes came to each failpoint, and what was shipped.
func (s *scenario) visits(r *Report) {
	r.Failpoints = make(map[failpoint.Name]int)
	for _, f := range s.fails {
		for name, n := range f.Hits() {
			r.Failpoints[name] += n
		}
	}
}
