package state

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/shardmap"
)

// smallLimits make every bound matter within a few entries.
var smallLimits = limits{records: 12, recordsPerClient: 6, detail: 40, detailPerClient: 20, clients: 3, sweep: 2, slack: 2}

// logEntry is one entry of a made-up Raft log.
type logEntry struct {
	index, term   uint64
	data          []byte
	entry         Entry
	configuration []byte // instead of an entry
}

// deadlinesOf are those that an operation may set.
func deadlinesOf(op *Op, shardTime uint64) (all []twinDeadline) {
	if op.Expiry == ExpireAfter {
		all = append(all, twinDeadline{deadline: min(shardTime+op.TTL, MaxVersion), key: string(op.Key)})
	}
	if op.Txn != nil {
		for _, leaf := range slices.Concat(op.Txn.Then, op.Txn.Else) {
			all = append(all, deadlinesOf(&leaf, shardTime)...)
		}
	}
	return all
}

// drawLog makes a log of adversarial entries: clients that ignore every duty,
// wrong slots, time that jumps and tries to fall, entries of older terms.
func drawLog(t *rapid.T) []logEntry {
	var log []logEntry
	index, term, now := uint64(birthIndex), uint64(birthTerm), uint64(0)
	shardTime, deadlines := uint64(0), []twinDeadline{{deadline: 1, key: "bar"}}
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
			Ops:       rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Op { return drawOp(t, now, deadlines) }), 0, 8).Draw(t, "ops"),
		}
		l.data = l.entry.AppendTo(nil)
		shardTime = max(shardTime, l.entry.ShardTime)
		for i := range l.entry.Ops {
			deadlines = append(deadlines, deadlinesOf(&l.entry.Ops[i], shardTime)...)
		}
		log = append(log, l)
	}
	return log
}

// oneSlot is more keys than a decision looks through one by one.
var oneSlot = func() [][]byte {
	keys := [][]byte{[]byte("bar")}
	for c := byte('1'); c <= '9'; c++ {
		keys = append(keys, []byte{'{', 'b', 'a', 'r', '}', c})
	}
	return keys
}()

var someKeys = [][]byte{[]byte("bar"), []byte("{bar}1"), []byte("{bar}2"), []byte("foo"), []byte("hello")}

func drawOp(t *rapid.T, now uint64, deadlines []twinDeadline) Op {
	if rapid.IntRange(0, 9).Draw(t, "verify") == 0 {
		return Op{Kind: OpVerify, Key: bytes.Repeat([]byte{rapid.Byte().Draw(t, "id")}, len(VerifyID{}))}
	}
	op := drawLeaf(t)
	switch {
	case op.Kind == OpGet:
		op = Op{Kind: OpTxn, Key: []byte("bar"), Txn: drawTxn(t)}
	case (op.Kind == OpPut || op.Kind == OpDelete) && rapid.Bool().Draw(t, "conditional"):
		op.Condition = rapid.SampledFrom([]Condition{IfAbsent, IfPresent, IfVersion}).Draw(t, "condition")
		if op.Condition == IfVersion {
			op.IfVersion = rapid.Uint64Range(1, now+2).Draw(t, "if version")
		}
	case op.Kind == OpExpire && rapid.Bool().Draw(t, "sweep"):
		at := rapid.SampledFrom(deadlines).Draw(t, "deadline")
		return Op{Kind: OpSweep, Key: []byte(at.key), Deadline: at.deadline}
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

// drawLeaf draws a put, delete, add, expire or get.
func drawLeaf(t *rapid.T) Op {
	op := Op{Key: rapid.SampledFrom(someKeys).Draw(t, "key")}
	op.Kind = rapid.SampledFrom([]OpKind{OpPut, OpPut, OpPut, OpDelete, OpAdd, OpExpire, OpGet}).Draw(t, "kind")
	switch op.Kind {
	case OpPut:
		op.Value = []byte(rapid.SampledFrom([]string{"", "x", "\x00\xff", "7", "-3", "07", "9223372036854775807"}).Draw(t, "value"))
		op.Expiry = rapid.SampledFrom([]Expiry{NoExpiry, NoExpiry, KeepExpiry, ExpireAfter}).Draw(t, "expiry")
	case OpExpire:
		op.Expiry = rapid.SampledFrom([]Expiry{NoExpiry, ExpireAfter, ExpireAfter}).Draw(t, "expiry")
	case OpAdd:
		op.Delta = rapid.SampledFrom([]int64{0, 1, -5, 1 << 62, -1 << 63}).Draw(t, "delta")
	}
	if op.Kind == OpPut || op.Kind == OpDelete {
		op.Previous = rapid.Bool().Draw(t, "previous")
	}
	if op.Expiry == ExpireAfter {
		op.TTL = rapid.SampledFrom([]uint64{1, 20, 50, maxTTLMicros}).Draw(t, "ttl")
	}
	return op
}

// drawTxn draws a transaction over the keys of one slot.
func drawTxn(t *rapid.T) *Txn {
	txn := new(Txn)
	for range rapid.IntRange(0, 2).Draw(t, "compares") {
		c := Compare{
			Kind: CompareKind(rapid.IntRange(1, int(CompareValueGreater)).Draw(t, "compare")),
			Key:  rapid.SampledFrom(oneSlot).Draw(t, "key"),
		}
		switch {
		case c.Kind.ofVersion():
			c.Version = rapid.Uint64Max(300).Draw(t, "version")
		case c.Kind.ofValue():
			c.Value = []byte(rapid.SampledFrom([]string{"", "7", "x"}).Draw(t, "value"))
		}
		txn.Compares = append(txn.Compares, c)
	}
	leaves := func(least int, what string) (ops []Op) {
		for range rapid.IntRange(least, 12).Draw(t, what) {
			op := drawLeaf(t)
			op.Key = rapid.SampledFrom(oneSlot).Draw(t, "key")
			ops = append(ops, op)
		}
		return ops
	}
	txn.Then, txn.Else = leaves(1, "then"), leaves(0, "else")
	return txn
}

// applyLog applies one entry of the log without finishing the batch.
func applyLog(t *rapid.T, m *Machine, w Batch, l *logEntry) []Result {
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

// TestRS3_MachineDoesWhatItsTwinDoes compares every answer, the data, the index of
// deadlines, the changes and the request table with the twin's after every entry.
func TestRS3_MachineDoesWhatItsTwinDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rec := drawShard(t)
		m, s := bornRapid(t, rec)
		twin := newTwin(rec, smallLimits)
		for _, l := range drawLog(t) {
			b := newBatch(s)
			got := applyLog(t, m, b, &l)
			if err := m.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			if l.configuration != nil {
				continue
			}
			want := twin.apply(l.index, l.term, &l.entry)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entry %d: results\n%s", l.index, diff)
			}
			if diff := cmp.Diff(marksOf(&l), m.Marks(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entry %d: marks\n%s", l.index, diff)
			}
			if diff := cmp.Diff(twin.changes, m.Changes(), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("entry %d: changes\n%s", l.index, diff)
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
		if err != nil || v.Version != want.version || v.Expires != want.expires || string(v.Data) != want.data {
			t.Fatalf("key %q holds %+v (%v), want %+v", k, v, err, want)
		}
		delete(left, key)
	}
	for k := range twin.deadlines {
		key := string(DeadlineKey(nil, SlotFor(rec.Shard, []byte(k.key)), k.deadline, []byte(k.key)))
		if s[key] != string(deadlineFormat) {
			t.Fatalf("the index lacks %q at %d", k.key, k.deadline)
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
			b := newBatch(s)
			results := applyLog(t, steady, b, &l)
			if err := steady.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			raw, index := steady.Configuration()
			history[l.index] = moment{results, s.dump(), mustHash(t, s, rec), dumpTable(steady.requests), string(raw), index}
		}

		restless, s := bornRapid(t, rec)
		b := newBatch(s)
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
				restless, b = loadRapid(t, s, rec), newBatch(s)
				i = lastApplied(log, restless)
				continue
			}
			if err := restless.Finish(b); err != nil {
				t.Fatal(err)
			}
			b.commit(s)
			b = newBatch(s)
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
			b, bo := newBatch(s), newBatch(so)
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
