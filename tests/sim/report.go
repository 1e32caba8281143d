package sim

import (
	"fmt"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/tests/mirror"
)

// Report is what a run really had.
type Report struct {
	Ops, Acknowledged, Unknown, NotApplied int
	Writes                                 int // acknowledged ones
	AskedDeposed, AskedLagging             int // reads that only a guard kept from being stale, see asked
	Compared                               int // replicas found equal to another in the middle of the faults
	Faults                                 map[Fault]int
	Messages                               map[string]int
	Failpoints                             map[failpoint.Name]int // how often they were come to
	CutAt                                  map[failpoint.Name]int // where they cut a node's power
	Mirror                                 mirror.Report
}

func (s *scenario) report(ops []Op) Report {
	r := Report{
		AskedDeposed: int(s.asked.deposed.Load()), AskedLagging: int(s.asked.lagging.Load()),
		Compared: s.comparer.pairs, Faults: s.struck, Messages: s.mischief.tally(), Mirror: s.mirrors.report,
	}
	s.visits(&r)
	for _, op := range ops {
		if op.Kind == Seen {
			continue
		}
		r.Ops++
		switch op.Outcome {
		case Done:
			r.Acknowledged++
			if op.Kind != Get {
				r.Writes++
			}
		case Unknown:
			r.Unknown++
		case NotApplied:
			r.NotApplied++
		}
	}
	return r
}

// What even the worst plan must get done in its 12 s.
const (
	minAcknowledged = 60
	minWrites       = 20
)

// loud is an error when the run was too quiet to prove anything.
func (r Report) loud() error {
	total := 0
	for _, n := range r.Faults {
		total += n
	}
	if r.Acknowledged < minAcknowledged || r.Writes < minWrites || total == 0 {
		return fmt.Errorf("a quiet run proves nothing: %d operations acknowledged, %d of them writes, faults %v",
			r.Acknowledged, r.Writes, r.Faults)
	}
	return nil
}

// add sums reports up.
func (r *Report) add(o Report) {
	r.Ops += o.Ops
	r.Acknowledged += o.Acknowledged
	r.Writes += o.Writes
	r.AskedDeposed += o.AskedDeposed
	r.AskedLagging += o.AskedLagging
	r.Compared += o.Compared
	r.Unknown += o.Unknown
	r.NotApplied += o.NotApplied
	r.Mirror.Add(o.Mirror)
	for k, v := range o.Faults {
		r.Faults[k] += v
	}
	for k, v := range o.Failpoints {
		r.Failpoints[k] += v
	}
	for k, v := range o.CutAt {
		r.CutAt[k] += v
	}
	for k, v := range o.Messages {
		r.Messages[k] += v
	}
}
