package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

// gaps finds the longest time without a success, per bucket. Times are offsets
// from the start of the measurement.
type gaps struct {
	shards []shardmap.ShardID
	each   []gap
	all    gap
}

type gap struct {
	asked atomic.Bool // somebody wanted something of it

	mu      sync.Mutex
	last    time.Duration // of the latest success, or 0
	longest time.Duration
	from    time.Duration // where the longest gap began
}

func newGaps(shards []shardmap.ShardID) *gaps {
	return &gaps{shards: shards, each: make([]gap, len(shards))}
}

// asked notes that an operation is under way: a shard that nobody asked for
// has no gap.
func (g *gaps) asked(bucket uint16) {
	if flag := &g.each[bucket].asked; !flag.Load() {
		flag.Store(true)
	}
}

func (g *gaps) success(bucket uint16, at time.Duration) {
	g.each[bucket].success(at)
	g.all.success(at)
}

func (g *gap) success(at time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// Successes of several clients arrive a little out of order.
	if at <= g.last {
		return
	}
	if at-g.last > g.longest {
		g.longest, g.from = at-g.last, g.last
	}
	g.last = at
}

// Gap is a time without any success.
type Gap struct {
	Milliseconds float64 `json:"ms"`
	// AtSeconds is when it began, counted from the start of the measurement.
	AtSeconds float64 `json:"at_s"`
	// Shard is whose keys it concerns; 0 for all keys.
	Shard uint64 `json:"shard,omitempty"`
}

// finish closes the gaps that are open at the end of the measurement.
func (g *gaps) finish(end time.Duration) (worst, overall Gap) {
	for i := range g.each {
		if !g.each[i].asked.Load() {
			continue
		}
		g.each[i].success(end)
		if report := g.each[i].report(g.shards[i]); report.Milliseconds > worst.Milliseconds {
			worst = report
		}
	}
	g.all.success(end)
	return worst, g.all.report(0)
}

func (g *gap) report(shard shardmap.ShardID) Gap {
	return Gap{Milliseconds: millis(g.longest), AtSeconds: g.from.Seconds(), Shard: uint64(shard)}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
