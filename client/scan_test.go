package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// fill puts keys into the model and returns them in order.
func (m *model) fill(t *testing.T, c *Client, keys ...string) []string {
	t.Helper()
	var pairs []KV
	for _, key := range keys {
		pairs = append(pairs, KV{key, []byte("v:" + key)})
	}
	if _, err := c.PutMany(within(t, time.Minute), pairs); err != nil {
		t.Fatal(err)
	}
	sorted := slices.Clone(keys)
	slices.Sort(sorted)
	return sorted
}

func numbered(format string, n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf(format, i))
	}
	return keys
}

func keysOf(t *testing.T, seq iter.Seq2[Item, error]) (keys []string) {
	t.Helper()
	for item, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, item.Key)
	}
	return keys
}

func bySlot(keys []string) []string {
	sorted := slices.Clone(keys)
	slices.SortFunc(sorted, func(a, b string) int {
		return cmp.Or(cmp.Compare(shardmap.SlotOf([]byte(a)), shardmap.SlotOf([]byte(b))), cmp.Compare(a, b))
	})
	return sorted
}

func reversed(keys []string) []string {
	out := slices.Clone(keys)
	slices.Reverse(out)
	return out
}

func TestScanOrders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 4)
		c, ctx := m.w.open("n1:7400,n2:7400"), context.Background()
		keys := m.fill(t, c, append(numbered("k%02d", 40), "{tag}1", "{tag}2", "z", "\xff\xff", "a\x00b")...)
		for name, row := range map[string]struct {
			got, want []string
		}{
			"all":                    {keysOf(t, c.Scan(ctx, All())), keys},
			"reverse":                {keysOf(t, c.Scan(ctx, All(), Reverse())), reversed(keys)},
			"by slot":                {keysOf(t, c.Scan(ctx, All(), BySlot())), bySlot(keys)},
			"by slot, reverse":       {keysOf(t, c.Scan(ctx, All(), BySlot(), Reverse())), reversed(bySlot(keys))},
			"limit":                  {keysOf(t, c.Scan(ctx, All(), Limit(7))), keys[:7]},
			"limit, reverse":         {keysOf(t, c.Scan(ctx, All(), Limit(7), Reverse())), reversed(keys)[:7]},
			"limit by slot":          {keysOf(t, c.Scan(ctx, All(), Limit(30), BySlot())), bySlot(keys)[:30]},
			"prefix":                 {keysOf(t, c.Scan(ctx, Prefix("k1"))), numbered("k1%d", 10)},
			"prefix of high bytes":   {keysOf(t, c.Scan(ctx, Prefix("\xff"))), []string{"\xff\xff"}},
			"tag":                    {keysOf(t, c.Scan(ctx, Prefix("{tag}"))), []string{"{tag}1", "{tag}2"}},
			"tag, reverse":           {keysOf(t, c.Scan(ctx, Prefix("{tag}"), Reverse())), []string{"{tag}2", "{tag}1"}},
			"range":                  {keysOf(t, c.Scan(ctx, Range("k10", "k13"))), []string{"k10", "k11", "k12"}},
			"range in a tag":         {keysOf(t, c.Scan(ctx, Range("{tag}2", "{tag}9"))), []string{"{tag}2"}},
			"range without an end":   {keysOf(t, c.Scan(ctx, Range("z", ""))), []string{"z", "{tag}1", "{tag}2", "\xff\xff"}},
			"empty range":            {keysOf(t, c.Scan(ctx, Range("k1", "k1"))), nil},
			"one key":                {keysOf(t, c.Scan(ctx, Key("a\x00b"))), []string{"a\x00b"}},
			"no key":                 {keysOf(t, c.Scan(ctx, Key("a"))), nil},
			"from followers":         {keysOf(t, c.Scan(ctx, All(), FromFollower())), keys},
			"whatever there is":      {keysOf(t, c.Scan(ctx, All(), Any(), FromFollower())), keys},
			"keys only (by default)": {keysOf(t, c.Scan(ctx, All(), KeysOnly(), ByKey())), keys},
		} {
			if !slices.Equal(row.got, row.want) {
				t.Errorf("%s: %q; want %q", name, row.got, row.want)
			}
		}
		m.streams.scans = nil
		var report ScanReport
		for item, err := range c.Scan(ctx, Prefix("{tag}"), WithReport(&report)) {
			if err != nil || string(item.Value) != "v:"+item.Key || item.Served.By != ServedByLeader || item.Served.Node == "" {
				t.Fatalf("%+v, %v", item, err)
			}
		}
		if len(m.streams.scans) != 1 || report.Streams != 1 || report.Items != 2 || report.Examined != 2 || report.Seeks != 1 {
			t.Errorf("a tag took %d streams: %+v", len(m.streams.scans), report)
		}
		slot := shardmap.SlotOf([]byte("{tag}"))
		if a := m.streams.scans[0].GetSlots(); a.GetFrom() != uint32(slot) || a.GetTo() != uint32(slot+1) {
			t.Errorf("a tag is asked for in slots %v", a)
		}
		if n, err := c.Count(ctx, All()); err != nil || n != uint64(len(keys)) {
			t.Error(n, err)
		}
		if n, err := c.Count(ctx, Prefix("k1"), FromFollower(), WithReport(&report)); err != nil || n != 10 || report.Items != 10 || report.Streams != 4 {
			t.Error(n, err, report)
		}
	})
}

// A loop that leaves early leaves nothing behind: the bubble would not end.
func TestScanLeftEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 4)
		c := m.w.open("n1:7400")
		m.fill(t, c, numbered("k%02d", 40)...)
		for item, err := range c.Scan(context.Background(), All()) {
			if item.Key != "k00" || err != nil {
				t.Fatal(item, err)
			}
			break
		}
	})
}

// TestScanThroughTrouble interrupts scans in every way: the keys that do not change
// are all there, once and in order.
func TestScanThroughTrouble(t *testing.T) {
	resumed := 0
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { resumed += troubledScan(t, seed) })
		})
	}
	if resumed < 60 {
		t.Errorf("too quiet: %d streams were taken over", resumed)
	}
}

func troubledScan(t *testing.T, seed uint64) (resumed int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := newModel(t, 3, 1+int(seed%3))
	c := m.w.open("n1:7400,n2:7400,n3:7400")
	keys := m.fill(t, c, numbered("k%03d", 80)...)
	trouble := 0
	var restarting atomic.Bool
	var mu sync.Mutex
	m.streams.onPage = func(n *fakeNode, _ *kvv1.ScanRequest, _ int) error {
		mu.Lock()
		defer mu.Unlock()
		if trouble > 25 || rng.IntN(4) != 0 {
			return nil
		}
		trouble++
		switch rng.IntN(7) {
		case 0:
			m.elect(rng.IntN(3))
			return wire.StatusFromError(kverr.New(kverr.NotLeader, "moved"))
		case 1:
			m.split(shardmap.Slot(1 + rng.IntN(shardmap.Slots-1)))
			return wire.StatusFromError(kverr.New(kverr.Unavailable, "split"))
		case 2:
			n.freeze()
			go func() {
				time.Sleep(7 * time.Second)
				n.thaw()
			}()
			return nil
		case 3:
			if restarting.CompareAndSwap(false, true) {
				go func() {
					n.down()
					time.Sleep(300 * time.Millisecond)
					n.up()
					restarting.Store(false)
				}()
			}
			return nil
		case 4:
			return wire.StatusFromError(&kverr.Error{Kind: kverr.Overloaded, Message: "idle too long", RetryAfter: time.Second})
		case 5:
			return errors.New("some network")
		}
		m.w.nodes[rng.IntN(3)].push(&kvv1.ServerFrame{Map: wire.MapToProto(m.w.theMap())})
		return nil
	}
	opts := []ScanOption{}
	want := keys
	if seed%2 == 1 {
		opts, want = append(opts, BySlot()), bySlot(want)
	}
	if seed/2%2 == 1 {
		opts, want = append(opts, Reverse()), reversed(want)
	}
	if seed/4%2 == 1 {
		opts, want = append(opts, Limit(50)), want[:50]
	}
	if seed/8%2 == 1 {
		opts = append(opts, FromFollower())
	}
	var report ScanReport
	var got []string
	for item, err := range c.Scan(within(t, 10*time.Minute), All(), append(opts, WithReport(&report))...) {
		if err != nil {
			time.Sleep(time.Minute)
			t.Fatal(err)
		}
		got = append(got, item.Key)
		if len(got)%10 == 0 { // something else is written all the time
			m.mu.Lock()
			s := m.shards[len(got)%len(m.shards)]
			m.append(s, modelSet{max(m.now(), s.lastVersion()+1), nil})
			m.mu.Unlock()
		}
	}
	if !slices.Equal(got, want) {
		time.Sleep(time.Minute)
		t.Fatalf("%d keys, want %d: %q", len(got), len(want), got)
	}
	time.Sleep(time.Minute) // what was begun ends
	return report.Resumed
}

// A count that is interrupted counts nothing twice.
func TestCountThroughTrouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 2)
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		m.fill(t, c, numbered("k%03d", 80)...)
		trouble := 0
		m.streams.onPage = func(_ *fakeNode, _ *kvv1.ScanRequest, count int) error {
			if count < 3 {
				return nil
			}
			if trouble++; trouble == 4 {
				m.split(3000)
			}
			m.elect(trouble % 3)
			return wire.StatusFromError(kverr.New(kverr.Unavailable, "again"))
		}
		if n, err := c.Count(within(t, time.Minute), All()); err != nil || n != 80 || trouble < 5 {
			t.Fatal(n, err, trouble)
		}
	})
}

func TestScanFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c := m.w.open("n1:7400", WithTimeout(3*time.Second))
		m.fill(t, c, "a", "b")
		scan := func(ctx context.Context, opts ...ScanOption) (err error) {
			for _, err = range c.Scan(ctx, All(), opts...) {
			}
			return err
		}
		m.streams.onPage = func(*fakeNode, *kvv1.ScanRequest, int) error {
			return wire.StatusFromError(&kverr.Error{Kind: kverr.Unavailable, Message: "no quorum", Shard: 2, Node: "n"})
		}
		var e *Error
		if err := scan(context.Background()); !errors.As(err, &e) || e.Kind != ErrTimeout || e.Op != "scan" || e.Shard != 2 ||
			!strings.Contains(e.Error(), "no quorum") || e.InDoubt {
			t.Error(err)
		}
		if err := scan(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		canceled, cancel := context.WithCancel(context.Background())
		cancel()
		if err := scan(canceled); !errors.Is(err, ErrCanceled) {
			t.Error(err)
		}
		m.streams.onPage = func(*fakeNode, *kvv1.ScanRequest, int) error {
			return wire.StatusFromError(kverr.New(kverr.Invalid, "no"))
		}
		if err := scan(context.Background()); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		go func() {
			time.Sleep(time.Second)
			_ = c.Close()
		}()
		m.streams.onPage = func(n *fakeNode, _ *kvv1.ScanRequest, _ int) error { n.freeze(); return nil }
		if err := scan(context.Background()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestScansThatMakeNoSense(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		scan := func(keys Keys, opts ...ScanOption) (err error) {
			for _, err = range c.Scan(ctx, keys, opts...) {
			}
			return err
		}
		count := func(opts ...ScanOption) error { _, err := c.Count(ctx, All(), opts...); return err }
		for name, row := range map[string]struct {
			err  error
			says string
		}{
			"range":            {scan(Range("b", "a")), `"b", behind its end "a"`},
			"no key":           {scan(Key("")), "empty"},
			"endless bound":    {scan(Range(strings.Repeat("a", 5000), "")), "5000 bytes"},
			"no limit":         {scan(All(), Limit(0)), "not 0"},
			"negative limit":   {scan(All(), Limit(math.MinInt)), "at least 1"},
			"two orders":       {scan(All(), ByKey(), BySlot()), "both"},
			"two levels":       {scan(All(), Any(), Linearizable()), "more than one"},
			"order of a count": {count(BySlot()), "does not go with count"},
			"limit of a count": {count(Limit(1)), "do not go with count"},
			"keys of a count":  {count(KeysOnly()), "KeysOnly does not go with count"},
			"negative age":     {scan(All(), BoundedStale(-1)), "-1ns"},
		} {
			if !errors.Is(row.err, ErrInvalid) || !strings.Contains(strings.ReplaceAll(fmt.Sprint(row.err), "do not", "does not"), strings.ReplaceAll(row.says, "do not", "does not")) {
				t.Errorf("%s: %v", name, row.err)
			}
		}
		alien := NewSession()
		alien.saw("elsewhere", shardmap.Arc{From: 0, To: 5}, 7)
		if err := scan(All(), InSession(alien)); !errors.Is(err, ErrBadToken) {
			t.Error(err)
		}
		if len(m.streams.scans) != 0 {
			t.Error("something was sent")
		}
	})
}

func TestScanTokenIsWhatWasRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 3)
		c, ctx := m.w.open("n1:7400"), context.Background()
		m.fill(t, c, numbered("k%02d", 30)...)
		var report ScanReport
		s := NewSession()
		for range c.Scan(ctx, All(), WithReport(&report), WithSession(s)) {
			if token := report.Token(); !token.exact || token.at(0) == 0 || token.at(shardmap.Slots-1) == 0 {
				t.Fatalf("by key the token is complete from the start on: %v", token)
			}
		}
		token := report.Token()
		for _, shard := range m.shards {
			if token.at(shard.record.Arc.From) != shard.lastVersion() || s.at(shard.record.Arc.From) != shard.lastVersion() {
				t.Errorf("%v, shard %v", token, shard.record.Arc)
			}
		}
		if back, err := ParseToken(token.String()); err != nil || !back.exact || back.at(7) != token.at(7) {
			t.Error(back, err)
		}
	})
}

func TestDeleteRange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 2, 3)
		c, ctx := m.w.open("n1:7400"), context.Background()
		m.fill(t, c, numbered("a%04d", 1500)...)
		m.fill(t, c, "b", "{t}1", "{t}2")
		m.streams.page = 100
		var all []DeleteProgress
		n, err := c.DeleteRange(ctx, Prefix("a"), func(p DeleteProgress) { all = append(all, p) })
		if err != nil || n != 1500 {
			t.Fatal(n, err)
		}
		if len(all) != 3 || all[0].Deleted != 512 || all[2] != (DeleteProgress{1500, 1}) || all[1].Fraction <= all[0].Fraction {
			t.Fatal(all)
		}
		if n, err := c.DeleteRange(ctx, Prefix("{t}"), nil); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if got := keysOf(t, c.Scan(ctx, All())); !slices.Equal(got, []string{"b"}) {
			t.Fatal(got)
		}
		if n, err := c.DeleteRange(ctx, Range("b", "a"), nil); n != 0 || !errors.Is(err, ErrInvalid) {
			t.Fatal(n, err)
		}
	})
}

func TestKeysOfOneSlot(t *testing.T) {
	for _, row := range []struct {
		keys Keys
		tag  string // "" for many slots
	}{
		{Prefix("{a}"), "a"}, {Prefix("{a}b{c}"), "a"}, {Prefix("x{a}"), "a"}, {Prefix("{a"), ""}, {Prefix("{}a}"), ""},
		{Prefix("{}{a}"), ""}, {Prefix("}{a}"), "a"}, {Prefix("a{{b}"), "{b"}, {Prefix(""), ""}, {All(), ""},
		{Range("{a}1", "{a}2"), "a"}, {Range("{a}", "{a}2"), "a"}, {Range("{a}", "{b}"), ""}, {Range("{a}1", ""), ""}, {Key("k"), "k"}, {Key("{}k"), "{}k"},
	} {
		if row.keys.one != (row.tag != "") || row.keys.one && row.keys.slot != shardmap.SlotOf([]byte(row.tag)) && row.keys.slot != shardmap.SlotOf([]byte("{"+row.tag+"}")) {
			t.Errorf("%+v; want tag %q", row.keys, row.tag)
		}
	}
	for p, end := range map[string]string{"a": "b", "a\xff": "b", "\xff": "", "a\x00": "a\x01", "": "", "a\xfe": "a\xff", "é\xff\xff": "ê"} {
		if k := Prefix(p); k.from != p || k.to != end {
			t.Errorf("prefix %q is [%q, %q)", p, k.from, k.to)
		}
	}
}
