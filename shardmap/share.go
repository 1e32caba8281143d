package shardmap

import "math"

// quota is how the replicas of one arc divide over the zones: as evenly as their
// sizes allow. With at least as many zones as replicas that is at most one in
// each; with two zones of several nodes and three replicas it is two and one.
type quota struct {
	replicas int
	lo, hi   []int // by zone
}

func newQuota(replicas int, zoneSizes []int) quota {
	q := quota{replicas: replicas, lo: make([]int, len(zoneSizes)), hi: make([]int, len(zoneSizes))}
	left := replicas
	for { // raise the common level while every zone that can follow does
		var rising []int
		for z, size := range zoneSizes {
			if q.lo[z] < size {
				rising = append(rising, z)
			}
		}
		if left == 0 || len(rising) > left {
			copy(q.hi, q.lo)
			if left > 0 {
				for _, z := range rising {
					q.hi[z]++
				}
			}
			return q
		}
		for _, z := range rising {
			q.lo[z]++
			left--
		}
	}
}

// loads are the bounds on the number of replicas that each node holds.
type loads struct {
	share []float64 // fair
	floor []int     // the share rounded down: what a new node takes
	ceil  []int     // the share rounded up: where a node is full unless constraints forbid
	cap   []int     // load factor · share rounded up: never exceeded
}

// newLoads divides arcs·replicas over zones, and each zone's part over its
// nodes, in proportion to weight, but never less or more for a zone than its
// quota of each arc, nor more than one replica of each arc for a node. Where the
// weights do not collide with that, a node's share is simply
// arcs·replicas·weight/total. Because shares themselves satisfy all constraints
// (as fractions), and caps are no smaller, an integral placement exists.
func newLoads(arcs int, q quota, zoneOf []int, nodes []Weighted, loadFactor float64) loads {
	zoneWeight := make([]float64, len(q.lo))
	for n, z := range zoneOf {
		zoneWeight[z] += nodes[n].Weight
	}
	zoneShare := apportion(float64(arcs*q.replicas), zoneWeight, func(z int) (lo, hi float64) {
		return float64(arcs * q.lo[z]), float64(arcs * q.hi[z])
	})
	l := loads{share: make([]float64, len(nodes))}
	for z := range zoneShare {
		var members []int
		var weights []float64
		for n := range nodes {
			if zoneOf[n] == z {
				members = append(members, n)
				weights = append(weights, nodes[n].Weight)
			}
		}
		shares := apportion(zoneShare[z], weights, func(int) (lo, hi float64) { return 0, float64(arcs) })
		for i, n := range members {
			l.share[n] = shares[i]
		}
	}
	// Shares that are whole numbers must not be rounded by a float's last bit.
	const fuzz = 1e-6
	for _, share := range l.share {
		l.floor = append(l.floor, int(math.Floor(share+fuzz)))
		l.ceil = append(l.ceil, int(math.Ceil(share-fuzz)))
		l.cap = append(l.cap, min(arcs, int(math.Ceil(loadFactor*share-fuzz))))
	}
	return l
}

// apportion divides total in proportion to weight within bounds: each part is
// clamp(t·weight, lo, hi) for the one t that makes the sum right. The bounds must
// admit total.
func apportion(total float64, weight []float64, bounds func(i int) (lo, hi float64)) []float64 {
	parts := make([]float64, len(weight))
	sumAt := func(t float64) (sum float64) {
		for i, w := range weight {
			lo, hi := bounds(i)
			parts[i] = min(max(t*w, lo), hi)
			sum += parts[i]
		}
		return sum
	}
	low, high := 0.0, 0.0
	for i, w := range weight {
		_, hi := bounds(i)
		high = max(high, hi/w)
	}
	for range 128 { // more halvings than a float64 has digits
		if mid := (low + high) / 2; sumAt(mid) < total {
			low = mid
		} else {
			high = mid
		}
	}
	sumAt(high)
	return parts
}
