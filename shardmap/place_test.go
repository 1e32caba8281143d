package shardmap

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the files in testdata")

// drawNodes returns n nodes of weight 1 in one zone, with random ids.
func drawNodes(t *rapid.T, n int) []Weighted {
	ids := rapid.SliceOfNDistinct(rapid.IntRange(1, 1<<30), n, n, rapid.ID).Draw(t, "ids")
	nodes := make([]Weighted, n)
	for i, id := range ids {
		nodes[i] = Weighted{Node: Node{ID: nodeID(id)}, Weight: 1}
	}
	return nodes
}

func mustPlace(t fataler, spec PlaceSpec) []Placement {
	t.Helper()
	ps, err := Place(spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	mustHold(t, ps, spec)
	return ps
}

func mustReplace(t fataler, prev []Placement, spec PlaceSpec) []Placement {
	t.Helper()
	ps, err := Replace(prev, spec)
	if err != nil {
		t.Fatalf("%v", err)
	}
	mustHold(t, ps, spec)
	if again, err := Replace(ps, spec); err != nil || moved(ps, again) != 0 {
		t.Fatalf("replacing again moves %d more, %v", moved(ps, again), err)
	}
	return ps
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// mustHold tests what every placement promises, by counting.
func mustHold(t fataler, ps []Placement, spec PlaceSpec) {
	t.Helper()
	zone, zones := map[NodeID]string{}, map[string]int{}
	uniform := true
	for _, n := range spec.Nodes {
		zone[n.ID] = n.Zone
		zones[n.Zone]++
		uniform = uniform && n.Weight == 1
	}
	even := evenSplit(spec.ReplicationFactor, slices.Collect(maps.Values(zones)))
	load := map[NodeID]int{}
	for _, p := range ps {
		seen, perZone := map[NodeID]bool{}, map[string]int{}
		for _, n := range p.Nodes {
			z, known := zone[n]
			if !known || seen[n] {
				t.Fatalf("arc %v: node %s is unknown or there twice: %v", p.Arc, n.Short(), p.Nodes)
			}
			seen[n] = true
			load[n]++
			perZone[z]++
		}
		if len(p.Nodes) != spec.ReplicationFactor {
			t.Fatalf("arc %v has %d replicas", p.Arc, len(p.Nodes))
		}
		if got := slices.Sorted(maps.Values(perZone)); !slices.Equal(got, even) {
			t.Fatalf("arc %v: replicas per zone %v, want %v", p.Arc, got, even)
		}
	}
	if !uniform || len(zones) > 1 {
		return // shares are not simply the mean; plan.check compares with the caps
	}
	mean := float64(len(ps)*spec.ReplicationFactor) / float64(len(spec.Nodes))
	for _, n := range spec.Nodes {
		if limit := int(math.Ceil(cmp.Or(spec.LoadFactor, 1.25) * mean)); load[n.ID] > limit {
			t.Fatalf("node %s holds %d, above the cap %d", n.ID.Short(), load[n.ID], limit)
		}
	}
}

// evenSplit deals replicas out to zones one by one; the twin of newQuota. It
// returns the replicas of the zones that got any, sorted.
func evenSplit(replicas int, sizes []int) []int {
	dealt := make([]int, len(sizes))
	for round := 1; replicas > 0; round++ {
		for z := range sizes {
			if replicas > 0 && dealt[z] < round && dealt[z] < sizes[z] {
				dealt[z]++
				replicas--
			}
		}
	}
	slices.Sort(dealt)
	return slices.DeleteFunc(dealt, func(n int) bool { return n == 0 })
}

func loadsOf(ps []Placement) (replicas, leaders map[NodeID]int) {
	replicas, leaders = map[NodeID]int{}, map[NodeID]int{}
	for _, p := range ps {
		leaders[p.Leader()]++
		for _, n := range p.Nodes {
			replicas[n]++
		}
	}
	return replicas, leaders
}

// spread is the largest less the smallest count over nodes.
func spread(count map[NodeID]int, nodes []Weighted) int {
	lo, hi := math.MaxInt, 0
	for _, n := range nodes {
		lo, hi = min(lo, count[n.ID]), max(hi, count[n.ID])
	}
	return hi - lo
}

// moved counts the replicas of next that prev had elsewhere.
func moved(prev, next []Placement) (n int) {
	for i := range next {
		for _, node := range next[i].Nodes {
			if !slices.Contains(prev[i].Nodes, node) {
				n++
			}
		}
	}
	return n
}

func TestPL3_PL5_PlaceBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, rapid.IntRange(1, 31).Draw(t, "nodes"))
		spec := PlaceSpec{
			Shards: rapid.IntRange(1, 512).Draw(t, "shards"), Nodes: nodes,
			ReplicationFactor: rapid.IntRange(1, min(5, len(nodes))).Draw(t, "factor"),
		}
		replicas, leaders := loadsOf(mustPlace(t, spec))
		if s := spread(replicas, nodes); s > 1 {
			t.Fatalf("loads differ by %d: %v", s, replicas)
		}
		if s := spread(leaders, nodes); s > 1 {
			t.Fatalf("first places differ by %d: %v", s, leaders)
		}
	})
}

// Every size that the promise is made for: one node joins N.
func TestPL4_AddingANodeMovesItsShare(t *testing.T) {
	worst := 0.0
	for _, shards := range []int{16, 17, 24, 33, 48, 64, 100, 128, 200, 256, 341, 512} {
		for n := 3; n <= 30; n++ {
			var nodes []Weighted
			for i := range n + 1 {
				nodes = append(nodes, Weighted{Node: Node{ID: nodeID(1000*shards + 37*i)}, Weight: 1})
			}
			spec := PlaceSpec{Shards: shards, ReplicationFactor: 3, Nodes: nodes[:n]}
			prev := mustPlace(t, spec)
			spec.Nodes = nodes
			worst = max(worst, addMovesItsShare(t, prev, spec, nodes[n].ID))
		}
	}
	t.Logf("at most %.2f of the new node's share moved", worst)
}

// addMovesItsShare replaces prev with one node more, of equal weight and zone,
// and returns the moves as a part of the new node's share.
func addMovesItsShare(t fataler, prev []Placement, spec PlaceSpec, added NodeID) float64 {
	t.Helper()
	next := mustReplace(t, prev, spec)
	share := float64(len(prev)*spec.ReplicationFactor) / float64(len(spec.Nodes))
	n := moved(prev, next)
	if float64(n) > 1.5*share || n < int(share) {
		t.Fatalf("%d nodes, %d shards: adding one moved %d replicas, its share is %.2f", len(spec.Nodes)-1, len(prev), n, share)
	}
	if replicas, _ := loadsOf(next); replicas[added] != n {
		t.Fatalf("%d moved, but only %d to the new node", n, replicas[added])
	}
	return float64(n) / share
}

// A long history of nodes that come and go keeps all promises at every step.
func TestPL4_WalkKeepsEveryPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := drawNodes(t, 31)
		n := rapid.IntRange(3, 30).Draw(t, "nodes")
		spec := PlaceSpec{Shards: rapid.IntRange(16, 512).Draw(t, "shards"), ReplicationFactor: 3, Nodes: pool[:n:n]}
		out := slices.Clone(pool[n:])
		ps := mustPlace(t, spec)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if add := rapid.Bool().Draw(t, "add"); (add || len(spec.Nodes) == 3) && len(out) > 0 {
				spec.Nodes = append(slices.Clip(spec.Nodes), out[0])
				addMovesItsShare(t, ps, spec, out[0].ID)
				out = out[1:]
			} else {
				i := rapid.IntRange(0, len(spec.Nodes)-1).Draw(t, "remove")
				gone := spec.Nodes[i]
				spec.Nodes = slices.Delete(slices.Clone(spec.Nodes), i, i+1)
				removeMovesOnlyItsArcs(t, ps, spec, gone.ID)
				out = append(out, gone)
			}
			ps = mustReplace(t, ps, spec)
			replicas, leaders := loadsOf(ps)
			// Removal moves nothing else, so it may leave loads one further apart.
			if s := spread(replicas, spec.Nodes); s > 2 {
				t.Fatalf("loads differ by %d: %v", s, replicas)
			}
			if s := spread(leaders, spec.Nodes); s > 1 {
				t.Fatalf("first places differ by %d: %v", s, leaders)
			}
		}
	})
}

func removeMovesOnlyItsArcs(t fataler, prev []Placement, spec PlaceSpec, gone NodeID) {
	t.Helper()
	next := mustReplace(t, prev, spec)
	for i := range prev {
		want := 0
		if slices.Contains(prev[i].Nodes, gone) {
			want = 1
		}
		if n := moved(prev[i:i+1], next[i:i+1]); n != want {
			t.Fatalf("arc %v: %d replicas moved, not %d, when a node went", prev[i].Arc, n, want)
		}
	}
}

func drawZones(t *rapid.T, nodes []Weighted) {
	zones := rapid.IntRange(1, 6).Draw(t, "zones")
	for i := range nodes {
		nodes[i].Zone = fmt.Sprintf("z%d", rapid.IntRange(1, zones).Draw(t, "zone"))
	}
}

// Zones of any size, weights of any kind, factors that change, several nodes at
// once: the placement stays sound, under its caps, and balanced first places
// follow where weights are equal.
func TestPL1_PL2_PL3_ReplaceAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := drawNodes(t, 16)
		var ps []Placement
		for step := range rapid.IntRange(1, 5).Draw(t, "steps") {
			nodes := rapid.Permutation(pool).Draw(t, "order")[:rapid.IntRange(1, len(pool)).Draw(t, "nodes")]
			nodes = slices.Clone(nodes)
			drawZones(t, nodes)
			weighted := rapid.Bool().Draw(t, "weighted")
			for i := range nodes {
				if weighted {
					nodes[i].Weight = rapid.SampledFrom([]float64{0.01, 0.3, 0.5, 1, 1.7, 4, 100}).Draw(t, "weight")
				}
			}
			spec := PlaceSpec{
				Nodes: nodes, ReplicationFactor: rapid.IntRange(1, min(5, len(nodes))).Draw(t, "factor"),
				LoadFactor: rapid.SampledFrom([]float64{0, 1, 1.1, 2}).Draw(t, "load factor"),
			}
			if step == 0 {
				spec.Shards = rapid.IntRange(1, 100).Draw(t, "shards")
				ps = mustPlace(t, spec)
				continue
			}
			ps = mustReplace(t, ps, spec)
		}
	})
}

// A node that joins an existing zone, or opens a new one, moves its fair share
// under the zone rule and no more.
func TestPL4_AddingANodeWithZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, rapid.IntRange(4, 20).Draw(t, "nodes"))
		drawZones(t, nodes)
		weighted := rapid.Bool().Draw(t, "weighted")
		if weighted {
			for i := range nodes {
				nodes[i].Weight = rapid.SampledFrom([]float64{0.3, 0.5, 1, 1.7, 4}).Draw(t, "weight")
			}
		}
		n := len(nodes) - 1
		spec := PlaceSpec{Shards: rapid.IntRange(16, 256).Draw(t, "shards"), ReplicationFactor: 3, Nodes: nodes[:n]}
		prev := mustPlace(t, spec)
		spec.Nodes = nodes
		next := mustReplace(t, prev, spec)
		resolved, err := spec.withDefaults()
		if err != nil {
			t.Fatalf("%v", err)
		}
		p := newPlan(prev, resolved)
		added, _ := p.index(nodes[n].ID)
		if got, share := moved(prev, next), p.loads.share[added]; float64(got) > 1.5*share && !weighted {
			t.Fatalf("%d moved for a share of %.2f", got, share)
		}
		before, _ := loadsOf(prev)
		after, _ := loadsOf(next)
		for i, n := range p.nodes {
			if b, a := before[n.ID], after[n.ID]; a < b && a < p.loads.floor[i] {
				t.Fatalf("node %s gave from %d down to %d, below its share of %.2f", n.ID.Short(), b, a, p.loads.share[i])
			}
		}
	})
}

func TestPL2_ZonesOpenUp(t *testing.T) {
	two := []Weighted{
		{Node{ID: nodeID(1), Zone: "a"}, 1}, {Node{ID: nodeID(2), Zone: "a"}, 1},
		{Node{ID: nodeID(3), Zone: "b"}, 1}, {Node{ID: nodeID(4), Zone: "b"}, 1},
	}
	spec := PlaceSpec{Shards: 60, ReplicationFactor: 3, Nodes: two}
	prev := mustPlace(t, spec)
	spec.Nodes = append(slices.Clip(two), Weighted{Node{ID: nodeID(5), Zone: "c"}, 1})
	next := mustReplace(t, prev, spec)
	if n := moved(prev, next); n != 60 {
		t.Errorf("a third zone moved %d replicas, want one of each of 60 shards", n)
	}
	replicas, leaders := loadsOf(next)
	if replicas[nodeID(5)] != 60 || spread(replicas, two) > 1 || spread(leaders, spec.Nodes) > 1 {
		t.Errorf("loads %v, first places %v", replicas, leaders)
	}
}

func TestPL5_WeightsDecideShares(t *testing.T) {
	nodes := []Weighted{{Node{ID: nodeID(1)}, 1}, {Node{ID: nodeID(2)}, 2}, {Node{ID: nodeID(3)}, 3}, {Node{ID: nodeID(4)}, 3}, {Node{ID: nodeID(5)}, 1}}
	replicas, leaders := loadsOf(mustPlace(t, PlaceSpec{Shards: 100, ReplicationFactor: 3, Nodes: nodes}))
	want := map[NodeID]int{nodeID(1): 30, nodeID(2): 60, nodeID(3): 90, nodeID(4): 90, nodeID(5): 30}
	if !reflect.DeepEqual(replicas, want) {
		t.Errorf("loads %v, want %v", replicas, want)
	}
	want = map[NodeID]int{nodeID(1): 10, nodeID(2): 20, nodeID(3): 30, nodeID(4): 30, nodeID(5): 10}
	if !reflect.DeepEqual(leaders, want) {
		t.Errorf("first places %v, want %v", leaders, want)
	}
}

func TestPlaceIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, rapid.IntRange(3, 12).Draw(t, "nodes"))
		drawZones(t, nodes)
		spec := PlaceSpec{Shards: 32, ReplicationFactor: 3, Nodes: nodes}
		first := mustPlace(t, spec)
		spec.Nodes = rapid.Permutation(nodes).Draw(t, "order")
		if again := mustPlace(t, spec); !reflect.DeepEqual(first, again) {
			t.Fatalf("another order of nodes gives another placement")
		}
	})
}

// Leaders stay where they are when another node comes or goes, as far as an even
// spread lets them.
func TestPL5_LeadersStay(t *testing.T) {
	var nodes []Weighted
	for i := range 7 {
		nodes = append(nodes, Weighted{Node{ID: nodeID(i + 1)}, 1})
	}
	spec := PlaceSpec{Shards: 210, ReplicationFactor: 3, Nodes: nodes[:6]}
	prev := mustPlace(t, spec)
	spec.Nodes = nodes
	next := mustReplace(t, prev, spec)
	changed := 0
	for i := range prev {
		if prev[i].Leader() != next[i].Leader() {
			changed++
		}
	}
	// The new node has to lead 30 of 210.
	if changed > 45 {
		t.Errorf("%d of 210 preferred leaders changed", changed)
	}
}

// The file pins positions on the ring: a version that hashes differently would
// plan other places for the same cluster.
func TestPlaceTranscript(t *testing.T) {
	var out strings.Builder
	var nodes []Weighted
	for i := range 6 {
		nodes = append(nodes, Weighted{Node{ID: nodeID(i + 1), Name: fmt.Sprintf("n%d", i+1), Zone: fmt.Sprintf("z%d", i%3)}, 1})
	}
	names := map[NodeID]string{}
	for _, n := range nodes {
		names[n.ID] = n.Name
	}
	print := func(title string, ps []Placement) {
		fmt.Fprintf(&out, "%s\n", title)
		for _, p := range ps {
			fmt.Fprintf(&out, "  %-14v", p.Arc)
			for _, n := range p.Nodes {
				fmt.Fprintf(&out, " %s", names[n])
			}
			out.WriteByte('\n')
		}
	}
	spec := PlaceSpec{Shards: 12, ReplicationFactor: 3, Nodes: nodes[:4]}
	ps := mustPlace(t, spec)
	print("12 shards on n1/z0 n2/z1 n3/z2 n4/z0", ps)
	for _, n := range []int{5, 6} {
		spec.Nodes = nodes[:n]
		ps = mustReplace(t, ps, spec)
		print(fmt.Sprintf("n%d/%s joins", n, nodes[n-1].Zone), ps)
	}
	spec.Nodes = nodes[1:]
	print("n1 leaves", mustReplace(t, ps, spec))

	const file = "testdata/placement.txt"
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("%s differs (go test -rewrite, and read the diff); now:\n%s", file, out.String())
	}
}

func TestPlaceRefuses(t *testing.T) {
	good := func() PlaceSpec {
		return PlaceSpec{Shards: 4, ReplicationFactor: 1, Nodes: []Weighted{{Node{ID: nodeID(1)}, 1}, {Node{ID: nodeID(2)}, 1}}}
	}
	for _, tc := range []struct {
		spoil func(*PlaceSpec)
		names string
		few   bool
	}{
		{func(s *PlaceSpec) { s.Shards = 0 }, "0 shards", false},
		{func(s *PlaceSpec) { s.Shards = Slots + 1 }, "16385 shards", false},
		{func(s *PlaceSpec) { s.ReplicationFactor = 0 }, "replication factor 0", false},
		{func(s *PlaceSpec) { s.ReplicationFactor = 3 }, "3 replicas of each shard on 2 nodes", true},
		{func(s *PlaceSpec) { s.Nodes = nil }, "on 0 nodes", true},
		{func(s *PlaceSpec) { s.Nodes[1].ID = s.Nodes[0].ID }, "listed twice", false},
		{func(s *PlaceSpec) { s.Nodes[0].Weight = 0 }, "weight 0", false},
		{func(s *PlaceSpec) { s.Nodes[0].Weight = -1 }, "weight -1", false},
		{func(s *PlaceSpec) { s.Nodes[0].Weight = math.NaN() }, "weight NaN", false},
		{func(s *PlaceSpec) { s.Nodes[0].Weight = 101 }, "weight 101", false},
		{func(s *PlaceSpec) { s.Points = -1 }, "-1 points", false},
		{func(s *PlaceSpec) { s.Points = 5000 }, "5000 points", false},
		{func(s *PlaceSpec) { s.LoadFactor = 0.9 }, "load factor 0.9", false},
		{func(s *PlaceSpec) { s.LoadFactor = math.NaN() }, "load factor NaN", false},
		{func(s *PlaceSpec) { s.LoadFactor = math.Inf(1) }, "load factor +Inf", false},
	} {
		spec := good()
		tc.spoil(&spec)
		if _, err := Place(spec); err == nil || !strings.Contains(err.Error(), tc.names) || errors.Is(err, ErrTooFewNodes) != tc.few {
			t.Errorf("want a refusal that names %q, got %v", tc.names, err)
		}
	}
	if _, err := Replace([]Placement{{Arc: Arc{5, 5}}}, good()); err == nil {
		t.Error("an empty arc is placed")
	}
}

func TestArcs(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 16, 100, 511, Slots} {
		arcs := Arcs(n)
		at, shortest, longest := Slot(0), Slots, 0
		for _, a := range arcs {
			if a.From != at || !a.Valid() {
				t.Fatalf("%d arcs: %v does not start at %d", n, a, at)
			}
			at, shortest, longest = a.To, min(shortest, a.Len()), max(longest, a.Len())
		}
		if at != Slots || len(arcs) != n || longest-shortest > 1 {
			t.Errorf("%d arcs end at %d, lengths %d to %d", len(arcs), at, shortest, longest)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	var nodes []Weighted
	for i := range 30 {
		nodes = append(nodes, Weighted{Node{ID: nodeID(i), Zone: fmt.Sprint(i % 5)}, 1})
	}
	for b.Loop() {
		mustPlace(b, PlaceSpec{Shards: 512, ReplicationFactor: 3, Nodes: nodes})
	}
}
