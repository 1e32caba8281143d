package state

import (
	"bytes"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringfort/ringfort/internal/kverr"
)

const ahead = maxRequestAheadMicros

func request(client byte, number, lowestOpen, notAfter uint64) RequestID {
	return RequestID{Client: ClientID{client}, Number: number, LowestOpen: lowestOpen, NotAfter: notAfter}
}

// TestRS3_RulesOfARequest walks through every rule, on its edge, in one life of a
// table of at most 4 records, 3 of one client, and 2 clients.
func TestRS3_RulesOfARequest(t *testing.T) {
	l := limits{records: 4, recordsPerClient: 3, clients: 2, sweep: 10, slack: 16}
	m, s := newMachine(t, fullRecord(), l), make(store)
	const now = 1000
	refused := func(v Verdict) Result { return Result{Verdict: v} }
	applied := func(version uint64) Result { return Result{Verdict: Applied, Version: version} }
	repeated := func(version uint64) Result { return Result{Verdict: Applied, Version: version, Repeated: true} }
	for _, step := range []struct {
		name string
		time uint64
		req  RequestID
		want Result
	}{
		{"no identity", now, RequestID{}, applied(now)},
		{"no identity again", now, RequestID{}, applied(now + 1)},
		{"past its time", now, request(1, 5, 0, now-1), refused(Expired)},
		{"too far ahead", now, request(1, 5, 0, now+ahead+1), refused(TooFar)},
		{"first", now, request(1, 5, 0, now+100), applied(now + 2)},
		{"again", now, request(1, 5, 0, now+100), repeated(now + 2)},
		{"same number, other client", now, request(2, 5, 0, now+ahead), applied(now + 3)},
		{"third client", now, request(3, 5, 0, now+50), refused(TableFull)},
		{"lower number, still open", now, request(1, 3, 0, now+100), applied(now + 4)},
		{"third of the client", now, request(1, 4, 3, now+100), applied(now + 5)},
		{"fourth of the client", now, request(1, 6, 3, now+100), refused(TableFull)},
		{"table full", now, request(2, 6, 0, now+100), refused(TableFull)},
		{"repeat at the bound", now, request(1, 4, 3, now+100), repeated(now + 5)},
		{"closing at the bound, own number closed too", now, request(1, 3, 4, now+100), refused(StaleDuplicate)},
		{"closed number", now, request(1, 3, 0, now+100), refused(StaleDuplicate)},
		{"room again", now, request(1, 6, 4, now+100), applied(now + 6)},
		{"number and lowest open contradict", now, request(1, 7, 8, now+100), refused(StaleDuplicate)},
		{"which closed all of them", now, request(1, 6, 4, now+100), refused(StaleDuplicate)},
		{"a lower lowest open opens nothing", now, request(1, 7, 1, now+100), refused(StaleDuplicate)},
		{"on the last microsecond", now + 100, request(1, 8, 8, now+100), applied(now + 100)},
		{"again on the last microsecond", now + 100, request(1, 8, 8, now+100), repeated(now + 100)},
		{"past its time, though recorded", now + 101, request(1, 8, 8, now+100), refused(Expired)},
	} {
		got := apply(t, m, s, Entry{ShardTime: step.time, Ops: []Op{put("k", step.name, step.req)}})[0]
		if got != step.want {
			t.Fatalf("%s: got %+v, want %+v", step.name, got, step.want)
		}
		checkTable(t, m)
	}
}

// TestRS3_ShardTimeDecides: a request expires by replicated time even when the
// entry that carries it was stamped earlier.
func TestRS3_ShardTimeDecides(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), make(store)
	apply(t, m, s, Entry{ShardTime: 2000})
	res := apply(t, m, s, Entry{ShardTime: 1000, Ops: []Op{
		put("k", "v", request(1, 1, 1, 1999)), put("k", "v", request(1, 1, 1, 2000))}})
	want := []Result{{Verdict: Expired}, {Verdict: Applied, Version: 2000}}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Error(diff)
	}
}

// TestExpiryIsBoundedPerEntry: a long idle shard drops its expired records over
// several entries.
func TestExpiryIsBoundedPerEntry(t *testing.T) {
	l := defaultLimits
	l.sweep = 10
	m, s := newMachine(t, fullRecord(), l), born(t, fullRecord())
	keys := len(s)
	const entries = 100
	for i := range entries {
		apply(t, m, s, Entry{ShardTime: 1000, Ops: []Op{put("k", "v", request(byte(i), 1, 1, 1100))}})
	}
	if got := m.Requests(); got.Records != entries || got.Clients != entries || len(s) != keys+entries+1 {
		t.Fatalf("%+v, %d keys", got, len(s))
	}
	for left := entries; left > 0; {
		apply(t, m, s, Entry{ShardTime: 1101})
		left -= l.sweep / 2 // a page with one answer counts as two
		if got := m.Requests(); got.Records != left || got.Clients != left || len(s) != keys+left+1 {
			t.Fatalf("want %d left, got %+v, %d keys", left, got, len(s))
		}
		checkTable(t, m)
	}
}

// TestClientOutlivesItsRecords: the lowest open number of a client that closed
// everything is kept, through a restart, for as long as an old attempt could
// come, and no longer.
func TestClientOutlivesItsRecords(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), born(t, fullRecord())
	apply(t, m, s, Entry{ShardTime: 1000, Ops: []Op{put("k", "v", request(1, 1, 1, 5000))}})
	apply(t, m, s, Entry{ShardTime: 1000, Ops: []Op{put("k", "v", request(1, 2, 2, 1100))}})
	// Past the not-after of number 2, but not of number 1.
	late := Entry{ShardTime: 2000, Ops: []Op{put("k", "v", request(1, 1, 1, 5000))}}
	for range 2 {
		if got := apply(t, m, s, late)[0].Verdict; got != StaleDuplicate {
			t.Fatalf("late attempt of a closed number: %v", got)
		}
		m = reload(t, s, defaultLimits)
	}
	apply(t, m, s, Entry{ShardTime: 5001})
	if got := m.Requests(); got != (RequestStats{}) {
		t.Errorf("still there: %+v", got)
	}
	if len(s) != len(born(t, fullRecord()))+1 {
		t.Errorf("store holds\n%s", s.dump())
	}
}

// TestPagesAreThinned: an idle client must not keep the closed answers of those
// who were served in the same entries.
func TestPagesAreThinned(t *testing.T) {
	m, s := newMachine(t, fullRecord(), defaultLimits), born(t, fullRecord())
	var next uint64
	entry := func(idle byte) Entry {
		e := Entry{ShardTime: 1000, Ops: []Op{put("k", "v", request(idle, 1, 1, 2000))}}
		lowestOpen := max(next, 1)
		for range 500 {
			next++
			e.Ops = append(e.Ops, put("k", "v", request(0, next, lowestOpen, 2000)))
		}
		return e
	}
	for i := range 50 {
		apply(t, m, s, entry(byte(i+1)))
		checkTable(t, m)
	}
	total := 0
	for k, v := range s {
		if _, ok := parseRequestKey([]byte(k), 0); ok {
			total += len(v)
		}
	}
	if total > 8<<10 {
		t.Errorf("51 clients with 551 open records take %d bytes", total)
	}
	before := dumpTable(m.requests)
	m = reload(t, s, defaultLimits)
	if diff := cmp.Diff(before, dumpTable(m.requests)); diff != "" {
		t.Error(diff)
	}
}

func reload(t testing.TB, s store, l limits) *Machine {
	t.Helper()
	m, found, err := load(s, 0, l)
	if err != nil || !found {
		t.Fatalf("loading again: %t, %v", found, err)
	}
	return m
}

// handmade encodes a page from single bytes and client ids:
// format, horizon, mentions {client, not-after, lowest open}, answers {mention, number, version, detail}.
func handmade(fields ...any) string {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = append(b, byte(f))
		case ClientID:
			b = append(b, f[:]...)
		}
	}
	return string(b)
}

// TestRS4_LoadRefusesImpossiblePages: a table that no machine can have left is
// damage.
func TestRS4_LoadRefusesImpossiblePages(t *testing.T) {
	base := born(t, fullRecord())
	m := reload(t, base, defaultLimits)
	for range 2 {
		apply(t, m, base, Entry{ShardTime: 1000, Ops: []Op{put("k", "v", RequestID{})}})
	}
	key := func(i uint64) string { return string(appendRequestKey(nil, 0, birthIndex+i)) }
	one, two := ClientID{1}, ClientID{2}
	const plus3 = 6 // a distance of 3, as appendNear writes it
	good := handmade(2, 100, 2, one, 1, 2, two, 51, 0, 2, 0, plus3, 7, 0, 1, plus3, 1, 0)
	later := handmade(2, 101, 1, one, 1, 3, 0)
	for _, tc := range []struct {
		name  string
		pages map[uint64]string
		kind  kverr.Kind
	}{
		{"sound", map[uint64]string{1: good, 2: later}, kverr.None},
		{"entry not applied yet", map[uint64]string{3: good}, kverr.Internal},
		{"entry 0", map[uint64]string{^uint64(birthIndex) + 1: good}, kverr.Internal},
		{"newer format", map[uint64]string{1: "\x03" + good[1:]}, kverr.Format},
		{"empty", map[uint64]string{1: ""}, kverr.Internal},
		{"stray byte", map[uint64]string{1: good + "\x00"}, kverr.Internal},
		{"page that nothing needs", map[uint64]string{1: later, 2: later}, kverr.Internal},
		{"page without client", map[uint64]string{1: handmade(2, 100, 0, 0)}, kverr.Internal},
		{"horizon falls", map[uint64]string{1: good, 2: handmade(2, 99, 1, ClientID{3}, 1, 3, 0)}, kverr.Internal},
		{"horizon too far", map[uint64]string{1: "\x02\xff\xff\xff\xff\x7f" + good[2:]}, kverr.Internal},
		{"lowest open falls", map[uint64]string{1: good, 2: handmade(2, 101, 1, one, 1, 1, 0)}, kverr.Internal},
		{"not-after falls", map[uint64]string{1: good, 2: handmade(2, 101, 1, one, 3, 3, 0)}, kverr.Internal},
		{"client mentioned twice", map[uint64]string{1: handmade(2, 100, 2, one, 1, 2, one, 1, 2, 0)}, kverr.Internal},
		{"answer of no client", map[uint64]string{1: handmade(2, 100, 1, one, 1, 2, 1, 1, plus3, 1, 0)}, kverr.Internal},
		{"answer closed", map[uint64]string{1: handmade(2, 100, 1, one, 1, 4, 1, 0, plus3, 1, 0)}, kverr.Internal},
		{"number 0", map[uint64]string{1: handmade(2, 100, 1, one, 1, 0, 1, 0, 0, 1, 0)}, kverr.Internal},
		{"number known", map[uint64]string{1: good, 2: handmade(2, 101, 1, one, 1, 2, 1, 0, plus3, 9, 0)}, kverr.Internal},
		{"version does not rise", map[uint64]string{1: handmade(2, 100, 1, one, 1, 2, 2, 0, plus3, 7, 0, 0, 2, 0, 0)}, kverr.Internal},
		{"sound detail", map[uint64]string{1: handmade(2, 100, 1, one, 1, 2, 1, 0, plus3, 1, 2, int(CondFailed), 0)}, kverr.None},
		{"malformed detail", map[uint64]string{1: handmade(2, 100, 1, one, 1, 2, 1, 0, plus3, 1, 2, int(CondFailed), 128)}, kverr.Internal},
		{"detail of a refusal", map[uint64]string{1: handmade(2, 100, 1, one, 1, 2, 1, 0, plus3, 1, 2, int(TableFull), 0)}, kverr.Internal},
		{"version not given out", map[uint64]string{1: good[:len(good)-2] + "\xff\x7f\x00"}, kverr.Internal},
	} {
		s := maps.Clone(base)
		for i, page := range tc.pages {
			s[key(i)] = page
		}
		_, _, err := Load(s, 0)
		if tc.kind == kverr.None {
			if err != nil {
				t.Fatalf("%s: %v", tc.name, err)
			}
			continue
		}
		wantKind(t, tc.name, err, tc.kind)
	}
}

// FuzzLoadRequestTable loads one hand-made page: whatever it is, it is refused
// or becomes a sound table that writes the same page.
func FuzzLoadRequestTable(f *testing.F) {
	f.Add([]byte(handmade(2, 100, 2, ClientID{1}, 1, 2, ClientID{2}, 51, 0, 2, 0, 6, 7, 0, 1, 6, 1, 0)))
	f.Add([]byte(handmade(2, 101, 1, ClientID{1}, 1, 3, 0)))
	f.Add([]byte(handmade(2, 101, 1, ClientID{1}, 0, 1, 0, 6, 1, 0)))
	position := AppliedState{Index: 20, Term: 5, ShardTime: 1000, LastVersion: 1000}
	f.Fuzz(func(t *testing.T, page []byte) {
		s := store{string(appendRequestKey(nil, 0, 11)): string(page)}
		table, err := loadTable(s, 0, &position, defaultLimits)
		if err != nil {
			return
		}
		checkTable(t, &Machine{requests: table})
		// A page that says of a client "its home is later" without one is sound as far
		// as it goes, and is the only thing that is not written back as it was read.
		if again := table.pages.oldest.appendTo(nil); len(again) == len(page) && !bytes.Equal(again, page) {
			t.Fatalf("%x loads as what is written as %x", page, again)
		}
	})
}
