package sim

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func op(kind Kind, value string, version uint64, call, ret int, outcome Outcome) Op {
	return Op{Kind: kind, Key: "k", Value: value, Version: version, Call: time.Duration(call), Return: time.Duration(ret), Outcome: outcome}
}

func TestTheJudgeRejectsBadHistories(t *testing.T) {
	cases := map[string][]Op{
		"stale read":              {op(Put, "a", 1, 0, 1, Done), op(Put, "b", 2, 2, 3, Done), op(Get, "a", 1, 4, 5, Done)},
		"lost write":              {op(Put, "a", 1, 0, 1, Done), op(Get, "", 0, 2, 3, Done)},
		"read of nothing written": {op(Put, "a", 1, 0, 1, Done), op(Get, "ghost", 1, 2, 3, Done)},
		"a value comes back": {op(Put, "a", 1, 0, 1, Done), op(Put, "b", 2, 2, 3, Done), op(Get, "b", 2, 4, 5, Done),
			op(Get, "a", 1, 6, 7, Done)},
		"deleted and still there": {op(Put, "a", 1, 0, 1, Done), op(Delete, "", 2, 2, 3, Done), op(Get, "a", 1, 4, 5, Done)},
		"an unknown write undone": {op(Put, "a", 1, 0, 1, Done), op(Put, "b", 0, 2, 3, Unknown), op(Get, "b", 2, 4, 5, Done),
			op(Get, "a", 1, 6, 7, Done)},
		"applied twice": {op(Put, "a", 1, 0, 10, Unknown), op(Get, "a", 1, 11, 12, Done), op(Put, "b", 2, 13, 14, Done),
			op(Get, "b", 2, 15, 16, Done), op(Get, "a", 3, 17, 18, Done)},
	}
	for name, ops := range cases {
		if checkLinearizable(ops) == nil {
			t.Errorf("%s: accepted by the linearizability check", name)
		}
	}
	versions := map[string][]Op{
		"two writes, one version":  {op(Put, "a", 1, 0, 1, Done), op(Put, "b", 1, 2, 3, Done)},
		"version falls":            {op(Put, "a", 2, 0, 1, Done), op(Put, "b", 1, 2, 3, Done)},
		"read behind a write":      {op(Put, "a", 2, 0, 1, Done), op(Get, "x", 1, 2, 3, Done)},
		"version with two values":  {op(Put, "a", 1, 0, 1, Done), op(Get, "b", 1, 2, 3, Done)},
		"acknowledged, no version": {op(Put, "a", 0, 0, 1, Done)},
	}
	for name, ops := range versions {
		if checkVersions(ops) == nil {
			t.Errorf("%s: accepted by the version check", name)
		}
	}
}

func inShard(key string, view uint64, o Op) Op {
	o.Shard, o.Key, o.View = 2, key, view
	return o
}

func TestTheShardJudge(t *testing.T) {
	a := inShard("a", 0, op(Put, "1", 5, 0, 1, Done))
	cases := []struct {
		name string
		ops  []Op
		good bool
	}{
		{"a read of another key from an old view", []Op{a, inShard("b", 4, op(Get, "", 0, 2, 3, Done))}, false},
		{"a read of another key from a fresh view", []Op{a, inShard("b", 5, op(Get, "", 0, 2, 3, Done))}, true},
		{"a read that began before the write ended", []Op{a, inShard("b", 4, op(Get, "", 0, 1, 3, Done))}, true},
		{"a read whose view nobody told", []Op{a, inShard("b", 0, op(Get, "x", 3, 2, 3, Done))}, true},
		{"a read behind a view", []Op{inShard("a", 7, op(Get, "x", 3, 0, 1, Done)), inShard("b", 6, op(Get, "", 0, 2, 3, Done))}, false},
		{"a read behind a replica", []Op{inShard("a", 7, op(Seen, "", 0, 1, 1, Done)), inShard("a", 6, op(Get, "", 0, 2, 3, Done))}, false},
		{"a replica behind a read", []Op{inShard("a", 7, op(Get, "", 0, 0, 1, Done)), inShard("a", 6, op(Seen, "", 0, 2, 2, Done))}, true},
		{"a write below another key's", []Op{a, inShard("b", 0, op(Put, "2", 4, 2, 3, Done))}, false},
		{"a write at another key's version", []Op{a, inShard("b", 0, op(Delete, "", 5, 2, 3, Done))}, false},
		{"a write above", []Op{a, inShard("b", 0, op(Put, "2", 6, 2, 3, Done))}, true},
		{"an unknown write", []Op{a, inShard("b", 0, op(Put, "2", 0, 2, 3, Unknown))}, true},
		{"another shard", []Op{a, op(Get, "", 1, 2, 3, Done)}, true},
	}
	for _, c := range cases {
		if err := checkShards(c.ops); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAQuietRunFails(t *testing.T) {
	faults := map[Fault]int{FaultCrash: 1}
	cases := []struct {
		name string
		r    Report
		loud bool
	}{
		{"reads and writes under faults", Report{Acknowledged: 100, Writes: 40, Faults: faults}, true},
		{"no faults", Report{Acknowledged: 100, Writes: 40}, false},
		{"reads only: all writes were refused", Report{Acknowledged: 1000, Faults: faults}, false},
		{"next to nothing", Report{Acknowledged: 30, Writes: 30, Faults: faults}, false},
	}
	for _, c := range cases {
		if err := c.r.loud(); (err == nil) != c.loud {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTheJudgeAcceptsGoodHistories(t *testing.T) {
	for seed := range uint64(300) {
		ops := goodHistory(rand.New(rand.NewPCG(seed, 1)))
		if err := checkLinearizable(ops); err != nil {
			t.Fatalf("seed %d: %v\n%+v", seed, err, ops)
		}
		if err := checkVersions(ops); err != nil {
			t.Fatalf("seed %d: %v\n%+v", seed, err, ops)
		}
	}
}

// goodHistory applies operations one after another at instants of which each
// lies between its operation's call and return.
func goodHistory(rng *rand.Rand) []Op {
	var ops []Op
	value, version := "", uint64(0)
	unknown := 0
	for i := range 60 {
		at := (i + 1) * 10
		o := op(Put, fmt.Sprint("v", i), 0, at-1-rng.IntN(30), at+1+rng.IntN(30), Done)
		lost := rng.IntN(10) == 0 && unknown < 5
		switch rng.IntN(4) {
		case 0, 1:
			o.Kind, o.Value, o.Version = Get, value, version
			if value == "" {
				o.Version = 0
			}
		case 2:
			o.Kind, o.Value = Delete, ""
		}
		if o.Kind != Get {
			if lost {
				unknown++
				o.Outcome, o.Version = Unknown, 0
			}
			if !lost || rng.IntN(2) == 0 {
				version++
				value = o.Value
			}
			if !lost {
				o.Version = version
			}
		}
		ops = append(ops, o)
	}
	return ops
}
