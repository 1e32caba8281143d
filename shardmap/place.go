package shardmap

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Placement says which nodes hold an arc. The first one is the preferred leader.
type Placement struct {
	Arc   Arc
	Nodes []NodeID
}

// Leader is the node that should lead the arc's shard; empty when there is none.
func (p Placement) Leader() NodeID {
	if len(p.Nodes) == 0 {
		return ""
	}
	return p.Nodes[0]
}

// Weighted is a node that may hold replicas.
type Weighted struct {
	Node
	Weight float64 // its share of the load relative to other nodes; above 0, at most 100
}

// PlaceSpec is what a placement has to satisfy.
type PlaceSpec struct {
	Shards            int // arcs of equal length; Replace keeps the arcs there are
	ReplicationFactor int // replicas of each arc, all on different nodes
	Nodes             []Weighted
	// Points is the number of points on the ring of a node of weight 1; 0 means
	// 64. More points even out which nodes stand beside each other on the ring;
	// loads are even with any number.
	Points int
	// LoadFactor is by how much a node's load may exceed its fair share before
	// replicas move for that reason alone; at least 1, 0 means 1.25.
	LoadFactor float64
}

// ErrTooFewNodes is in the chain of the error for a replication factor above the
// number of nodes.
var ErrTooFewNodes = errors.New("too few nodes")

const (
	defaultPoints     = 64
	defaultLoadFactor = 1.25
	maxPoints         = 4096
	maxWeight         = 100
)

// Place spreads arcs of equal length over the nodes. It depends on its argument
// only, and not on the order of the nodes in it.
func Place(spec PlaceSpec) ([]Placement, error) {
	if spec.Shards < 1 || spec.Shards > Slots {
		return nil, fmt.Errorf("placement: %d shards: must be 1 to %d", spec.Shards, Slots)
	}
	arcs := make([]Placement, 0, spec.Shards)
	for _, arc := range Arcs(spec.Shards) {
		arcs = append(arcs, Placement{Arc: arc})
	}
	return Replace(arcs, spec)
}

// Replace returns the placement of prev's arcs over the nodes of the spec that
// keeps what is there and moves only what the difference implies:
//
//   - replicas on nodes that are gone;
//   - replicas too many, missing, or less spread over zones than is now possible;
//   - to each node that held nothing, its fair share, rounded down;
//   - from a node above its cap, what is above.
//
// The order of prev is kept. Where the old preferred leader still holds the arc,
// it stays that unless first places are uneven.
func Replace(prev []Placement, spec PlaceSpec) ([]Placement, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, p := range prev {
		if !p.Arc.Valid() {
			return nil, fmt.Errorf("placement: arc %v is empty or off the ring", p.Arc)
		}
	}
	plan := newPlan(prev, spec)
	plan.keep(prev)
	plan.fill()
	plan.shed()
	plan.level()
	plan.welcome()
	plan.spreadLeaders()
	if err := plan.check(); err != nil {
		return nil, err
	}
	return plan.placements(), nil
}

// Arcs cuts the slots that keys hash to into n runs whose lengths differ by at
// most one. n must be 1 to Slots.
func Arcs(n int) []Arc {
	arcs := make([]Arc, n)
	for i := range arcs {
		arcs[i] = Arc{From: Slot(i * Slots / n), To: Slot((i + 1) * Slots / n)}
	}
	return arcs
}

// withDefaults fills in zero fields, sorts the nodes by id and reports the first
// fault.
func (s PlaceSpec) withDefaults() (PlaceSpec, error) {
	s.Points = cmp.Or(s.Points, defaultPoints)
	s.LoadFactor = cmp.Or(s.LoadFactor, defaultLoadFactor)
	s.Nodes = slices.Clone(s.Nodes)
	slices.SortFunc(s.Nodes, func(a, b Weighted) int { return cmp.Compare(a.ID, b.ID) })
	switch {
	case s.Points < 1 || s.Points > maxPoints:
		return s, fmt.Errorf("placement: %d points: must be 1 to %d", s.Points, maxPoints)
	case !(s.LoadFactor >= 1) || math.IsInf(s.LoadFactor, 1): // NaN fails every comparison
		return s, fmt.Errorf("placement: load factor %v: must be a number of at least 1", s.LoadFactor)
	case s.ReplicationFactor < 1:
		return s, fmt.Errorf("placement: replication factor %d: must be at least 1", s.ReplicationFactor)
	case s.ReplicationFactor > len(s.Nodes):
		return s, fmt.Errorf("placement: %d replicas of each shard on %d nodes: %w",
			s.ReplicationFactor, len(s.Nodes), ErrTooFewNodes)
	}
	for i, n := range s.Nodes {
		if !(n.Weight > 0 && n.Weight <= maxWeight) {
			return s, fmt.Errorf("placement: node %s: weight %v: must be above 0, at most %d", n.ID.Short(), n.Weight, maxWeight)
		}
		if i > 0 && s.Nodes[i-1].ID == n.ID {
			return s, fmt.Errorf("placement: node %s is listed twice", n.ID.Short())
		}
	}
	return s, nil
}
