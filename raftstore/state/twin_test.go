package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ringfort/ringfort/shardmap"
)

// twin is the state machine written down as plainly as its rules are stated:
// lists, maps, no codec, everything found by looking at everything.
type twin struct {
	record shardmap.Record
	limits limits

	index, shardTime, lastVersion uint64
	data                          map[string]twinValue
	clients                       map[ClientID]*twinClient
	pages                         []*twinPage
}

type twinValue struct {
	version uint64
	data    string
}

type twinClient struct{ lowestOpen, notAfter, home uint64 }

type twinPage struct {
	index, horizon uint64
	answers        []twinAnswer // open ones
}

type twinAnswer struct {
	client          ClientID
	number, version uint64
}

func newTwin(rec shardmap.Record, l limits) *twin {
	return &twin{record: rec, limits: l, data: make(map[string]twinValue), clients: make(map[ClientID]*twinClient)}
}

func (t *twin) apply(index, term uint64, e *Entry) []Result {
	results := make([]Result, len(e.Ops))
	t.index = index
	if e.Term != term {
		for i := range results {
			results[i].Verdict = Superseded
		}
		return results
	}
	t.shardTime = max(t.shardTime, e.ShardTime)
	t.expire(t.limits.sweep + 2*len(e.Ops))
	page := &twinPage{index: index}
	t.pages = append(t.pages, page)
	for i := range e.Ops {
		results[i] = t.applyOp(&e.Ops[i], page)
	}
	t.collect(page)
	return results
}

// expire drops pages past their horizon from the old end while budget lasts.
func (t *twin) expire(budget int) {
	for budget > 0 && len(t.pages) > 0 && t.pages[0].horizon < t.shardTime {
		p := t.pages[0]
		budget -= 1 + len(p.answers)
		t.pages = t.pages[1:]
		maps.DeleteFunc(t.clients, func(_ ClientID, c *twinClient) bool { return c.home == p.index })
	}
}

// collect fixes the new page's horizon and drops the pages nothing needs.
func (t *twin) collect(newest *twinPage) {
	for _, c := range t.clients {
		if c.home == newest.index {
			newest.horizon = max(newest.horizon, c.notAfter)
		}
	}
	kept := t.pages[:0]
	for _, p := range t.pages {
		needed := len(p.answers) > 0
		for _, c := range t.clients {
			needed = needed || c.home == p.index
		}
		if needed {
			kept = append(kept, p)
		}
	}
	t.pages = kept
	if n := len(kept); n > 1 && kept[n-1] == newest {
		newest.horizon = max(newest.horizon, kept[n-2].horizon)
	}
}

func (t *twin) applyOp(op *Op, page *twinPage) Result {
	if op.Kind == OpVerify {
		return Result{Verdict: Applied}
	}
	if !t.record.Arc.Contains(SlotFor(t.record.Shard, op.Key)) {
		return Result{Verdict: WrongShard}
	}
	r := &op.Request
	if r.Number != 0 {
		if res, final := t.decide(r, page); final {
			return res
		}
	}
	t.lastVersion = max(t.shardTime, t.lastVersion+1)
	if op.Kind == OpPut {
		t.data[string(op.Key)] = twinValue{t.lastVersion, string(op.Value)}
	} else {
		delete(t.data, string(op.Key))
	}
	if r.Number != 0 {
		c := t.clients[r.Client]
		if c == nil {
			c = &twinClient{lowestOpen: r.LowestOpen}
			t.clients[r.Client] = c
		}
		c.home, c.notAfter = page.index, max(c.notAfter, r.NotAfter)
		page.answers = append(page.answers, twinAnswer{r.Client, r.Number, t.lastVersion})
	}
	return Result{Verdict: Applied, Version: t.lastVersion}
}

func (t *twin) decide(r *RequestID, page *twinPage) (Result, bool) {
	if t.shardTime > r.NotAfter {
		return Result{Verdict: Expired}, true
	}
	if r.NotAfter > t.shardTime+maxRequestAheadMicros {
		return Result{Verdict: TooFar}, true
	}
	c := t.clients[r.Client]
	if c != nil && r.LowestOpen > c.lowestOpen {
		c.lowestOpen, c.home = r.LowestOpen, page.index
		for _, p := range t.pages {
			p.answers = slices.DeleteFunc(p.answers, func(a twinAnswer) bool {
				return a.client == r.Client && a.number < c.lowestOpen
			})
		}
	}
	if r.Number < r.LowestOpen || c != nil && r.Number < c.lowestOpen {
		return Result{Verdict: StaleDuplicate}, true
	}
	records, own := 0, 0
	for _, p := range t.pages {
		for _, a := range p.answers {
			records++
			if a.client == r.Client {
				own++
				if a.number == r.Number {
					return Result{Verdict: Applied, Version: a.version, Repeated: true}, true
				}
			}
		}
	}
	full := records >= t.limits.records || own >= t.limits.recordsPerClient || c == nil && len(t.clients) >= t.limits.clients
	return Result{Verdict: TableFull}, full
}

// dump is the twin's request table, for comparison with dumpTable.
func (t *twin) dump() string {
	var b strings.Builder
	for _, p := range t.pages {
		fmt.Fprintf(&b, "page %d horizon %d\n", p.index, p.horizon)
		for _, a := range p.answers {
			fmt.Fprintf(&b, "  client %x number %d version %d\n", a.client[:1], a.number, a.version)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.clients), compareIDs) {
		c := t.clients[id]
		fmt.Fprintf(&b, "client %x lowest open %d not after %d home %d\n", id[:1], c.lowestOpen, c.notAfter, c.home)
	}
	return b.String()
}

// dumpTable is everything of a table that decides about anything to come.
func dumpTable(t *table) string {
	var b strings.Builder
	for p := t.pages.oldest; p != nil; p = p.next {
		fmt.Fprintf(&b, "page %d horizon %d\n", p.index, p.horizon)
		for _, r := range p.recorded {
			if r.isOpen() {
				fmt.Fprintf(&b, "  client %x number %d version %d\n", r.client.id[:1], r.number, r.version)
			}
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(t.clients), compareIDs) {
		c := t.clients[id]
		fmt.Fprintf(&b, "client %x lowest open %d not after %d home %d\n", id[:1], c.lowestOpen, c.notAfter, c.home.index)
	}
	return b.String()
}

func compareIDs(a, b ClientID) int { return cmp.Compare(string(a[:]), string(b[:])) }

// checkTable asserts that a table's counts and links say what its parts say.
func checkTable(t interface {
	Helper()
	Fatalf(string, ...any)
}, m *Machine) {
	t.Helper()
	tb := m.requests
	residents, open, pages := 0, 0, 0
	var prev *page
	for p := tb.pages.oldest; p != nil; prev, p = p, p.next {
		pages++
		if p.prev != prev || prev != nil && (prev.horizon > p.horizon || prev.index >= p.index) {
			t.Fatalf("page %d is out of order", p.index)
		}
		if p.thinning || p.open == 0 && p.residents == 0 {
			t.Fatalf("page %d: thinning %t, %d open, %d residents", p.index, p.thinning, p.open, p.residents)
		}
		checkPage(t, tb, p)
		residents, open = residents+p.residents, open+p.open
	}
	held := 0
	for id, c := range tb.clients {
		if c.id != id {
			t.Fatalf("client %x is filed under %x", c.id, id)
		}
		held += c.answers.count
	}
	if tb.pages.newest != prev || tb.pages.count != pages || residents != len(tb.clients) || open != tb.records || held != open {
		t.Fatalf("%d pages (%d counted), %d residents of %d clients, %d open, %d held, %d counted",
			pages, tb.pages.count, residents, len(tb.clients), open, held, tb.records)
	}
}

func checkPage(t interface {
	Helper()
	Fatalf(string, ...any)
}, tb *table, p *page) {
	t.Helper()
	residents, open := 0, 0
	for _, c := range p.mentions {
		if tb.clients[c.id] != c {
			t.Fatalf("page %d mentions client %x, which is gone", p.index, c.id)
		}
		if c.home == p {
			residents++
		}
	}
	for _, r := range p.recorded {
		if !slices.Contains(p.mentions, r.client) {
			t.Fatalf("page %d does not mention client %x", p.index, r.client.id)
		}
		a, ok := r.client.answers.find(r.number)
		if ok != r.isOpen() || ok && (a.page != p || a.version != r.version) {
			t.Fatalf("page %d: number %d is open: %t, found: %t, version %d or %d",
				p.index, r.number, r.isOpen(), ok, r.version, a.version)
		}
		if ok {
			open++
		}
	}
	if open != p.open || residents != p.residents {
		t.Fatalf("page %d counts %d open of %d, %d residents of %d", p.index, p.open, open, p.residents, residents)
	}
}
