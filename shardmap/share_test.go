package shardmap

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Without zones and weights shares are arcs·replicas/nodes; whole numbers must
// come out whole.
func TestSharesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]Weighted, rapid.IntRange(1, 60).Draw(t, "nodes"))
		weight := rapid.SampledFrom([]float64{0.1, 1, 3, 100}).Draw(t, "weight")
		for i := range nodes {
			nodes[i].Weight = weight
		}
		arcs := rapid.IntRange(1, 2000).Draw(t, "arcs")
		replicas := rapid.IntRange(1, min(7, len(nodes))).Draw(t, "replicas")
		l := newLoads(arcs, newQuota(replicas, []int{len(nodes)}), make([]int, len(nodes)), nodes, 1.25)
		total, n := arcs*replicas, len(nodes)
		floor, ceil, limit := total/n, (total+n-1)/n, min(arcs, (5*total+4*n-1)/(4*n))
		for i := range nodes {
			if l.floor[i] != floor || l.ceil[i] != ceil || l.cap[i] != limit {
				t.Fatalf("share %v: floor %d, ceil %d, cap %d; want %d, %d, %d",
					l.share[i], l.floor[i], l.ceil[i], l.cap[i], floor, ceil, limit)
			}
		}
	})
}

// Shares respect every bound, sum up, and go by weight between nodes that no
// bound holds back.
func TestSharesRespectZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]Weighted, rapid.IntRange(1, 20).Draw(t, "nodes"))
		zoneOf := make([]int, len(nodes))
		zones := rapid.IntRange(1, min(5, len(nodes))).Draw(t, "zones")
		sizes := make([]int, zones)
		for i := range nodes {
			nodes[i].Weight = rapid.Float64Range(0.01, 100).Draw(t, "weight")
			zoneOf[i] = i // no zone is empty
			if i >= zones {
				zoneOf[i] = rapid.IntRange(0, zones-1).Draw(t, "zone")
			}
			sizes[zoneOf[i]]++
		}
		const arcs = 100
		q := newQuota(rapid.IntRange(1, len(nodes)).Draw(t, "replicas"), sizes)
		l := newLoads(arcs, q, zoneOf, nodes, 1.25)
		sum, perZone := 0.0, make([]float64, zones)
		for i, share := range l.share {
			sum += share
			perZone[zoneOf[i]] += share
			if share < 0 || share > arcs {
				t.Fatalf("node %d has share %v of %d arcs", i, share, arcs)
			}
			for j, other := range l.share {
				if zoneOf[i] == zoneOf[j] && share < arcs && other < arcs &&
					math.Abs(share/nodes[i].Weight-other/nodes[j].Weight) > 1e-6 {
					t.Fatalf("shares %v and %v for weights %v and %v in one zone", share, other, nodes[i].Weight, nodes[j].Weight)
				}
			}
		}
		if math.Abs(sum-float64(arcs*q.replicas)) > 1e-6 {
			t.Fatalf("shares sum to %v", sum)
		}
		for z, share := range perZone {
			if share < float64(arcs*q.lo[z])-1e-6 || share > float64(arcs*q.hi[z])+1e-6 {
				t.Fatalf("zone %d has share %v outside of its quota %d to %d", z, share, q.lo[z], q.hi[z])
			}
		}
	})
}

func TestQuota(t *testing.T) {
	for _, tc := range []struct {
		replicas int
		sizes    []int
		lo, hi   []int
	}{
		{3, []int{5}, []int{3}, []int{3}},
		{3, []int{5, 5}, []int{1, 1}, []int{2, 2}},
		{3, []int{1, 5}, []int{1, 2}, []int{1, 2}},
		{3, []int{1, 1, 1}, []int{1, 1, 1}, []int{1, 1, 1}},
		{3, []int{1, 1, 8}, []int{1, 1, 1}, []int{1, 1, 1}},
		{3, []int{2, 2, 2, 2}, []int{0, 0, 0, 0}, []int{1, 1, 1, 1}},
		{5, []int{1, 2, 9}, []int{1, 2, 2}, []int{1, 2, 2}},
		{5, []int{3, 3, 3}, []int{1, 1, 1}, []int{2, 2, 2}},
		{4, []int{1, 1, 9}, []int{1, 1, 2}, []int{1, 1, 2}},
		{1, []int{1}, []int{1}, []int{1}},
	} {
		q := newQuota(tc.replicas, tc.sizes)
		if !slices.Equal(q.lo, tc.lo) || !slices.Equal(q.hi, tc.hi) {
			t.Errorf("%d replicas over zones of %v: %v to %v, want %v to %v", tc.replicas, tc.sizes, q.lo, q.hi, tc.lo, tc.hi)
		}
	}
}
