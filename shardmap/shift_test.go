package shardmap

import (
	"reflect"
	"testing"
)

// Two moves of one arc, each possible alone, that together put two replicas into
// one zone: nothing must have changed.
func TestPL2_ImpossibleChainIsUndone(t *testing.T) {
	const u, w, x, v, y = 0, 1, 2, 3, 4
	nodes := make([]Weighted, 5)
	for i, zone := range []string{"a", "a", "b", "c", "c"} {
		nodes[i] = Weighted{Node{ID: nodeID(i), Zone: zone}, 1}
	}
	spec, err := PlaceSpec{ReplicationFactor: 2, Nodes: nodes}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	start := []Placement{
		{Arc: Arc{0, 8192}, Nodes: []NodeID{nodeID(u), nodeID(x)}},
		{Arc: Arc{8192, 16384}, Nodes: []NodeID{nodeID(v), nodeID(w)}},
	}
	p := newPlan(start, spec)
	p.keep(start)
	reached := make([]*step, len(nodes))
	reached[v] = &step{arc: 0, from: u}
	reached[x] = &step{arc: 1, from: v}
	reached[y] = &step{arc: 0, from: x}
	for to, s := range reached {
		if s != nil && !p.swaps(s.arc, s.from, to) {
			t.Fatalf("the move of arc %d from %d to %d is not possible alone", s.arc, s.from, to)
		}
	}
	if p.follow(reached, u, y) {
		t.Error("the chain was followed")
	}
	if got := p.placements(); !reflect.DeepEqual(got, start) {
		t.Errorf("left behind: %v", got)
	}
	if err := p.check(); err != nil {
		t.Error(err)
	}
}
