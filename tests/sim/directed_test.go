package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

const (
	directedSeeds = 3         // workloads that each directed plan runs under
	directedSeed  = 1_000_000 // the first: their histories are saved beside the random ones
)

// direct runs one plan under several workloads and hands out each report.
func direct(t *testing.T, plan func() Plan, judge func(*testing.T, Report)) {
	for seed := range uint64(directedSeeds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := plan()
				p.Seed = directedSeed + seed
				judge(t, runPlan(t, p, "-run '"+t.Name()+"' -count 20"))
			})
		})
	}
}

// A leader that was deposed and has not noticed is asked for what a later leader
// has acknowledged. Its own word is no majority, and others know a later term (R1,
// S4).
func TestADeposedLeaderServesNoReads(t *testing.T) {
	for _, fault := range []Fault{FaultDepose, FaultDeafen} {
		t.Run(string(fault), func(t *testing.T) {
			direct(t, func() Plan {
				return Plan{
					Nodes: 3, Shards: 2, Clients: 2, Sluggish: 0, Length: 6 * time.Second,
					Steps: []Step{{At: 500 * time.Millisecond, Fault: fault, Nodes: []int{0}, For: deposeLength}},
				}
			}, func(t *testing.T, r Report) {
				if r.AskedDeposed == 0 {
					t.Error("no deposed leader was asked while it took itself for the leader")
				}
			})
		})
	}
}

// Each node's state machines fall behind in turn. A leader among them must not
// answer from behind what was committed, which others have applied (R2).
func TestALaggingLeaderServesNothingOld(t *testing.T) {
	direct(t, func() Plan {
		p := Plan{Nodes: 3, Shards: 2, Clients: 2, Sluggish: -1, Length: 7 * time.Second}
		for i := range p.Nodes {
			p.Steps = append(p.Steps, Step{At: time.Duration(1+2*i) * time.Second, Fault: FaultLag, Nodes: []int{i},
				For: 1900 * time.Millisecond, Amount: 600})
		}
		return p
	}, func(t *testing.T, r Report) {
		if r.AskedLagging == 0 {
			t.Error("no leader was asked while it lagged behind another replica")
		}
	})
}
