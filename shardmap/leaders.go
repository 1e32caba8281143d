package shardmap

import "slices"

// spreadLeaders evens out first places over the nodes in proportion to weight
// (not to load: a node that holds more for its zone's sake need not lead more).
// It only reorders nodes within arcs, along shortest chains like those of shift,
// and so reaches the most even order there is.
func (p *plan) spreadLeaders() {
	first := make([]int, len(p.nodes))
	for _, a := range p.arcs {
		first[a.order[0]]++
	}
	// A place moves where it weighs less: the marginal terms of Σ first²/weight.
	better := func(from, to int) bool {
		const fuzz = 1e-9
		return float64(2*first[to]+1)/p.nodes[to].Weight < float64(2*first[from]-1)/p.nodes[from].Weight-fuzz
	}
	for again := true; again; {
		again = false
		for n := range p.nodes {
			for first[n] > 0 && p.passFirst(n, first, func(to int) bool { return better(n, to) }) {
				again = true
			}
		}
	}
}

// passFirst takes one first place off a node, to one that takes it.
func (p *plan) passFirst(from int, first []int, takes func(node int) bool) bool {
	if !p.anyNode(takes) {
		return false
	}
	reached := make([]*step, len(p.nodes))
	reached[from] = &step{}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for i, a := range p.arcs {
			if a.order[0] != at {
				continue
			}
			for _, to := range a.order[1:] {
				if reached[to] != nil {
					continue
				}
				reached[to] = &step{i, at}
				if !takes(to) {
					queue = append(queue, to)
					continue
				}
				for end := to; end != from; end = reached[end].from {
					order := p.arcs[reached[end].arc].order
					at := slices.Index(order, end)
					copy(order[1:at+1], order[:at]) // the others keep their order
					order[0] = end
				}
				first[from]--
				first[to]++
				return true
			}
		}
	}
	return false
}
