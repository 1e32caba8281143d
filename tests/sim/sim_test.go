package sim

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/ringfort/ringfort/internal/failpoint"
	_ "github.com/ringfort/ringfort/internal/racebubble"
)

var (
	scenarios = flag.Int("sim.n", defaultScenarios, "random scenarios to run")
	firstSeed = flag.Uint64("sim.seed", 1, "seed of the first scenario; the others follow")
	repeat    = flag.Int("sim.repeat", 1, "runs of each seed: a seed fixes the plan, not the schedule")
	keep      = flag.String("sim.dir", filepath.Join(os.TempDir(), "ringfort-sim"), "where histories and logs of failures go")
)

// manyScenarios is from when on a run must have met every danger it is meant to;
// about every third plan meets each.
const manyScenarios = 50

func TestRandomScenarios(t *testing.T) {
	total := Report{Faults: make(map[Fault]int), Messages: make(map[string]int), Failpoints: make(map[failpoint.Name]int), CutAt: make(map[failpoint.Name]int)}
	for i := range *scenarios {
		seed := *firstSeed + uint64(i)
		for range *repeat {
			t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { total.add(runSeed(t, seed)) })
			})
		}
	}
	t.Logf("%d scenarios: %d operations, %d acknowledged (%d writes), %d unknown, %d not applied\n"+
		"replicas compared meanwhile %d, reads asked of deposed leaders %d, of lagging ones %d\nfaults %v\nmessages %v\nfailpoints %v\npower cut at %v\nmirrors %+v",
		*scenarios**repeat, total.Ops, total.Acknowledged, total.Writes, total.Unknown, total.NotApplied,
		total.Compared, total.AskedDeposed, total.AskedLagging, total.Faults, total.Messages, total.Failpoints, total.CutAt, total.Mirror)
	if *scenarios >= manyScenarios {
		for _, at := range failpoint.All() {
			if slices.Contains(busyPlaces, at) && total.CutAt[at] == 0 {
				t.Errorf("%d scenarios cut no power at %s: the traps are not set", *scenarios, at)
			}
			if total.Failpoints[at] == 0 && !onOrder(at) {
				t.Errorf("%d scenarios never came to %s", *scenarios, at)
			}
		}
	}
	if *scenarios >= manyScenarios && total.Compared < *scenarios {
		t.Errorf("%d scenarios compared %d replicas in the middle of the faults", *scenarios, total.Compared)
	}
	if *scenarios >= manyScenarios && (total.AskedDeposed == 0 || total.AskedLagging == 0) {
		t.Errorf("%d scenarios asked %d reads of deposed leaders and %d of lagging ones: "+
			"the plans no longer reach what the read path is guarded against", *scenarios, total.AskedDeposed, total.AskedLagging)
	}
}

func runSeed(t *testing.T, seed uint64) Report {
	return runPlan(t, newPlan(seed), fmt.Sprintf("-run TestRandomScenarios -sim.n 1 -sim.seed %d -sim.repeat 20", seed))
}

func runPlan(t *testing.T, plan Plan, again string) Report {
	t.Helper()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	report, ops, err := run(t, plan, logger)
	if err == nil {
		t.Logf("%+v", report)
		return report
	}
	path, saveErr := save(*keep, plan, ops)
	if saveErr == nil {
		saveErr = os.WriteFile(path+".log", log.Bytes(), 0o644)
	}
	t.Errorf("%v\n%s%+v\nhistory and log: %s (saving: %v)\nrepeat: go test ./tests/sim %s",
		err, plan, report, path, saveErr, again)
	return report
}

func TestAPlanIsFixedByItsSeed(t *testing.T) {
	for seed := range uint64(50) {
		if a, b := newPlan(seed).String(), newPlan(seed).String(); a != b {
			t.Fatalf("seed %d gives two plans:\n%s\n%s", seed, a, b)
		}
	}
}
