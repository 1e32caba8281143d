package sim

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
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

// Places that every node comes to all the time, and those on the way of a snapshot,
// which some node comes to in most plans with tiny logs. Births are over by then.
var (
	busyPlaces = []failpoint.Name{
		failpoint.FlushBegun, failpoint.FlushDone, failpoint.LogCut,
		failpoint.LogAppendBefore, failpoint.LogAppendAfter, failpoint.VoteAfter,
	}
	installPlaces = []failpoint.Name{
		failpoint.SnapshotOpened, failpoint.SnapshotFileSent, failpoint.SnapshotStaging, failpoint.SnapshotFileKept,
		failpoint.SnapshotStaged, failpoint.IngestMarked, failpoint.IngestFlushed, failpoint.IngestDone,
		failpoint.IngestLogged, failpoint.IngestCleaned,
	}
)

func newStoragePlan(seed uint64, p *Plan) storagePlan {
	rng := rand.New(rand.NewPCG(seed, 0xd15c))
	s := storagePlan{TinyLogs: rng.IntN(3) > 0}
	if !s.TinyLogs || rng.IntN(2) == 0 {
		return s
	}
	if rng.IntN(2) == 0 {
		for at := between(rng, time.Second, 3*time.Second); at < p.Length-2*time.Second; at += between(rng, 2*time.Second, 5*time.Second) {
			s.Steps = append(s.Steps, failpointStep(rng, p, at, between(rng, 500*time.Millisecond, 2*time.Second), busyPlaces))
		}
		return s
	}
	// Installs are rare, so there is a trap at one of their steps all the time.
	const window = 2500 * time.Millisecond
	for at := time.Second; at < p.Length-time.Second; at += window {
		s.Steps = append(s.Steps, failpointStep(rng, p, at, window-time.Millisecond, installPlaces))
	}
	return s
}

func failpointStep(rng *rand.Rand, p *Plan, at, length time.Duration, places []failpoint.Name) Step {
	return Step{At: at, Fault: FaultFailpoint, For: length, Nodes: rng.Perm(p.Nodes),
		Amount: slices.Index(failpoint.All(), places[rng.IntN(len(places))])}
}

// tune sets a node's store up as the plan wants it.
func (p storagePlan) tune(o *raftstore.Options, fail *failpoint.Set) {
	o.Failpoints = fail
	if p.TinyLogs {
		o.LogBytesPerShard, o.FlushBytes, o.MaxLogBytes = 2<<10, 4<<10, 256<<10
		o.FlushInterval = 300 * time.Millisecond
	}
}

// arm makes the first node that comes to the step's failpoint lose its power. At
// the step's end the trap is taken away and that node restarted.
func (s *scenario) arm(step Step) {
	at, keep := failpoint.All()[step.Amount], []int{0, 50, 100}[step.Amount%3]
	seed := s.plan.Seed ^ uint64(step.At)
	var sprung atomic.Bool
	for _, i := range step.Nodes {
		srv := s.cluster.Servers[i]
		if !srv.Up() {
			continue
		}
		s.fails[i].Hook(func(got failpoint.Name) {
			if got == at && sprung.CompareAndSwap(false, true) {
				srv.CutPowerNow(keep, rand.New(rand.NewPCG(seed, 1)))
			}
		})
	}
	s.after(step, func() error {
		if sprung.Load() {
			s.struck[FaultFailpoint]++
			s.cutAt[at]++
		}
		for _, i := range step.Nodes {
			s.fails[i].Hook(nil)
			if srv := s.cluster.Servers[i]; srv.PowerCut() {
				srv.Crash(keep, s.rng)
				if err := s.restart(i); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// onOrder tells the failpoints that only an order leads to, and nobody gives such
// orders here: removals and quarantines are crashed at in raftstore's own tests.
func onOrder(at failpoint.Name) bool {
	return strings.HasPrefix(string(at), "removal/") || strings.HasPrefix(string(at), "quarantine/")
}

// visits adds up how often the nodes came to each failpoint, and what was shipped.
func (s *scenario) visits(r *Report) {
	r.Failpoints = make(map[failpoint.Name]int)
	r.CutAt = s.cutAt
	for _, f := range s.fails {
		for name, n := range f.Hits() {
			r.Failpoints[name] += n
		}
	}
}
