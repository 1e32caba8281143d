package shardmap

// shift takes one replica off a node, by the shortest chain of moves whose last
// one ends on a node that can take it: a replica goes from the node to a second
// one, another arc's replica from that to a third, and so on, so that only the
// first and the last load change. Only permitted moves are made. From
// nowhere means: a missing replica is placed. Without such a chain nothing changes
// and the answer is false.
//
// This is the augmenting path of matroid intersection: each arc's permitted sets
// of nodes are the bases of a matroid (distinct nodes, bounds per zone), so a
// placement within all bounds is reached by such chains if there is one. That a
// chain is shortest is what makes its moves compatible with each other.
func (p *plan) shift(from int, takes func(node int) bool, permitted func(arc, from, to int) bool) bool {
	if !p.anyNode(takes) {
		return false
	}
	type step struct{ arc, from int }
	reached := make([]*step, len(p.nodes))
	if from != nowhere {
		reached[from] = &step{}
	}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for arc := range p.arcs {
			if !p.has(arc, at) {
				continue
			}
			for to := range p.nodes {
				if reached[to] != nil || !p.swaps(arc, at, to) || !permitted(arc, at, to) {
					continue
				}
				reached[to] = &step{arc, at}
				if !takes(to) {
					queue = append(queue, to)
					continue
				}
				for end := to; end != from; {
					s := reached[end]
					p.move(s.arc, s.from, end)
					end = s.from
				}
				return true
			}
		}
	}
	return false
}

// has reports whether an arc has a replica on a node; on nowhere it has those
// that it lacks.
func (p *plan) has(arc, node int) bool {
	if node == nowhere {
		return p.missing(arc) > 0
	}
	return p.arcs[arc].held[node]
}

func (p *plan) anyNode(holds func(node int) bool) bool {
	for n := range p.nodes {
		if holds(n) {
			return true
		}
	}
	return false
}
