package shardmap

// step is how a chain of moves reaches a node: a replica of an arc goes there
// from another node.
type step struct{ arc, from int }

// shift takes one replica off a node, by the shortest chain of moves whose last
// one ends on a node that takes it: a replica goes from the node to a second one,
// another arc's replica from that to a third, and so on, so that only the first
// and the last load change. Only permitted moves are made. From nowhere means: a
// missing replica is placed. Without such a chain nothing changes and the answer
// is false.
//
// This is the augmenting path of matroid intersection: each arc's possible sets
// of nodes are the bases of a matroid (distinct nodes, bounds per zone), so a
// placement within all bounds is reached by such chains if there is one, provided
// that every move is permitted.
func (p *plan) shift(from int, takes func(node int) bool, permitted func(arc, from, to int) bool) bool {
	if !p.anyNode(takes) {
		return false
	}
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
				if takes(to) {
					return p.follow(reached, from, to)
				}
				queue = append(queue, to)
			}
		}
	}
	return false
}

// follow makes the moves of a chain, last one first, or none of them. Each is
// possible by itself; all of them together are too when the chain is a shortest
// one among all moves. Among permitted moves it may be longer, and then two moves
// of one arc can exclude each other.
func (p *plan) follow(reached []*step, from, to int) bool {
	for at := to; at != from; at = reached[at].from {
		s := reached[at]
		if !p.swaps(s.arc, s.from, at) {
			for back := to; back != at; back = reached[back].from {
				p.move(reached[back].arc, back, reached[back].from)
			}
			return false
		}
		p.move(s.arc, s.from, at)
	}
	return true
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
