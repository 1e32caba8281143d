package scan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// pair is a key of the store.
type pair struct{ key, value []byte }

// list is a cursor over sorted pairs. Its keys and values are overwritten when it
// moves, as a database's may be.
type list struct {
	pairs      []pair
	at         int
	key, value []byte
	fail       error // what every move meets
	seeks      int
}

func (l *list) to(at int) bool {
	for i := range l.key {
		l.key[i] = 0xEE
	}
	for i := range l.value {
		l.value[i] = 0xEE
	}
	l.at = at
	if l.fail != nil || at < 0 || at >= len(l.pairs) {
		return false
	}
	l.key, l.value = bytes.Clone(l.pairs[at].key), bytes.Clone(l.pairs[at].value)
	return true
}

func (l *list) find(key []byte) int {
	l.seeks++
	i, _ := slices.BinarySearchFunc(l.pairs, key, func(p pair, k []byte) int { return bytes.Compare(p.key, k) })
	return i
}

func (l *list) SeekGE(key []byte) bool       { return l.to(l.find(key)) }
func (l *list) SeekLT(key []byte) bool       { return l.to(l.find(key) - 1) }
func (l *list) Next() bool                   { return l.to(l.at + 1) }
func (l *list) Prev() bool                   { return l.to(l.at - 1) }
func (l *list) Key() []byte                  { return l.key }
func (l *list) ValueAndErr() ([]byte, error) { return l.value, nil }
func (l *list) Error() error                 { return l.fail }

// data is the plain model: what a shard holds.
type data map[string]state.Value

// store lays the data out, with the shard's own keys before it and an index of
// deadlines behind each slot's.
func (d data) store(arc shardmap.Arc) *list {
	l := &list{}
	put := func(k, v []byte) { l.pairs = append(l.pairs, pair{k, v}) }
	put(state.RecordKey(arc.From), []byte("record"))
	put(state.AppliedKey(arc.From), []byte("applied"))
	for key, v := range d {
		slot := shardmap.SlotOf([]byte(key))
		if !arc.Contains(slot) {
			continue
		}
		put(state.DataKey(nil, slot, []byte(key)), v.AppendTo(nil))
		if v.Expires != 0 {
			_, behind := state.SlotDataSpan(slot)
			put(append(append(behind, 0x0f), key...), []byte("deadline"))
		}
	}
	slices.SortFunc(l.pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return l
}

// expect is what a scan must give, by sorting everything.
func (d data) expect(s Spec) []Item {
	var items []Item
	for key, v := range d {
		k := []byte(key)
		if !s.Slots.Contains(shardmap.SlotOf(k)) || bytes.Compare(k, s.From) < 0 || len(s.To) > 0 && bytes.Compare(k, s.To) >= 0 ||
			v.Due(s.Now) || len(s.After) > 0 && compare(s, k, s.After) <= 0 {
			continue
		}
		i := Item{Key: k, Version: v.Version, Expires: v.Expires}
		if !s.KeysOnly {
			i.Value = v.Data
		}
		items = append(items, i)
	}
	slices.SortFunc(items, func(a, b Item) int { return compare(s, a.Key, b.Key) })
	if s.Limit > 0 && uint64(len(items)) > s.Limit {
		items = items[:s.Limit]
	}
	return items
}

func compare(s Spec, a, b []byte) int {
	c := bytes.Compare(a, b)
	if s.Order == BySlot {
		c = cmp.Or(cmp.Compare(shardmap.SlotOf(a), shardmap.SlotOf(b)), c)
	}
	if s.Reverse {
		return -c
	}
	return c
}

// run scans to the end and says how many keys were counted.
func run(s *Scan, b Bounds) (items []Item, count uint64, err error) {
	for {
		p, err := s.Page(b)
		if err != nil {
			return nil, 0, err
		}
		items, count = append(items, p.Items...), count+p.Count
		if p.Done {
			return items, count, nil
		}
	}
}

func same(got, want []Item) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d items, want %d: %q, want %q", len(got), len(want), keysOf(got), keysOf(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if !bytes.Equal(g.Key, w.Key) || !bytes.Equal(g.Value, w.Value) || g.Version != w.Version || g.Expires != w.Expires {
			return fmt.Sprintf("item %d is %+v, want %+v", i, g, w)
		}
	}
	return ""
}

func keysOf(items []Item) (keys []string) {
	for _, i := range items {
		keys = append(keys, string(i.Key))
	}
	return keys
}

// drawKey makes keys that meet: short, binary, of few slots, or of one hash tag.
func drawKey(t *rapid.T, label string) []byte {
	body := rapid.SliceOfN(rapid.SampledFrom([]byte("ab{}\x00\xff")), 0, 6).Draw(t, label)
	switch rapid.IntRange(0, 3).Draw(t, label+" form") {
	case 0:
		return append([]byte("{t}"), body...)
	case 1:
		return append([]byte{'{', byte('0' + rapid.IntRange(0, 2).Draw(t, label+" tag")), '}'}, body...)
	}
	if len(body) == 0 {
		return []byte("k")
	}
	return body
}

func drawData(t *rapid.T) data {
	d := data{}
	for range rapid.IntRange(0, 60).Draw(t, "keys") {
		v := state.Value{Version: rapid.Uint64Range(1, 99).Draw(t, "version"), Data: rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")}
		if rapid.IntRange(0, 3).Draw(t, "deadline") == 0 {
			v.Expires = rapid.Uint64Range(1, 20).Draw(t, "expires")
		}
		d[string(drawKey(t, "key"))] = v
	}
	return d
}

func drawSpec(t *rapid.T, arc shardmap.Arc) Spec {
	s := Spec{
		Shard: 2, Slots: arc, Now: 10, Reverse: rapid.Bool().Draw(t, "reverse"), Order: Order(rapid.IntRange(0, 1).Draw(t, "order")),
		KeysOnly: rapid.Bool().Draw(t, "keys only"), Limit: rapid.SampledFrom([]uint64{0, 0, 1, 3, 1000}).Draw(t, "limit"),
	}
	if rapid.Bool().Draw(t, "sub-arc") {
		s.Slots.From = shardmap.Slot(rapid.IntRange(int(arc.From), int(arc.To)-1).Draw(t, "from slot"))
		s.Slots.To = shardmap.Slot(rapid.IntRange(int(s.Slots.From)+1, int(arc.To)).Draw(t, "to slot"))
	}
	bound := func(label string) []byte {
		if rapid.Bool().Draw(t, label+" open") {
			return nil
		}
		return drawKey(t, label)
	}
	s.From, s.To, s.After = bound("from"), bound("to"), bound("after")
	if len(s.To) > 0 && bytes.Compare(s.From, s.To) > 0 {
		s.From, s.To = s.To, s.From
	}
	return s
}

func drawArc(t *rapid.T) shardmap.Arc {
	if rapid.Bool().Draw(t, "whole ring") {
		return shardmap.Arc{From: 0, To: shardmap.Slots}
	}
	from := rapid.IntRange(0, shardmap.Slots-1).Draw(t, "arc from")
	return shardmap.Arc{From: shardmap.Slot(from), To: shardmap.Slot(rapid.IntRange(from+1, shardmap.Slots).Draw(t, "arc to"))}
}

func drawBounds(t *rapid.T) Bounds {
	return Bounds{
		Items: rapid.SampledFrom([]int{0, 1, 3, 1000}).Draw(t, "items"), Bytes: rapid.SampledFrom([]int{0, 100, 1 << 20}).Draw(t, "bytes"),
		Steps: rapid.SampledFrom([]int{0, 1, 7, 100000}).Draw(t, "steps"),
	}
}

// newBounded is New with less room for heads, so that they are filled again.
func newBounded(t *rapid.T, s Spec, at Cursor) *Scan {
	sc := New(s, at)
	if m, ok := sc.walk.(*merge); ok {
		m.bound = rapid.SampledFrom([]int{1, 20000, HeadBytes}).Draw(t, "room for heads")
	}
	return sc
}

// A scan gives what a model that sorts everything gives, whatever the range, order,
// direction and pages; and a merge keeps to its room.
func TestScanAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, arc := drawData(t), drawArc(t)
		spec, bounds := drawSpec(t, arc), drawBounds(t)
		if err := spec.Validate(); err != nil {
			t.Fatal(err)
		}
		spec.CountOnly = rapid.Bool().Draw(t, "count only")
		want := data(d).expect(spec)
		s := newBounded(t, spec, d.store(arc))
		got, count, err := run(s, bounds)
		if err != nil {
			t.Fatal(err)
		}
		if count != uint64(len(want)) {
			t.Fatalf("counted %d, want %d", count, len(want))
		}
		if spec.CountOnly {
			want = nil
		}
		if diff := same(got, want); diff != "" {
			t.Fatal(diff)
		}
		if held := s.Held(); spec.Limit == 0 && held != 0 {
			t.Fatalf("%d bytes are held at the end", held)
		}
	})
}

// A scan that is broken off anywhere, and goes on behind its last key in a view in
// which other keys came, went and fell due, gives every key that did not change
// exactly once and in order.
func TestResumedScans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, arc := drawData(t), drawArc(t)
		spec := drawSpec(t, arc)
		spec.Limit, spec.KeysOnly = 0, false
		all := data(d).expect(spec)
		stable := map[string]bool{}
		for _, i := range all {
			stable[string(i.Key)] = true
		}
		var got []Item
		first := spec
		for round := 0; ; round++ {
			s := newBounded(t, spec, d.store(arc))
			var last Page
			for range rapid.IntRange(1, 4).Draw(t, "pages") {
				p, err := s.Page(drawBounds(t))
				if err != nil {
					t.Fatal(err)
				}
				got, last = append(got, p.Items...), p
				if p.Done {
					break
				}
			}
			if last.Done || round > 300 {
				break
			}
			spec.After = last.Last
			next := data{}
			for k, v := range d {
				if stable[k] && rapid.IntRange(0, 9).Draw(t, "goes") == 0 {
					delete(stable, k)
				}
				if stable[k] {
					next[k] = v
				}
			}
			for range rapid.IntRange(0, 3).Draw(t, "come") {
				if k := string(drawKey(t, "new key")); !stable[k] {
					next[k] = state.Value{Version: 100 + uint64(round), Data: []byte("new")}
				}
			}
			d = next
		}
		seen := map[string]bool{}
		for i, item := range got {
			if i > 0 && compare(first, got[i-1].Key, item.Key) >= 0 {
				t.Fatalf("%q comes after %q", item.Key, got[i-1].Key)
			}
			seen[string(item.Key)] = true
		}
		for k := range stable {
			if !seen[k] {
				t.Fatalf("%q was always there and is missing", k)
			}
		}
	})
}

func fill(n int, key func(int) string) data {
	d := data{}
	for i := range n {
		d[key(i)] = state.Value{Version: uint64(i + 1), Data: []byte("v")}
	}
	return d
}

// What a hash tag names is one slot: one seek, whatever the order.
func TestAHashTagIsOneSeek(t *testing.T) {
	d := fill(2000, func(i int) string { return fmt.Sprintf("{user}%05d", i) })
	for k, v := range fill(5000, func(i int) string { return fmt.Sprint("other", i) }) {
		d[k] = v
	}
	slot := shardmap.SlotOf([]byte("{user}"))
	for _, order := range []Order{BySlot, ByKey} {
		for _, reverse := range []bool{false, true} {
			at := d.store(shardmap.Arc{To: shardmap.Slots})
			s := New(Spec{Shard: 2, Slots: shardmap.Arc{From: slot, To: slot + 1}, From: []byte("{user}"), To: []byte("{user~"),
				Order: order, Reverse: reverse}, at)
			items, _, err := run(s, Bounds{Items: 1000, Bytes: 1 << 20, Steps: 1 << 20})
			if err != nil || len(items) != 2000 {
				t.Fatalf("%d items, %v", len(items), err)
			}
			if c := s.Cost(); c.Seeks != 1 || at.seeks != 1 || c.Examined != 2000 {
				t.Errorf("order %d, reverse %t: %+v, %d seeks in truth", order, reverse, c, at.seeks)
			}
		}
	}
}

// Costs grow with the keys and the slots that hold some, not with the ring.
func TestCosts(t *testing.T) {
	d := fill(3000, func(i int) string { return fmt.Sprint("key", i) })
	slots := map[shardmap.Slot]bool{}
	for k := range d {
		slots[shardmap.SlotOf([]byte(k))] = true
	}
	for _, tc := range []struct {
		name string
		spec Spec
		most uint64 // seeks
	}{
		{"by slot, open", Spec{}, 1},
		{"by slot, open, reverse", Spec{Reverse: true}, 2},
		{"by slot, a range", Spec{From: []byte("key")}, uint64(len(slots)) + 2},
		{"by key, keys only", Spec{Order: ByKey, KeysOnly: true}, uint64(len(slots)) + 2},
		{"by key", Spec{Order: ByKey}, uint64(len(slots)) + 2 + 3000},
	} {
		tc.spec.Shard, tc.spec.Slots = 2, shardmap.Arc{To: shardmap.Slots}
		at := d.store(tc.spec.Slots)
		s := New(tc.spec, at)
		items, _, err := run(s, Bounds{Items: 1000, Bytes: 1 << 20, Steps: 1 << 20})
		if err != nil || len(items) != 3000 {
			t.Fatalf("%s: %d items, %v", tc.name, len(items), err)
		}
		if c := s.Cost(); c.Seeks > tc.most || c.Seeks != uint64(at.seeks) || c.Examined < 3000 || c.Examined > 6000 {
			t.Errorf("%s: %+v; at most %d seeks were due, %d were made", tc.name, c, tc.most, at.seeks)
		}
	}
}

// P9: a merge holds no more than its room and a key for each slot.
func TestP9_HeadsAreBounded(t *testing.T) {
	const room = 100_000
	long := bytes.Repeat([]byte("x"), 1000)
	d := fill(5000, func(i int) string { return fmt.Sprintf("{%d}%05d%s", i%50, i, long) })
	s := New(Spec{Shard: 2, Slots: shardmap.Arc{To: shardmap.Slots}, Order: ByKey}, d.store(shardmap.Arc{To: shardmap.Slots}))
	s.walk.(*merge).bound = room
	most, got := 0, 0
	for {
		p, err := s.Page(Bounds{Items: 10, Bytes: 1 << 20, Steps: 1000})
		if err != nil {
			t.Fatal(err)
		}
		most, got = max(most, s.Held()), got+len(p.Items)
		if p.Done {
			break
		}
	}
	if bound := room + 50*(1100+entryOverhead+headOverhead); most > bound || most < room/2 {
		t.Errorf("%d bytes were held; the bound is %d", most, bound)
	}
	if got != 5000 {
		t.Errorf("%d items", got)
	}
}

func TestPagesKeepToTheirBounds(t *testing.T) {
	d := fill(500, func(i int) string { return fmt.Sprintf("{a}%03d", i) })
	arc := shardmap.Arc{To: shardmap.Slots}
	for _, b := range []Bounds{{Items: 7, Bytes: 1 << 20, Steps: 1 << 20}, {Items: 1000, Bytes: 500, Steps: 1 << 20}, {Items: 1000, Bytes: 1 << 20, Steps: 9}} {
		s := New(Spec{Shard: 2, Slots: arc}, d.store(arc))
		for {
			before := s.Cost()
			p, err := s.Page(b)
			if err != nil {
				t.Fatal(err)
			}
			after := s.Cost()
			steps := int(after.Seeks + after.Examined - before.Seeks - before.Examined)
			if len(p.Items) > b.Items || p.Bytes > b.Bytes+itemOverhead+8 || steps > b.Steps+1 {
				t.Fatalf("bounds %+v: a page of %d items, %d bytes, %d steps", b, len(p.Items), p.Bytes, steps)
			}
			if p.Done {
				break
			}
		}
	}
}

func TestAFailingCursorIsTold(t *testing.T) {
	broken := errors.New("the disk is on fire")
	arc := shardmap.Arc{To: shardmap.Slots}
	for _, order := range []Order{BySlot, ByKey} {
		at := fill(10, func(i int) string { return fmt.Sprint(i) }).store(arc)
		s := New(Spec{Shard: 2, Slots: arc, Order: order}, at)
		if _, err := s.Page(Bounds{Items: 1, Bytes: 1, Steps: 1}); err != nil {
			t.Fatal(err)
		}
		at.fail = broken
		if _, _, err := run(s, Bounds{Items: 1, Bytes: 1, Steps: 1}); !errors.Is(err, broken) {
			t.Errorf("order %d: a scan of a broken store ended with %v", order, err)
		}
	}
}

func TestValidate(t *testing.T) {
	ring := shardmap.Arc{To: shardmap.Slots}
	long := make([]byte, state.MaxKeyBytes+2)
	for name, s := range map[string]Spec{
		"no slots":    {Slots: shardmap.Arc{From: 5, To: 5}},
		"off ring":    {Slots: shardmap.Arc{From: 5, To: shardmap.SlotEnd + 1}},
		"order":       {Slots: ring, Order: 2},
		"range":       {Slots: ring, From: []byte("b"), To: []byte("a")},
		"long from":   {Slots: ring, From: long},
		"long after":  {Slots: ring, After: long},
		"long to":     {Slots: ring, To: long},
		"turned arc":  {Slots: shardmap.Arc{From: 6, To: 5}},
		"range by 1B": {Slots: ring, From: []byte("a\x00"), To: []byte("a")},
	} {
		if err := s.Validate(); kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]Spec{
		"all":       {Slots: ring},
		"empty":     {Slots: ring, From: []byte("a"), To: []byte("a")},
		"binary":    {Slots: ring, From: []byte{0}, To: []byte{0xff, 0xff}},
		"longest":   {Slots: ring, From: long[:state.MaxKeyBytes+1]},
		"only from": {Slots: ring, From: []byte("z")},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
