package state

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestAnswersAreASortedMap drives answers and a plain map through the same
// steps. Numbers come from a range in which runs split, empty and meet.
func TestAnswersAreASortedMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s answers
		twin := make(map[uint64]uint64)
		var version uint64
		number := rapid.Uint64Range(1, 1000)
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				n := number.Draw(t, "number")
				step := rapid.SampledFrom([]int{-3, 1, 7}).Draw(t, "step")
				for i := range rapid.IntRange(1, 300).Draw(t, "many") {
					n := n + uint64(i*step)
					if _, ok := twin[n]; ok || n == 0 || n > 1<<60 {
						continue
					}
					version++
					twin[n] = version
					s.insert(answer{number: n, version: version})
				}
			},
			"remove": func(t *rapid.T) {
				n := number.Draw(t, "number")
				for range rapid.IntRange(1, 200).Draw(t, "many") {
					a, ok := s.remove(n)
					if v, held := twin[n]; held != ok || a.version != v {
						t.Fatalf("remove(%d) gave version %d, %t; want %d, %t", n, a.version, ok, v, held)
					}
					delete(twin, n)
					n++
				}
			},
			"pop": func(t *rapid.T) {
				limit := number.Draw(t, "limit") / 2
				for _, lowest := range slices.Sorted(maps.Keys(twin)) {
					a, ok := s.popBelow(limit)
					if ok != (lowest < limit) || ok && (a.number != lowest || a.version != twin[lowest]) {
						t.Fatalf("popBelow(%d) gave %d, %t; the lowest is %d", limit, a.number, ok, lowest)
					}
					if !ok {
						return
					}
					delete(twin, lowest)
				}
			},
			"": func(t *rapid.T) { checkAnswers(t, &s, twin) },
		})
	})
}

func checkAnswers(t *rapid.T, s *answers, twin map[uint64]uint64) {
	if s.count != len(twin) {
		t.Fatalf("count is %d, want %d", s.count, len(twin))
	}
	var all []answer
	for _, r := range s.runs {
		if len(r) == 0 || len(r) > maxRun {
			t.Fatalf("run of %d", len(r))
		}
		all = append(all, r...)
	}
	if len(all) != len(twin) {
		t.Fatalf("%d answers, want %d", len(all), len(twin))
	}
	for i, n := range slices.Sorted(maps.Keys(twin)) {
		if all[i].number != n || all[i].version != twin[n] {
			t.Fatalf("answer %d is %+v, want number %d, version %d", i, all[i], n, twin[n])
		}
	}
	for n := rapid.Uint64Max(10).Draw(t, "probe"); n < 2000; n += 37 {
		want, held := twin[n]
		if a, ok := s.find(n); ok != held || ok && a.version != want {
			t.Fatalf("find(%d) gave version %d, %t; want %d, %t", n, a.version, ok, want, held)
		}
	}
}
