package shardmap

import (
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

func TestWithNode(t *testing.T) {
	m := mustMap(t, sampleSpec())
	added, err := m.WithNode(101, Node{ID: nodeID(5), Name: "n5"})
	if err != nil || added.Epoch() != 101 || len(added.Nodes()) != 5 || len(m.Nodes()) != 4 {
		t.Fatalf("added: %v, %v; the old map has %d nodes", added, err, len(m.Nodes()))
	}
	moved, err := added.WithNode(102, Node{ID: nodeID(5), Name: "n5", Address: "elsewhere:1"})
	if n, _ := moved.Node(nodeID(5)); err != nil || n.Address != "elsewhere:1" || len(moved.Nodes()) != 5 {
		t.Fatalf("replaced: %v, %v", n, err)
	}
	if same, err := moved.WithNode(7, Node{ID: nodeID(5), Name: "n5", Address: "elsewhere:1"}); same != moved || err != nil {
		t.Errorf("the same entry again: %v, %v", same, err)
	}
	if _, err := moved.WithNode(103, Node{Name: "nobody"}); !hasID(err, "SM5") {
		t.Errorf("a node without id: %v", err)
	}
}

func TestWithRecordsSplit(t *testing.T) {
	m := mustMap(t, sampleSpec())
	parent := record(2, 0, 4000, 1, 2, 3)
	parent.ArcEpoch = 2
	child := record(4, 4000, 8000, 1, 2, 3)
	if _, err := m.WithRecords(101, child); !hasID(err, "SM2") {
		t.Errorf("the child alone: %v", err)
	}
	split, err := m.WithRecords(101, child, parent)
	if err != nil || !split.Complete() {
		t.Fatalf("split: %v", err)
	}
	if rec, _ := split.Lookup(5000); rec.Shard != 4 {
		t.Errorf("slot 5000 belongs to shard %d", rec.Shard)
	}
	if rec, _ := m.Lookup(5000); rec.Shard != 2 {
		t.Error("the old map has changed")
	}
}

func TestSM6_EpochsOnlyRise(t *testing.T) {
	base := record(2, 0, 8000, 1, 2, 3)
	base.ArcEpoch, base.MemberEpoch = 5, 5
	spec := sampleSpec()
	spec.Records[2] = base
	m := mustMap(t, spec)
	with := func(arcEpoch, memberEpoch uint64, edit func(*Record)) Record {
		rec := base.Clone()
		rec.ArcEpoch, rec.MemberEpoch = arcEpoch, memberEpoch
		if edit != nil {
			edit(&rec)
		}
		return rec
	}
	shrink := func(r *Record) { r.Arc.To = 4000 }
	move := func(r *Record) { r.Replicas[2] = Replica{ID: 99, Node: nodeID(4), Role: Learner} }
	for _, tc := range []struct {
		name    string
		epoch   uint64
		rec     Record
		want    string // "new", "same", or the violation
		isStale bool
	}{
		{"the same", 101, with(5, 5, nil), "same", false},
		{"the same at an old map epoch", 1, with(5, 5, nil), "same", false},
		{"higher arc epoch", 101, with(6, 5, shrink), "new", false},
		{"higher member epoch", 101, with(5, 6, move), "new", false},
		{"both higher", 101, with(6, 6, func(r *Record) { shrink(r); move(r) }), "new", false},
		{"lower arc epoch", 101, with(4, 5, nil), "SM6", true},
		{"lower member epoch", 101, with(5, 4, nil), "SM6", true},
		{"one lower, one higher", 101, with(4, 6, move), "SM6", true},
		{"another arc, same epoch", 101, with(5, 6, shrink), "SM6", false},
		{"other members, same epoch", 101, with(6, 5, move), "SM6", false},
		{"map epoch stands still", 100, with(6, 5, shrink), "SM6", true},
		{"map epoch falls", 99, with(6, 5, shrink), "SM6", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := m.WithRecords(tc.epoch, tc.rec)
			switch tc.want {
			case "same":
				if got != m || err != nil {
					t.Fatalf("got %v, %v", got, err)
				}
			case "new":
				rec, _ := got.Shard(2)
				if err != nil || got.Epoch() != tc.epoch || !reflect.DeepEqual(rec, tc.rec) {
					t.Fatalf("got %+v, %v", rec, err)
				}
			default:
				if got != nil || !hasID(err, tc.want) || errors.Is(err, ErrStale) != tc.isStale {
					t.Fatalf("got %v, %v", got, err)
				}
			}
		})
	}
}

// A change that finds the map broken says so instead of building on it, even if
// it would replace what is broken.
func TestSM4_CheckedBeforeAChange(t *testing.T) {
	m := mustMap(t, sampleSpec())
	better := m.Records()[0].Clone()
	better.MemberEpoch++
	better.Replicas = better.Replicas[:2]
	if _, err := m.WithRecords(101, better); err != nil {
		t.Fatal(err)
	}
	m.Records()[0].Replicas[1].Node = m.Records()[0].Replicas[0].Node // somebody breaks the contract
	if _, err := m.WithRecords(101, better); !hasID(err, "SM4") {
		t.Errorf("got %v", err)
	}
}

// Records arrive in any order and more than once; all orders end in the same
// map, which holds the newest of each.
func TestWithRecordsConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := []Record{record(2, 0, 8000, 1, 2, 3)}
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			next := history[len(history)-1].Clone()
			if rapid.Bool().Draw(t, "arc") {
				next.ArcEpoch++
				next.Arc.To--
			} else {
				next.MemberEpoch++
				next.Replicas[0].ID += 1000
			}
			history = append(history, next)
		}
		m := (*Map)(nil)
		epoch := uint64(0)
		offer := func(i int) {
			epoch++
			next, err := m.WithRecords(epoch, history[i])
			switch {
			case err == nil:
				m = next
			case !errors.Is(err, ErrStale):
				t.Fatalf("record %d: %v", i, err)
			}
		}
		for range rapid.IntRange(0, 12).Draw(t, "offers") {
			before, _ := m.Shard(2)
			offer(rapid.IntRange(0, len(history)-1).Draw(t, "which"))
			if after, _ := m.Shard(2); after.ArcEpoch < before.ArcEpoch || after.MemberEpoch < before.MemberEpoch {
				t.Fatalf("epochs fell from (%d,%d) to (%d,%d)", before.ArcEpoch, before.MemberEpoch, after.ArcEpoch, after.MemberEpoch)
			}
		}
		offer(len(history) - 1)
		if rec, _ := m.Shard(2); !reflect.DeepEqual(rec, history[len(history)-1]) {
			t.Fatalf("ended with %+v, want %+v", rec, history[len(history)-1])
		}
	})
}

func hasID(err error, id string) bool {
	var v *Violation
	return errors.As(err, &v) && v.ID == id
}
