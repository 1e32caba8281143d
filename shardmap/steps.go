package shardmap

import (
	"cmp"
	"slices"
)

// keep takes over what is there and may stay. What is too much (a lower
// replication factor, two replicas in a zone now that zones suffice) is left out;
// level may choose better which.
func (p *plan) keep(prev []Placement) {
	for arc, before := range prev {
		for _, id := range before.Nodes {
			n, known := p.index(id)
			if !known {
				continue
			}
			p.arcs[arc].was[n] = true
			if p.fits(arc, n) {
				p.add(arc, n)
			}
		}
	}
	for n, load := range p.load {
		p.new[n] = load == 0
	}
}

// fill gives each arc the replicas it lacks: clockwise from the arc, on the first
// nodes that are below their fair share, else on the first below their cap. Where
// those below it do not suit the arc, others make room.
//
// With the cap alone, as in the paper, loads would lie anywhere below it, and the
// smaller caps that come with a new node would evict more than its share.
func (p *plan) fill() {
	for arc := range p.arcs {
		for _, limit := range [][]int{p.loads.floor, p.loads.ceil, p.loads.cap} {
			p.fillBelow(arc, limit)
		}
	}
	for p.shift(nowhere, p.below(p.loads.cap), anything) {
	}
}

func (p *plan) fillBelow(arc int, limit []int) {
	for n := range p.ring.clockwise(p.arcs[arc].arc.From) {
		if p.missing(arc) == 0 {
			return
		}
		if p.load[n] < limit[n] && p.fits(arc, n) {
			p.add(arc, n)
		}
	}
}

// shed brings nodes above their cap down to it, preferably in favour of nodes
// that lack most.
func (p *plan) shed() {
	for n := range p.nodes {
		for p.load[n] > p.loads.cap[n] && (p.shift(n, p.below(p.loads.floor), anything) ||
			p.shift(n, p.below(p.loads.ceil), anything) || p.shift(n, p.below(p.loads.cap), anything)) {
		}
	}
}

// level evens loads out with moves that cost nothing: of replicas that this plan
// has placed anyway, and back to where one was.
func (p *plan) level() {
	for again := true; again; {
		again = false
		for n := range p.nodes {
			for p.load[n] > p.loads.ceil[n] && p.shift(n, p.below(p.loads.ceil), p.free) {
				again = true
			}
			for p.load[n] > p.loads.floor[n] && p.shift(n, p.below(p.loads.floor), p.free) {
				again = true
			}
		}
	}
}

// welcome brings new nodes up to the floor of their share. They take from the
// fullest node each time, and of what that holds the arc from which they are met
// first on the ring.
func (p *plan) welcome() {
	for n := range p.nodes {
		if !p.new[n] || p.load[n] >= p.loads.floor[n] {
			continue
		}
		near := p.arcsByDistance(n)
		for p.load[n] < p.loads.floor[n] && p.take(n, near) {
		}
	}
}

// take moves one replica to a node from the fullest node that can spare one.
func (p *plan) take(to int, near []int) bool {
	donors := make([]int, 0, len(p.nodes))
	for n := range p.nodes {
		if p.load[n] > p.loads.floor[n] {
			donors = append(donors, n)
		}
	}
	slices.SortStableFunc(donors, func(m, n int) int { return cmp.Compare(p.surplus(n), p.surplus(m)) })
	for _, from := range donors {
		for _, arc := range near {
			if p.arcs[arc].held[from] && p.swaps(arc, from, to) {
				p.move(arc, from, to)
				return true
			}
		}
	}
	return false
}

// arcsByDistance orders arcs by how many other nodes stand before this one.
func (p *plan) arcsByDistance(node int) []int {
	arcs, distance := make([]int, len(p.arcs)), make([]int, len(p.arcs))
	for i := range p.arcs {
		arcs[i] = i
		for n := range p.ring.clockwise(p.arcs[i].arc.From) {
			if n == node {
				break
			}
			distance[i]++
		}
	}
	slices.SortStableFunc(arcs, func(i, j int) int { return cmp.Compare(distance[i], distance[j]) })
	return arcs
}

func (p *plan) below(limit []int) func(node int) bool {
	return func(n int) bool { return p.load[n] < limit[n] }
}

func anything(arc, from, to int) bool { return true }

func (p *plan) free(arc, from, to int) bool { return !p.arcs[arc].was[from] || p.arcs[arc].was[to] }
