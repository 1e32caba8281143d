package state

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is dutiful clients, a hostile network and one shard. Clients keep the
// duties of doc.go: one not-after and one operation per number, and a lowest
// open number that is never above one whose caller still waits. The network
// keeps every attempt ever sent and delivers any of them, any number of times,
// in any order, whenever it likes.
type world struct {
	m       *Machine
	s       store
	now     uint64
	clients map[byte]*dutiful
	network []Op

	fresh map[requestKey]uint64 // version of the one effect
	data  map[string]string     // key to value of all effects in order
	stats map[string]int
}

type requestKey struct {
	client byte
	number uint64
}

type dutiful struct {
	id   byte
	next uint64
	open map[uint64]Op // numbers whose caller waits
}

func (c *dutiful) lowestOpen() uint64 {
	if len(c.open) == 0 {
		return c.next
	}
	return slices.Min(slices.Collect(maps.Keys(c.open)))
}

// send puts an attempt of a number into the network, with the closings known now.
func (w *world) send(c *dutiful, op Op) {
	op.Request.LowestOpen = c.lowestOpen()
	w.network = append(w.network, op)
}

func (w *world) drawClient(t *rapid.T) *dutiful {
	return w.clients[rapid.SampledFrom([]byte{1, 2}).Draw(t, "client")]
}

func (w *world) request(t *rapid.T) {
	c := w.drawClient(t)
	for range rapid.IntRange(1, 4).Draw(t, "requests") {
		number := c.next
		op := Op{
			Kind:  OpPut,
			Key:   rapid.SampledFrom(someKeys).Draw(t, "key"),
			Value: fmt.Appendf(nil, "client %d number %d", c.id, number),
			Request: RequestID{
				Client:   ClientID{c.id},
				Number:   number,
				NotAfter: w.now + rapid.SampledFrom([]uint64{20, 50, 200}).Draw(t, "patience"),
			},
		}
		c.open[number] = op
		c.next++
		w.send(c, op)
	}
}

func (w *world) repeat(t *rapid.T) {
	c := w.drawClient(t)
	for _, number := range slices.Sorted(maps.Keys(c.open)) {
		if rapid.Bool().Draw(t, "repeat") {
			w.send(c, c.open[number])
		}
	}
}

func (w *world) giveUp(t *rapid.T) {
	c := w.drawClient(t)
	if len(c.open) > 0 {
		delete(c.open, rapid.SampledFrom(slices.Sorted(maps.Keys(c.open))).Draw(t, "number"))
	}
}

func (w *world) deliver(t *rapid.T) {
	if len(w.network) == 0 {
		return
	}
	w.now += rapid.SampledFrom([]uint64{0, 1, 15, 60}).Draw(t, "time passes")
	ops := rapid.SliceOfN(rapid.SampledFrom(w.network), 1, 6).Draw(t, "delivered")
	index, term := w.m.Applied()
	e := Entry{ShardTime: w.now, Term: term, Ops: ops}
	if rapid.IntRange(0, 7).Draw(t, "leader changed") == 0 {
		term++
	}
	b := newBatch()
	_, results, err := w.m.ApplyEntry(b, index+1, term, e.AppendTo(nil))
	if err == nil {
		err = w.m.Finish(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.commit(w.s)
	for i := range ops {
		w.check(t, &ops[i], results[i])
		if rapid.Bool().Draw(t, "answer arrives") && results[i].Verdict == Applied {
			delete(w.clients[ops[i].Request.Client[0]].open, ops[i].Request.Number)
		}
	}
}

// check judges one answer by what exactly-once promises and nothing else.
func (w *world) check(t *rapid.T, op *Op, res Result) {
	r := &op.Request
	id := requestKey{r.Client[0], r.Number}
	first, done := w.fresh[id]
	_, waits := w.clients[id.client].open[id.number]
	now := w.m.ShardTime()
	switch {
	case res.Verdict == Applied && !res.Repeated:
		if done {
			t.Fatalf("%v took effect twice, as versions %d and %d", id, first, res.Version)
		}
		if now > r.NotAfter {
			t.Fatalf("%v took effect at %d, after %d", id, now, r.NotAfter)
		}
		w.fresh[id] = res.Version
		w.data[string(op.Key)] = string(op.Value)
		w.stats["applied"]++
	case res.Verdict == Applied:
		if !done || first != res.Version {
			t.Fatalf("%v: repeated as version %d, first was %d (%t)", id, res.Version, first, done)
		}
		w.stats["repeated"]++
	case res.Verdict == StaleDuplicate:
		if waits {
			t.Fatalf("%v is open and was called a stale duplicate", id)
		}
		w.stats["stale"]++
	case res.Verdict == Expired:
		if now <= r.NotAfter {
			t.Fatalf("%v expired at %d, before %d", id, now, r.NotAfter)
		}
		w.stats["expired"]++
	case res.Verdict == WrongShard, res.Verdict == Superseded:
	default:
		if done && waits {
			t.Fatalf("%v was applied, its caller waits, and the answer is %v", id, res.Verdict)
		}
	}
}

// TestP3_DutifulClientsTakeEffectAtMostOnce lets many worlds run.
func TestP3_DutifulClientsTakeEffectAtMostOnce(t *testing.T) {
	total := make(map[string]int)
	for range 5 {
		rapid.Check(t, func(t *rapid.T) { runWorld(t, total) })
	}
	// A quiet run proves nothing.
	for _, what := range []string{"applied", "repeated", "stale", "expired"} {
		if total[what] == 0 {
			t.Errorf("no answer was %s: %v", what, total)
		}
	}
	t.Logf("answers: %v", total)
}

func runWorld(t *rapid.T, stats map[string]int) {
	rec := testRecord()
	m, s := bornRapid(t, rec)
	w := &world{
		m: m, s: s, now: 1000, fresh: make(map[requestKey]uint64), data: make(map[string]string), stats: stats,
		clients: map[byte]*dutiful{
			1: {id: 1, next: 1, open: make(map[uint64]Op)},
			2: {id: 2, next: 1, open: make(map[uint64]Op)},
		},
	}
	t.Repeat(map[string]func(*rapid.T){
		"request": w.request,
		"repeat":  w.repeat,
		"give up": w.giveUp,
		"deliver": w.deliver,
		"restart": func(t *rapid.T) { w.m = loadRapid(t, w.s, rec) },
		"": func(t *rapid.T) {
			for k, want := range w.data {
				v, err := DecodeValue([]byte(w.s[string(DataKey(nil, SlotFor(rec.Shard, []byte(k)), []byte(k)))]))
				if err != nil || string(v.Data) != want {
					t.Fatalf("key %q holds %q (%v), want %q", k, v.Data, err, want)
				}
			}
		},
	})
}
