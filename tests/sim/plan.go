package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is a kind of trouble.
type Fault string

// The faults. Those that last end with Heal or Restart.
const (
	FaultCrash     Fault = "crash"      // power cut of some nodes, part of unsynced data may survive
	FaultCrashAll  Fault = "crash all"  // power cut of all nodes
	FaultStop      Fault = "stop"       // graceful stop of one node
	FaultHold      Fault = "hold"       // no byte to or from a node for a while, then all of them
	FaultSplit     Fault = "split"      // one node cut from the others, both ways; clients reach all
	FaultOneWay    Fault = "one-way"    // one link loses one direction
	FaultMessages  Fault = "messages"   // drop, delay, duplicate and reorder Raft's messages
	FaultDisk      Fault = "disk"       // every write of one node's disk fails, or the next of some kind
	FaultHang      Fault = "hang"       // one node's log syncs, or its state machines, hang
	FaultTransfer  Fault = "transfer"   // leaderships are handed around
	FaultClock     Fault = "clock"      // a node's wall clock jumps
	FaultClockDown Fault = "clock down" // a node's wall clock goes back while it is down, and stays so
	FaultLag       Fault = "lag"        // a node's state machines fall behind their logs
	FaultDepose    Fault = "depose"     // the sluggish node is given every leadership, then cut off
	FaultDeafen    Fault = "deafen"     // the same, but its confirm rounds get through
)

// FaultHangEnds counts the hangs that were long enough to end the node.
const FaultHangEnds Fault = "hang to the end"

var allFaults = []Fault{FaultCrash, FaultCrashAll, FaultStop, FaultHold, FaultSplit, FaultOneWay, FaultMessages,
	FaultDisk, FaultFull, FaultHang, FaultTransfer, FaultClock, FaultClockDown, FaultLag}

// Step is one fault: it strikes at At and, where it lasts, ends For later.
type Step struct {
	At     time.Duration
	Fault  Fault
	For    time.Duration
	Nodes  []int
	Amount int // percent of unsynced data kept, percent of messages, seconds of clock, ms of lag, or which hang
}

func (s Step) String() string {
	return fmt.Sprintf("%s %s %v for %s (%d)", s.At.Round(time.Millisecond), s.Fault, s.Nodes, s.For.Round(time.Millisecond), s.Amount)
}

// Plan is everything that a seed decides.
type Plan struct {
	Seed    uint64
	Nodes   int
	Shards  int
	Clients int
	// Sluggish is a node that takes long to notice that nobody follows it, or -1.
	Sluggish int
	Length   time.Duration
	Steps    []Step
	Storage  storagePlan
}

// newPlan draws a plan. Two plans of one seed are equal.
func newPlan(seed uint64) Plan {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	p := Plan{
		Seed: seed, Nodes: 3 + 2*rng.IntN(2)*rng.IntN(2), Shards: 1 + rng.IntN(3), Clients: 2 + rng.IntN(2),
		Sluggish: -1, Length: 12 * time.Second,
	}
	var depose []Step
	if rng.IntN(2) == 0 {
		// It seldom wins an election, so leading is arranged: a leader that does
		// not notice that others have elected another.
		p.Sluggish = rng.IntN(p.Nodes)
		p.Length += deposeLength
		depose = []Step{{
			At: between(rng, 200*time.Millisecond, 6*time.Second), Nodes: []int{p.Sluggish},
			Fault: []Fault{FaultDepose, FaultDeafen}[rng.IntN(2)], For: between(rng, 3*time.Second, deposeLength),
		}}
	}
	calm := rng.IntN(4) > 0
	// Two or three strands of trouble, each one fault after another, so that
	// faults of different strands overlap.
	for range 2 + rng.IntN(2) {
		for at := between(rng, 200*time.Millisecond, 2*time.Second); at < p.Length-2*time.Second; {
			s := drawStep(rng, p.Nodes)
			s.At = at
			p.Steps = append(p.Steps, s)
			at += s.For + between(rng, 300*time.Millisecond, 2*time.Second)
		}
	}
	p.Storage = newStoragePlan(seed, &p)
	p.Steps = append(p.Steps, p.Storage.Steps...)
	if calm {
		for _, d := range depose {
			p.Steps = slices.DeleteFunc(p.Steps, d.spoiledBy)
		}
	}
	p.Steps = append(p.Steps, depose...)
	if slices.ContainsFunc(p.Steps, Step.starves) {
		p.Length += breath // what such faults refuse or interrupt must not leave a run too quiet
	}
	slices.SortStableFunc(p.Steps, func(a, b Step) int { return int(a.At - b.At) })
	return p
}

const (
	// breath is the time without new faults at the end of plans with much that keeps
	// clients from writing.
	breath = 3 * time.Second
	// deposeLength is what a depose takes at most, and what its plans are longer by.
	deposeLength = 5 * time.Second
	// settleTime is how long before a depose other faults must have ended.
	settleTime = 1500 * time.Millisecond
)

// spoiledBy reports whether another step may keep a depose from its purpose: its
// node must be able to lead at first, and the others to elect a later leader.
func (s Step) spoiledBy(o Step) bool {
	harmless := o.Fault == FaultClock || o.Fault == FaultLag
	return !harmless && o.At < s.At+s.For && o.At+o.For+settleTime > s.At
}

// starves reports whether the step keeps clients from writing, or is one of a strand
// that ends nodes all the time.
func (s Step) starves() bool { return s.Fault == FaultFull || s.Fault == FaultFailpoint }

func drawStep(rng *rand.Rand, nodes int) Step {
	s := Step{Fault: allFaults[rng.IntN(len(allFaults))], For: between(rng, 200*time.Millisecond, 4*time.Second)}
	first := rng.IntN(nodes)
	s.Nodes = []int{first}
	switch s.Fault {
	case FaultCrash:
		if rng.IntN(3) == 0 { // a majority
			s.Nodes = rng.Perm(nodes)[:nodes/2+1]
		}
		s.Amount = []int{0, 50, 100}[rng.IntN(3)]
	case FaultCrashAll:
		s.Nodes = rng.Perm(nodes)
		s.Amount = []int{0, 50, 100}[rng.IntN(3)]
		s.For = between(rng, 50*time.Millisecond, time.Second)
	case FaultOneWay:
		s.Nodes = []int{first, (first + 1 + rng.IntN(nodes-1)) % nodes}
	case FaultMessages:
		s.Amount = 5 + rng.IntN(40)
	case FaultTransfer:
		s.For = 0
	case FaultHang:
		s.Amount = rng.IntN(2)
		s.For *= 2 // some for longer than diskExit
	case FaultClock:
		s.Amount = []int{-3600, -5, 5, 3600}[rng.IntN(4)]
	case FaultClockDown:
		s.Amount = []int{1, 30, 3600}[rng.IntN(3)]
	case FaultDisk:
		s.Amount = rng.IntN(diskBreaks)
	case FaultFull:
		drawFull(rng, &s, nodes)
	case FaultLag:
		s.Amount = 100 + rng.IntN(600)
	}
	return s
}

func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d nodes, %d shards, %d clients, sluggish %d, tiny logs %t, %s\n",
		p.Seed, p.Nodes, p.Shards, p.Clients, p.Sluggish, p.Storage.TinyLogs, p.Length)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	return b.String()
}
