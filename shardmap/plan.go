package shardmap

import (
	"cmp"
	"slices"
)

// plan is a placement in the making. Nodes and zones are indices. Every arc's
// set of nodes is at all times one that can be completed within the zone quota;
// the steps only differ in what they add and move.
type plan struct {
	nodes  []Weighted // by id
	zoneOf []int      // by node
	quota  quota
	loads  loads
	ring   ring

	arcs []arcPlan
	load []int  // replicas by node
	new  []bool // nodes that keep nothing, mostly because they held nothing
}

type arcPlan struct {
	arc    Arc
	order  []int  // nodes, preferred leader first
	held   []bool // by node: is in order
	was    []bool // by node: was there before the plan
	inZone []int  // replicas by zone
	need   int    // replicas, counting those still to come under the zones' lower bounds
}

// nowhere stands for the node of a replica that has none yet.
const nowhere = -1

func newPlan(prev []Placement, spec PlaceSpec) *plan {
	p := &plan{
		nodes: spec.Nodes,
		ring:  newRing(spec.Nodes, spec.Points),
		load:  make([]int, len(spec.Nodes)),
		new:   make([]bool, len(spec.Nodes)),
	}
	var zoneSizes []int
	zones := make(map[string]int)
	for _, n := range p.nodes {
		z, known := zones[n.Zone]
		if !known {
			z = len(zoneSizes)
			zones[n.Zone] = z
			zoneSizes = append(zoneSizes, 0)
		}
		p.zoneOf = append(p.zoneOf, z)
		zoneSizes[z]++
	}
	p.quota = newQuota(spec.ReplicationFactor, zoneSizes)
	p.loads = newLoads(len(prev), p.quota, p.zoneOf, p.nodes, spec.LoadFactor)
	need := 0
	for _, lo := range p.quota.lo {
		need += lo
	}
	for _, a := range prev {
		p.arcs = append(p.arcs, arcPlan{
			arc: a.Arc, held: make([]bool, len(p.nodes)), was: make([]bool, len(p.nodes)),
			inZone: make([]int, len(zoneSizes)), need: need,
		})
	}
	return p
}

// fits reports whether an arc may get a replica on a node (its load apart).
func (p *plan) fits(arc, node int) bool { return p.swaps(arc, nowhere, node) }

// swaps reports whether an arc's replica on one node may move to another.
func (p *plan) swaps(arc, from, to int) bool {
	a := &p.arcs[arc]
	if a.held[to] {
		return false
	}
	need, z := a.need, p.zoneOf[to]
	if from != nowhere {
		y := p.zoneOf[from]
		if y == z {
			return true
		}
		if a.inZone[y] > p.quota.lo[y] {
			need--
		}
	}
	return a.inZone[z] < p.quota.lo[z] || a.inZone[z] < p.quota.hi[z] && need < p.quota.replicas
}

func (p *plan) add(arc, node int) {
	a, z := &p.arcs[arc], p.zoneOf[node]
	if a.inZone[z] >= p.quota.lo[z] {
		a.need++
	}
	a.inZone[z]++
	a.held[node] = true
	a.order = append(a.order, node)
	p.load[node]++
}

func (p *plan) remove(arc, node int) {
	a, z := &p.arcs[arc], p.zoneOf[node]
	a.inZone[z]--
	if a.inZone[z] >= p.quota.lo[z] {
		a.need--
	}
	a.held[node] = false
	at := slices.Index(a.order, node)
	a.order = slices.Delete(a.order, at, at+1)
	p.load[node]--
}

// move puts the new replica in the old one's place in the order, so that a node
// that takes its share of replicas takes its share of first places with them.
func (p *plan) move(arc, from, to int) {
	if from == nowhere {
		p.add(arc, to)
		return
	}
	order := p.arcs[arc].order
	at := slices.Index(order, from)
	order = slices.Insert(slices.Delete(slices.Clone(order), at, at+1), at, to)
	p.remove(arc, from)
	p.add(arc, to)
	p.arcs[arc].order = order
}

// missing is the number of replicas that an arc still lacks.
func (p *plan) missing(arc int) int { return p.quota.replicas - len(p.arcs[arc].order) }

// surplus is by how much a node's load exceeds its share.
func (p *plan) surplus(node int) float64 { return float64(p.load[node]) - p.loads.share[node] }

func (p *plan) placements() []Placement {
	out := make([]Placement, len(p.arcs))
	for i, a := range p.arcs {
		out[i].Arc = a.arc
		for _, n := range a.order {
			out[i].Nodes = append(out[i].Nodes, p.nodes[n].ID)
		}
	}
	return out
}

// index returns the index of a node by its id.
func (p *plan) index(id NodeID) (int, bool) {
	return slices.BinarySearchFunc(p.nodes, id, func(n Weighted, id NodeID) int { return cmp.Compare(n.ID, id) })
}

// check tests the promises of a finished plan.
func (p *plan) check() error {
	for i, a := range p.arcs {
		if p.missing(i) != 0 {
			return violation("PL1", "arc %v has %d replicas, not %d", a.arc, len(a.order), p.quota.replicas)
		}
		for z, n := range a.inZone {
			if n < p.quota.lo[z] || n > p.quota.hi[z] {
				return violation("PL2", "arc %v has %d replicas in one zone, not %d to %d", a.arc, n, p.quota.lo[z], p.quota.hi[z])
			}
		}
	}
	for n, load := range p.load {
		if load > p.loads.cap[n] {
			return violation("PL3", "node %s holds %d replicas, above its cap %d", p.nodes[n].ID.Short(), load, p.loads.cap[n])
		}
	}
	return nil
}
