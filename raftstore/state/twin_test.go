package state

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
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
	deadlines                     map[twinDeadline]bool
	changes                       []Change // of the last entry
	clients                       map[ClientID]*twinClient
	pages                         []*twinPage
}

type twinValue struct {
	version, expires uint64
	data             string
}

// twinDeadline is an entry of the index of deadlines.
type twinDeadline struct {
	deadline uint64
	key      string
}

type twinClient struct{ lowestOpen, notAfter, home uint64 }

type twinPage struct {
	index, horizon uint64
	answers        []twinAnswer // open ones
}

type twinAnswer struct {
	client          ClientID
	number, version uint64
	result          Result
}

func newTwin(rec shardmap.Record, l limits) *twin {
	return &twin{record: rec, limits: l, data: make(map[string]twinValue), deadlines: make(map[twinDeadline]bool), clients: make(map[ClientID]*twinClient)}
}

func (t *twin) apply(index, term uint64, e *Entry) []Result {
	results := make([]Result, len(e.Ops))
	t.index, t.changes = index, nil
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
		if res, final := t.decide(op, page); final {
			return res
		}
	}
	res := t.perform(op)
	if r.Number != 0 {
		c := t.clients[r.Client]
		if c == nil {
			c = &twinClient{lowestOpen: r.LowestOpen}
			t.clients[r.Client] = c
		}
		c.home, c.notAfter = page.index, max(c.notAfter, r.NotAfter)
		page.answers = append(page.answers, twinAnswer{r.Client, r.Number, res.Version, res})
	}
	return res
}

func (t *twin) next() uint64 {
	t.lastVersion = max(t.shardTime, t.lastVersion+1)
	return t.lastVersion
}

// perform does what an admitted operation does. What a decision reads is expired
// first; a plain put or delete and a sweep have rules of their own.
func (t *twin) perform(op *Op) Result {
	keys := []string{string(op.Key)}
	switch {
	case op.Kind == OpSweep:
		return t.sweep(op)
	case op.Kind == OpTxn:
		keys = nil
		for _, c := range op.Txn.Compares {
			keys = append(keys, string(c.Key))
		}
		for _, leaf := range slices.Concat(op.Txn.Then, op.Txn.Else) {
			keys = append(keys, string(leaf.Key))
		}
	}
	if op.reads() {
		t.expireDue(keys)
	}
	before, deadlines := maps.Clone(t.data), maps.Clone(t.deadlines)
	version := t.next()
	done := make(map[string]ChangeKind)
	res := t.effect(op, version, done)
	if res.Verdict != Applied {
		t.data, t.deadlines = before, deadlines
		return res
	}
	for _, k := range keys {
		kind := done[k]
		if kind == 0 {
			continue
		}
		delete(done, k)
		v, exists := t.data[k]
		c := Change{Kind: kind, Version: version, Key: []byte(k)}
		if exists {
			c.Expires = v.expires
			if kind == ChangePut {
				c.Value = []byte(v.data)
			}
		}
		if was := before[k].expires; op.reads() && was != v.expires {
			delete(t.deadlines, twinDeadline{was, k})
		}
		if v.expires != 0 {
			t.deadlines[twinDeadline{v.expires, k}] = true
		}
		t.changes = append(t.changes, c)
	}
	return res
}

func (t *twin) effect(op *Op, version uint64, done map[string]ChangeKind) Result {
	res := Result{Verdict: Applied, Version: version}
	if op.Kind != OpTxn {
		was, found := t.data[string(op.Key)]
		if !t.conditionHolds(op) {
			return Result{Verdict: CondFailed, Version: version, Detail: &Detail{Found: found, KeyVersion: was.version}}
		}
		leaf, verdict := t.leaf(op, version, done)
		res.Verdict = verdict
		if op.Kind == OpAdd || op.Kind == OpExpire {
			res.Detail = &Detail{Found: found, KeyVersion: was.version, Number: leaf.Number}
		} else if leaf.Previous != nil {
			res.Detail = &Detail{Previous: leaf.Previous}
		}
		return res
	}
	res.Detail = new(Detail)
	for i := range op.Txn.Compares {
		res.Detail.Else = res.Detail.Else || !t.compareHolds(&op.Txn.Compares[i])
	}
	leaves := op.Txn.Then
	if res.Detail.Else {
		leaves = op.Txn.Else
	}
	for i := range leaves {
		leaf, verdict := t.leaf(&leaves[i], version, done)
		if verdict != Applied {
			was, found := t.data[string(leaves[i].Key)]
			return Result{Verdict: verdict, Version: version, Detail: &Detail{Found: found, KeyVersion: was.version}}
		}
		res.Detail.Leaves = append(res.Detail.Leaves, leaf)
	}
	return res
}

func (t *twin) conditionHolds(op *Op) bool {
	v, found := t.data[string(op.Key)]
	return op.Condition == Always || op.Condition == IfAbsent && !found || op.Condition == IfPresent && found ||
		op.Condition == IfVersion && v.version == op.IfVersion
}

func (t *twin) compareHolds(c *Compare) bool {
	v, found := t.data[string(c.Key)]
	return map[CompareKind]bool{
		CompareAbsent: !found, ComparePresent: found,
		CompareVersionEqual: v.version == c.Version, CompareVersionNotEqual: v.version != c.Version,
		CompareVersionLess: v.version < c.Version, CompareVersionGreater: v.version > c.Version,
		CompareValueEqual: found && v.data == string(c.Value), CompareValueNotEqual: !found || v.data != string(c.Value),
		CompareValueLess: found && v.data < string(c.Value), CompareValueGreater: found && v.data > string(c.Value),
	}[c.Kind]
}

func (t *twin) leaf(op *Op, version uint64, done map[string]ChangeKind) (Leaf, Verdict) {
	k := string(op.Key)
	v, found := t.data[k]
	leaf := Leaf{Found: found}
	if op.Previous && found {
		leaf.Previous = v.value()
	}
	expires := map[Expiry]uint64{KeepExpiry: v.expires, ExpireAfter: min(t.shardTime+op.TTL, MaxVersion)}[op.Expiry]
	switch op.Kind {
	case OpGet:
		if found {
			leaf.Value = *v.value()
		}
		return leaf, Applied
	case OpPut:
		t.data[k] = twinValue{version, expires, string(op.Value)}
		done[k] = ChangePut
	case OpDelete:
		delete(t.data, k)
		done[k] = ChangeDelete
	case OpExpire:
		if !found {
			return leaf, Applied
		}
		t.data[k] = twinValue{version, expires, v.data}
		if done[k] != ChangePut {
			done[k] = ChangeDeadline
		}
	case OpAdd:
		n := new(big.Int)
		if found {
			if _, ok := n.SetString(v.data, 10); !ok || n.String() != v.data || !n.IsInt64() {
				return Leaf{}, NotANumber
			}
		}
		if n.Add(n, big.NewInt(op.Delta)); !n.IsInt64() {
			return Leaf{}, Overflow
		}
		leaf.Number = n.Int64()
		t.data[k] = twinValue{version, v.expires, n.String()}
		done[k] = ChangePut
	}
	return leaf, Applied
}

func (v twinValue) value() *Value {
	return &Value{Version: v.version, Expires: v.expires, Data: []byte(v.data)}
}

func (t *twin) due(k string) bool {
	v := t.data[k]
	return v.expires != 0 && v.expires <= t.shardTime
}

func (t *twin) expireDue(keys []string) {
	version := uint64(0)
	for _, k := range keys {
		if t.due(k) {
			if version == 0 {
				version = t.next()
			}
			t.drop(k, version)
		}
	}
}

func (t *twin) drop(k string, version uint64) {
	delete(t.deadlines, twinDeadline{t.data[k].expires, k})
	delete(t.data, k)
	t.changes = append(t.changes, Change{Kind: ChangeExpire, Version: version, Key: []byte(k)})
}

func (t *twin) sweep(op *Op) Result {
	res := Result{Verdict: Applied}
	k := string(op.Key)
	switch {
	case op.Deadline > t.shardTime:
	case t.data[k].expires == op.Deadline:
		res.Version = t.next()
		t.drop(k, res.Version)
	default:
		delete(t.deadlines, twinDeadline{op.Deadline, k})
	}
	return res
}

func (t *twin) decide(op *Op, page *twinPage) (Result, bool) {
	r := &op.Request
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
	records, own, detail, ownDetail := 0, 0, 0, 0
	for _, p := range t.pages {
		for _, a := range p.answers {
			records++
			detail += len(a.result.keep())
			if a.client == r.Client {
				own++
				ownDetail += len(a.result.keep())
				if a.number == r.Number {
					again := a.result
					again.Repeated = true
					return again, true
				}
			}
		}
	}
	full := records >= t.limits.records || own >= t.limits.recordsPerClient || c == nil && len(t.clients) >= t.limits.clients
	if op.mayDetail() {
		full = full || detail >= t.limits.detail || ownDetail >= t.limits.detailPerClient
	}
	return Result{Verdict: TableFull}, full
}

// dump is the twin's request table, for comparison with dumpTable.
func (t *twin) dump() string {
	var b strings.Builder
	for _, p := range t.pages {
		fmt.Fprintf(&b, "page %d horizon %d\n", p.index, p.horizon)
		for _, a := range p.answers {
			fmt.Fprintf(&b, "  client %x number %d version %d detail %x\n", a.client[:1], a.number, a.version, a.result.keep())
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
				fmt.Fprintf(&b, "  client %x number %d version %d detail %x\n", r.client.id[:1], r.number, r.version, r.detail)
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
	held, detail := 0, 0
	for id, c := range tb.clients {
		if c.id != id {
			t.Fatalf("client %x is filed under %x", c.id, id)
		}
		held += c.answers.count
		detail += c.answers.detail
	}
	if detail != tb.detail {
		t.Fatalf("the clients hold %d bytes of detail, %d are counted", detail, tb.detail)
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
