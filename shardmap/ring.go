package shardmap

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"sort"
)

// ring is the circle of 64-bit positions on which each node has points. Slot s
// stands at s·2⁵⁰, so that the slots spread over the whole circle.
type ring struct {
	points []point // by position
	nodes  int
}

type point struct {
	at   uint64
	node int
}

// newRing puts round(perWeight·weight) points of each node on the circle, at
// least one. Positions depend on node id and point number alone, so that nodes
// do not disturb each other's; they must never change between versions.
func newRing(nodes []Weighted, perWeight int) ring {
	r := ring{nodes: len(nodes)}
	for i, n := range nodes {
		for number := range max(1, int(math.Round(float64(perWeight)*n.Weight))) {
			r.points = append(r.points, point{pointHash(n.ID, uint32(number)), i})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.node, b.node))
	})
	return r
}

// clockwise yields each node once, as it is met first on the way from a slot.
func (r ring) clockwise(from Slot) iter.Seq[int] {
	return func(yield func(int) bool) {
		position := uint64(from%Slots) << 50
		start := sort.Search(len(r.points), func(i int) bool { return r.points[i].at >= position })
		seen, left := make([]bool, r.nodes), r.nodes
		for i := 0; left > 0; i++ {
			node := r.points[(start+i)%len(r.points)].node
			if seen[node] {
				continue
			}
			seen[node] = true
			left--
			if !yield(node) {
				return
			}
		}
	}
}

// pointHash is FNV-1a of node id and number (little endian), finished as in
// MurmurHash3, because FNV alone leaves points of one node close together.
func pointHash(id NodeID, number uint32) uint64 {
	h := uint64(0xcbf29ce484222325)
	add := func(b byte) { h = (h ^ uint64(b)) * 0x100000001b3 }
	for i := range len(id) {
		add(id[i])
	}
	for shift := 0; shift < 32; shift += 8 {
		add(byte(number >> shift))
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
