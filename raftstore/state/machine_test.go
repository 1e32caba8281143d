package state

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// testRecord is a data shard that owns the lower half of the ring.
func testRecord() shardmap.Record {
	return shardmap.Record{
		Shard: 2, Arc: shardmap.Arc{From: 0, To: 8192}, ArcEpoch: 1, MemberEpoch: 1,
		Replicas: []shardmap.Replica{
			{ID: 11, Node: shardmap.NodeID(strings.Repeat("a", 40)), Role: shardmap.Voter},
			{ID: 12, Node: shardmap.NodeID(strings.Repeat("b", 40)), Role: shardmap.Voter},
		},
	}
}

// fullRecord owns the whole ring.
func fullRecord() shardmap.Record {
	rec := testRecord()
	rec.Arc.To = shardmap.Slots
	return rec
}

const (
	birthIndex = 10
	birthTerm  = 5
)

func born(t testing.TB, rec shardmap.Record) store {
	t.Helper()
	s, b := make(store), newBatch()
	if err := Birth(b, rec, birthIndex, birthTerm, []byte("first configuration")); err != nil {
		t.Fatal(err)
	}
	b.commit(s)
	return s
}

func newMachine(t testing.TB, rec shardmap.Record, l limits) *Machine {
	t.Helper()
	m, found, err := load(born(t, rec), rec.Arc.From, l)
	if err != nil || !found {
		t.Fatalf("loading a newborn: %t, %v", found, err)
	}
	return m
}

// keyIn returns a key whose slot is in the lower half of the ring, or not.
func keyIn(lower bool) []byte {
	if lower {
		return []byte("bar") // slot 5061
	}
	return []byte("foo") // slot 12182
}

// apply applies one entry of the current term in a batch of its own.
func apply(t testing.TB, m *Machine, s store, e Entry) []Result {
	t.Helper()
	index, term := m.Applied()
	if e.Term == 0 {
		e.Term = term
	}
	b := newBatch(s)
	_, results, err := m.ApplyEntry(b, index+1, term, e.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Finish(b); err != nil {
		t.Fatal(err)
	}
	b.commit(s)
	return results
}

func put(key, value string, r RequestID) Op {
	return Op{Kind: OpPut, Key: []byte(key), Value: []byte(value), Request: r}
}

func TestVersionsRise(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	del := Op{Kind: OpDelete, Key: []byte("a")}
	for _, tc := range []struct {
		shardTime uint64
		want      []uint64
	}{
		{0, []uint64{1, 2, 3}},
		{100, []uint64{100, 101, 102}},
		{101, []uint64{103, 104, 105}}, // versions are ahead of time
		{50, []uint64{106, 107, 108}},  // time does not fall
		{200, []uint64{200, 201, 202}},
	} {
		res := apply(t, m, s, Entry{ShardTime: tc.shardTime, Ops: []Op{put("a", "x", RequestID{}), del, put("b", "y", RequestID{})}})
		for i, want := range tc.want {
			if res[i] != (Result{Verdict: Applied, Version: want}) {
				t.Errorf("at %d: result %d is %+v, want version %d", tc.shardTime, i, res[i], want)
			}
		}
	}
	if m.ShardTime() != 200 || m.LastVersion() != 202 {
		t.Errorf("ended at shard time %d, version %d", m.ShardTime(), m.LastVersion())
	}
	if _, ok := s[string(DataKey(nil, shardmap.SlotOf([]byte("a")), []byte("a")))]; ok {
		t.Error("deleted key is there")
	}
	v, err := DecodeValue([]byte(s[string(DataKey(nil, shardmap.SlotOf([]byte("b")), []byte("b")))]))
	if err != nil || v.Version != 202 || string(v.Data) != "y" {
		t.Errorf("b is %+v, %v", v, err)
	}
}

func TestVersionsEnd(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	apply(t, m, s, Entry{ShardTime: MaxVersion, Ops: []Op{put("a", "x", RequestID{})}})
	if m.LastVersion() != MaxVersion {
		t.Fatal(m.LastVersion())
	}
	e := Entry{Term: birthTerm, Ops: []Op{put("a", "x", RequestID{})}}
	_, _, err := m.ApplyEntry(newBatch(), birthIndex+2, birthTerm, e.AppendTo(nil))
	wantKind(t, "one more", err, kverr.Internal)
}

func TestWrongShardAppliesNothing(t *testing.T) {
	m, s := newMachine(t, testRecord(), defaultLimits), make(store)
	r := RequestID{Client: ClientID{1}, Number: 1, NotAfter: 100}
	res := apply(t, m, s, Entry{ShardTime: 10, Ops: []Op{
		put(string(keyIn(false)), "x", r), put(string(keyIn(true)), "y", RequestID{}), put("{"+string(keyIn(false))+"}z", "x", r),
	}})
	want := []Result{{Verdict: WrongShard}, {Verdict: Applied, Version: 10}, {Verdict: WrongShard}}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Error(diff)
	}
	if len(s) != 2 { // the applied position and one value
		t.Errorf("store holds\n%s", s.dump())
	}
}

func TestSystemShardHashesNothing(t *testing.T) {
	rec := testRecord()
	rec.Shard, rec.Arc = shardmap.SystemShard, shardmap.SystemArc
	m, s := newMachine(t, rec, defaultLimits), make(store)
	res := apply(t, m, s, Entry{Ops: []Op{put(string(keyIn(true)), "x", RequestID{}), put(string(keyIn(false)), "y", RequestID{})}})
	if res[0].Verdict != Applied || res[1].Verdict != Applied {
		t.Errorf("got %+v", res)
	}
	if s[string(DataKey(nil, shardmap.SystemSlot, keyIn(true)))] == "" {
		t.Errorf("store holds\n%s", s.dump())
	}
}

func TestL6_SupersededEntryOnlyMovesThePosition(t *testing.T) {
	m := newMachine(t, fullRecord(), defaultLimits)
	b := newBatch()
	e := Entry{ShardTime: 500, Term: birthTerm, Ops: []Op{put("a", "x", RequestID{Client: ClientID{1}, Number: 1, NotAfter: 600})}}
	got, res, err := m.ApplyEntry(b, birthIndex+1, birthTerm+1, e.AppendTo(nil))
	if err != nil || len(res) != 1 || res[0] != (Result{Verdict: Superseded}) || got.Term != birthTerm {
		t.Fatal(got, res, err)
	}
	if b.writes != 0 || m.ShardTime() != 0 || m.LastVersion() != 0 || m.Requests() != (RequestStats{}) {
		t.Errorf("%d writes, shard time %d, version %d, %+v", b.writes, m.ShardTime(), m.LastVersion(), m.Requests())
	}
	if index, term := m.Applied(); index != birthIndex+1 || term != birthTerm+1 {
		t.Errorf("at index %d, term %d", index, term)
	}
}

func TestRS1_PositionIsInTheBatchOfTheEffect(t *testing.T) {
	s := born(t, fullRecord())
	m, _, err := Load(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch()
	for i, key := range []string{"a", "b"} {
		e := Entry{Term: birthTerm, ShardTime: 77, Ops: []Op{put(key, "x", RequestID{})}}
		if _, _, err := m.ApplyEntry(b, birthIndex+1+uint64(i), birthTerm, e.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.ApplyConfiguration(b, birthIndex+5, birthTerm+1, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if b.has(AppliedKey(0)) {
		t.Error("position is written before Finish")
	}
	before := b.writes
	if err := m.Finish(b); err != nil {
		t.Fatal(err)
	}
	if b.writes != before+1 || !b.has(AppliedKey(0)) {
		t.Errorf("Finish made %d writes", b.writes-before)
	}
	b.commit(s)
	got, _, err := LoadApplied(s, 0)
	want := AppliedState{Index: birthIndex + 5, Term: birthTerm + 1, ShardTime: 77, LastVersion: 78,
		Configuration: []byte("second"), ConfigurationIndex: birthIndex + 5}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if raw, index := m.Configuration(); string(raw) != "second" || index != birthIndex+5 {
		t.Errorf("configuration is %q of index %d", raw, index)
	}
	b = newBatch()
	if err := m.Finish(b); err != nil || b.writes != 0 {
		t.Errorf("Finish with nothing applied: %d writes, %v", b.writes, err)
	}
}

func TestEntriesComeOnceAndInOrder(t *testing.T) {
	for _, tc := range []struct {
		name        string
		index, term uint64
	}{
		{"applied before", birthIndex, birthTerm},
		{"below", birthIndex - 1, birthTerm},
		{"term falls", birthIndex + 1, birthTerm - 1},
	} {
		m := newMachine(t, fullRecord(), defaultLimits)
		e := Entry{Term: tc.term}
		_, _, err := m.ApplyEntry(newBatch(), tc.index, tc.term, e.AppendTo(nil))
		wantKind(t, tc.name, err, kverr.Internal)
		m = newMachine(t, fullRecord(), defaultLimits)
		wantKind(t, tc.name+", configuration", m.ApplyConfiguration(newBatch(), tc.index, tc.term, []byte("c")), kverr.Internal)
	}
}

func TestMachineStopsAfterAnError(t *testing.T) {
	broken := errors.New("disk full")
	e := Entry{Term: birthTerm, ShardTime: 5, Ops: []Op{
		put("a", "x", RequestID{Client: ClientID{1}, Number: 1, NotAfter: 60}), {Kind: OpDelete, Key: []byte("b")}}}
	for n := range 4 {
		m := newMachine(t, fullRecord(), defaultLimits)
		w := &failing{batch: newBatch(), left: n, err: broken}
		_, _, err := m.ApplyEntry(w, birthIndex+1, birthTerm, e.AppendTo(nil))
		if n == 3 {
			if err != nil {
				t.Fatal(err)
			}
			err = m.Finish(w)
		}
		if !errors.Is(err, broken) {
			t.Fatalf("call %d: %v", n, err)
		}
		checkStopped(t, m, broken)
	}
	m := newMachine(t, fullRecord(), defaultLimits)
	_, _, err := m.ApplyEntry(newBatch(), birthIndex+1, birthTerm, []byte{99})
	wantKind(t, "newer entry", err, kverr.Format)
	checkStopped(t, m, kverr.Format)
	m = newMachine(t, fullRecord(), defaultLimits)
	wantKind(t, "no configuration", m.ApplyConfiguration(newBatch(), birthIndex+1, birthTerm, nil), kverr.Internal)
	checkStopped(t, m, kverr.Internal)
}

func checkStopped(t *testing.T, m *Machine, cause error) {
	t.Helper()
	b := newBatch()
	index, term := m.Applied()
	e := Entry{Term: term}
	_, _, err := m.ApplyEntry(b, index+1, term, e.AppendTo(nil))
	for _, err := range []error{err, m.ApplyConfiguration(b, index+2, term, []byte("c")), m.Finish(b)} {
		if !errors.Is(err, cause) {
			t.Errorf("after %v the machine answers %v", cause, err)
		}
	}
	if b.writes != 0 {
		t.Errorf("after %v the machine makes %d writes", cause, b.writes)
	}
}

func TestRS1_PositionNeverFalls(t *testing.T) {
	for name, damage := range map[string]func(*AppliedState){
		"term":       func(a *AppliedState) { a.Term = 0 },
		"shard time": func(a *AppliedState) { a.ShardTime = 0 },
		"version":    func(a *AppliedState) { a.LastVersion = 0 },
		"index":      func(a *AppliedState) { a.Index = 1 },
	} {
		m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
		apply(t, m, s, Entry{ShardTime: 7, Ops: []Op{put("a", "x", RequestID{})}})
		if err := m.ApplyConfiguration(newBatch(), birthIndex+2, birthTerm, []byte("c")); err != nil {
			t.Fatal(err)
		}
		damage(&m.position)
		wantKind(t, name, m.Finish(newBatch()), kverr.Internal)
	}
}

func TestLargeValuesAreNotHeldOnTo(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	apply(t, m, s, Entry{Ops: []Op{put("a", strings.Repeat("x", 1<<20), RequestID{})}})
	if cap(m.value) > maxScratch {
		t.Errorf("scratch of %d bytes is kept", cap(m.value))
	}
}

func TestVerdictsHaveNames(t *testing.T) {
	for v := Applied; v <= Superseded; v++ {
		if strings.HasPrefix(v.String(), "verdict") {
			t.Errorf("%d has no name", v)
		}
	}
	if got := Verdict(99).String(); got != "verdict 99" {
		t.Error(got)
	}
}

func TestHash(t *testing.T) {
	s := born(t, testRecord())
	arc := testRecord().Arc
	sum := func(s store) uint64 {
		h, err := Hash(s, arc)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	before := sum(s)
	s[string(DataKey(nil, arc.To, []byte("neighbour's")))] = "x"
	if sum(s) != before {
		t.Error("hash depends on a key outside the arc")
	}
	s[string(DataKey(nil, arc.To-1, []byte("ab")))] = "c"
	with := sum(s)
	if with == before {
		t.Error("hash does not depend on a key inside the arc")
	}
	delete(s, string(DataKey(nil, arc.To-1, []byte("ab"))))
	s[string(DataKey(nil, arc.To-1, []byte("a")))] = "bc"
	if sum(s) == with {
		t.Error("hash does not see where the key ends")
	}
}
