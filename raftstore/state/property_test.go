package state

import (
	"bytes"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/shardmap"
)

// smallLimits make every bound matter within a few entries.
var smallLimits = limits{records: 12, recordsPerClient: 6, clients: 3, sweep: 2, slack: 2}

// logEntry is one entry of a made-up Raft log.
type logEntry struct {
	index, term   uint64
	data          []byte
	entry         Entry
	configuration []byte // instead of an entry
}

// drawLog makes a log of adversarial entries: clients that ignore every duty,
// wrong slots, time that jumps and tries to fall, entries of older terms.
func drawLog(t *rapid.T) []logEntry {
	var log []logEntry
	index, term, now := uint64(birthIndex), uint64(birthTerm), uint64(0)
	for range rapid.IntRange(1, 60).Draw(t, "entries") {
		index += rapid.SampledFrom([]uint64{1, 1, 1, 3}).Draw(t, "index step")
		term += rapid.SampledFrom([]uint64{0, 0, 0, 0, 1}).Draw(t, "term step")
		l := logEntry{index: index, term: term}
		if rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
			l.configuration = rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "configuration")
			log = append(log, l)
			continue
		}
		now += rapid.SampledFrom([]uint64{0, 1, 10, 40, 300}).Draw(t, "time step")
		l.entry = Entry{
			Term:      term - rapid.SampledFrom([]uint64{0, 0, 0, 0, 0, 0, 1}).Draw(t, "term behind"),
			ShardTime: now - min(now, rapid.SampledFrom([]uint64{0, 0, 0, 20}).Draw(t, "time behind")),
			Proposal:  ProposalID{Replica: 1, Nonce: 2, Counter: index},
			Ops:       rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Op { return drawOp(t, now) }), 0, 8).Draw(t, "ops"),
		}
		l.data = l.entry.AppendTo(nil)
		log = append(log, l)
	}
	return log
}

var someKeys = [][]byte{[]byte("bar"), []byte("{bar}1"), []byte("{bar}2"), []byte("foo"), []byte("hello")}

func drawOp(t *rapid.T, now uint64) Op {
	op := Op{Kind: OpPut, Key: rapid.SampledFrom(someKeys).Draw(t, "key")}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		op.Kind = OpDelete
	case 1:
		return Op{Kind: OpVerify, Key: bytes.Repeat([]byte{rapid.Byte().Draw(t, "id")}, len(VerifyID{}))}
	default:
		op.Value = rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value")
	}
	if rapid.IntRange(0, 7).Draw(t, "anonymous") == 0 {
		return op
	}
	op.Request = RequestID{
		Client:     ClientID{rapid.ByteRange(1, 4).Draw(t, "client")},
		Number:     rapid.Uint64Range(1, 20).Draw(t, "number"),
		NotAfter:   now + rapid.SampledFrom([]uint64{0, 5, 30, 30, 100, 500, ahead, ahead + 1}).Draw(t, "not after"),
		LowestOpen: rapid.Uint64Max(12).Draw(t, "lowest open"),
	}
	if rapid.IntRange(0, 9).Draw(t, "expired") == 0 {
		op.Request.NotAfter = now / 2
	}
	return op
}

// applyLog applies one entry of the log without finishing the batch.
func applyLog(t *rapid.T, m *Machine, w Writer, l *logEntry) []Result {
	if l.configuration != nil {
		if err := m.ApplyConfiguration(w, l.index, l.term, l.configuration); err != nil {
			t.Fatalf("entry %d: %v", l.index, err)
		}
		return nil
	}
	e, results, err := m.ApplyEntry(w, l.index, l.term, l.data)
	if err != nil {
		t.Fatalf("entry %d: %v", l.index, err)
	}
	if e.Proposal != l.entry.Proposal {
		t.Fatalf("entry %d comes back as proposal %v", l.index, e.Proposal)
	}
	return results
}

func drawShard(t *rapid.T) shardmap.Record {
	rec := testRecord()
	if rapid.IntRange(0, 4).Draw(t, "system") == 0 {
		rec.Shard, rec.Arc = shardmap.SystemShard, shardmap.SystemArc
	}
	return rec
}

func bornRapid(t *rapid.T, rec shardmap.Record) (*Machine, store) {
	s, b := make(store), newBatch()
	if err := Birth(b, rec, birthIndex, birthTerm, []byte("first")); err != nil {
		t.Fatal(err)
	}
	b.commit(s)
	return loadRapid(t, s, rec), s
}

func loadRapid(t *rapid.T, s store, rec shardmap.Record) *Machine {
	m, found, err := load(&oneBuffer{store: s}, rec.Arc.From, smallLimits)
	if err != nil || !found {
		t.Fatalf("load: %t, %v", found, err)
	}
	return m
}

// TestRS3_MachineDoesWhatItsTwinDoes compares every answer, the data and the
// request table with the twin's after every entry.
func TestRS3_MachineDoesWhatItsTwinDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawShard(t)
		m, s := bornRapid(t, rec)
		twin := newTwin(rec, smallLimits)
		for _, l := range drawLog(t) {
			b := newBatch()
			got := applyLog(t, m, b, &l)
			if err := m.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			if l.configuration != nil {
				continue
			}
			want := twin.apply(l.index, l.term, &l.entry)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("entry %d: results\n%s", l.index, diff)
			}
			if diff := cmp.Diff(marksOf(&l), m.Marks(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entry %d: marks\n%s", l.index, diff)
			}
			if m.ShardTime() != twin.shardTime || m.LastVersion() != twin.lastVersion {
				t.Fatalf("entry %d: shard time %d, version %d; want %d, %d", l.index,
					m.ShardTime(), m.LastVersion(), twin.shardTime, twin.lastVersion)
			}
			if diff := cmp.Diff(twin.dump(), dumpTable(m.requests)); diff != "" {
				t.Fatalf("entry %d: request table\n%s", l.index, diff)
			}
			checkTable(t, m)
			compareStore(t, rec, s, twin)
		}
	})
}

// marksOf are the verifications that an entry of its own term asks for.
func marksOf(l *logEntry) (ids []VerifyID) {
	for _, op := range l.entry.Ops {
		if op.Kind == OpVerify && l.entry.Term == l.term {
			ids = append(ids, VerifyID(op.Key))
		}
	}
	return ids
}

// compareStore asserts that the store holds the twin's data, the shard's three
// own keys, one key per page, and nothing else.
func compareStore(t *rapid.T, rec shardmap.Record, s store, twin *twin) {
	left := maps.Clone(s)
	for k, want := range twin.data {
		key := string(DataKey(nil, SlotFor(rec.Shard, []byte(k)), []byte(k)))
		v, err := DecodeValue([]byte(s[key]))
		if err != nil || v.Version != want.version || string(v.Data) != want.data {
			t.Fatalf("key %q holds %+v (%v), want %+v", k, v, err, want)
		}
		delete(left, key)
	}
	for _, p := range twin.pages {
		key := string(appendRequestKey(nil, rec.Arc.From, p.index))
		if _, ok := s[key]; !ok {
			t.Fatalf("page %d has no key", p.index)
		}
		delete(left, key)
	}
	for _, key := range [][]byte{RecordKey(rec.Arc.From), AppliedKey(rec.Arc.From), ConfigurationKey(rec.Arc.From)} {
		delete(left, string(key))
	}
	if len(left) != 0 {
		t.Fatalf("too much in the store:\n%s", left.dump())
	}
}

// TestRS2_RS4_BatchesAndRestartsDoNotShow: one replica commits every entry by
// itself and never stops; the other batches at random, restarts at random and
// loses uncommitted batches. At every index both have committed they hold the
// same bytes, gave the same answers and will give the same.
func TestRS2_RS4_BatchesAndRestartsDoNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawShard(t)
		log := drawLog(t)
		steady, s := bornRapid(t, rec)
		type moment struct {
			results []Result
			bytes   string
			hash    uint64
			table   string

			configuration      string
			configurationIndex uint64
		}
		history := make(map[uint64]moment)
		for _, l := range log {
			b := newBatch()
			results := applyLog(t, steady, b, &l)
			if err := steady.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			raw, index := steady.Configuration()
			history[l.index] = moment{results, s.dump(), mustHash(t, s, rec), dumpTable(steady.requests), string(raw), index}
		}

		restless, s := bornRapid(t, rec)
		b := newBatch()
		losses := 3
		for i := 0; i < len(log); i++ {
			l := &log[i]
			results := applyLog(t, restless, b, l)
			was := history[l.index]
			if diff := cmp.Diff(was.results, results); diff != "" {
				t.Fatalf("entry %d: results\n%s", l.index, diff)
			}
			what := rapid.IntRange(0, 9).Draw(t, "then")
			if what < 4 && i < len(log)-1 {
				continue
			}
			if what == 4 && losses > 0 { // a crash takes the batch
				losses--
				restless, b = loadRapid(t, s, rec), newBatch()
				i = lastApplied(log, restless)
				continue
			}
			if err := restless.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			b = newBatch()
			if what >= 7 {
				restless = loadRapid(t, s, rec)
			}
			checkTable(t, restless)
			if raw, index := restless.Configuration(); was.configuration != string(raw) || was.configurationIndex != index {
				t.Fatalf("entry %d: configuration %x of %d, want %x of %d", l.index, raw, index, was.configuration, was.configurationIndex)
			}
			if diff := cmp.Diff(was.table, dumpTable(restless.requests)); diff != "" {
				t.Fatalf("entry %d: request table\n%s", l.index, diff)
			}
			if s.dump() != was.bytes || mustHash(t, s, rec) != was.hash {
				t.Fatalf("entry %d: store\n%s", l.index, cmp.Diff(was.bytes, s.dump()))
			}
		}
	})
}

// lastApplied is the position in the log of the last entry a machine has applied,
// -1 for none.
func lastApplied(log []logEntry, m *Machine) int {
	index, _ := m.Applied()
	for i := range log {
		if log[i].index > index {
			return i - 1
		}
	}
	return len(log) - 1
}

func mustHash(t *rapid.T, s store, rec shardmap.Record) uint64 {
	h, err := Hash(s, rec.Arc)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestRS2_ApplyDoesNotKeepItsInput: replicas may reuse the buffer of a log entry.
func TestRS2_ApplyDoesNotKeepItsInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := testRecord()
		m, s := bornRapid(t, rec)
		other, so := bornRapid(t, rec)
		for _, l := range drawLog(t) {
			b, bo := newBatch(), newBatch()
			applyLog(t, m, b, &l)
			want := l.configuration
			l.data, l.configuration = bytes.Clone(l.data), bytes.Clone(l.configuration)
			applyLog(t, other, bo, &l)
			clear(l.data)
			clear(l.configuration)
			for _, err := range []error{m.Finish(b), other.Finish(bo)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			b.commit(s)
			bo.commit(so)
			if got, _ := other.Configuration(); want != nil && !bytes.Equal(got, want) {
				t.Fatalf("clearing configuration %x changed it to %x", want, got)
			}
		}
		if s.dump() != so.dump() || dumpTable(m.requests) != dumpTable(other.requests) {
			t.Fatal("clearing applied entries changed the state")
		}
	})
}
