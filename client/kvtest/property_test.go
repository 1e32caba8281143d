package kvtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/shardmap"
)

var (
	runs     = flag.Int("kvtest.n", 20, "random runs of TestAgainstAPlainMap")
	firstRun = flag.Uint64("kvtest.seed", 1, "seed of the first")
)

// TestAgainstAPlainMap has a client do random things to a server whose replies get lost,
// delayed and refused, and a plain map do the same: all answers, events and expiries
// are the same.
func TestAgainstAPlainMap(t *testing.T) {
	for seed := *firstRun; seed < *firstRun+uint64(*runs); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runAgainstTwin(t, seed) })
		})
	}
}

func runAgainstTwin(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	tw := &twin{
		t: t, r: r, data: make(map[string]twinValue), last: make(map[int]uint64),
		server: NewServer(t, WithVirtualTime(), WithShards(1+r.IntN(4))),
	}
	tw.client = tw.server.Client()
	for i := range 12 {
		tw.keys = append(tw.keys, fmt.Sprintf("{%d}%c", i%3, 'a'+i/3), fmt.Sprint("free\x00\xff", i))
	}
	watched := tw.watch()
	for range 300 {
		tw.fault()
		tw.step()
		if t.Failed() {
			t.Fatalf("seed %d: at step %q", seed, tw.doing)
		}
	}
	watched()
	if tw.hits() == 0 {
		t.Error("no fault struck")
	}
}

type twinValue struct {
	data    string
	version uint64
	expires uint64 // µs; 0 for never
}

// twin is the map, and what it has seen happen.
type twin struct {
	t      *testing.T
	r      *rand.Rand
	server *Server
	client *client.Client
	keys   []string
	doing  string
	faults []*Fault

	data   map[string]twinValue
	last   map[int]uint64 // by shard: the last version
	events []twinEvent
}

type twinEvent struct {
	shard int
	what  string
}

func (tw *twin) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tw.t.Cleanup(cancel)
	return ctx
}

func (tw *twin) now() uint64 { return tw.server.clock.WallMicros() }

func (tw *twin) shard(key string) int {
	return int(tw.server.shardOf(shardmap.SlotOf([]byte(key))).record.Shard)
}

func (tw *twin) key() string { return tw.keys[tw.r.IntN(len(tw.keys))] }

func (tw *twin) value() []byte {
	if tw.r.IntN(2) == 0 {
		return strconv.AppendInt(nil, tw.r.Int64()-math.MaxInt64/2, 10)
	}
	return []byte(fmt.Sprintf("v\x00\xff%d", tw.r.IntN(10)))[:tw.r.IntN(4)]
}

func (tw *twin) ttl() time.Duration { return time.Duration(1+tw.r.IntN(5000)) * time.Millisecond }

func (tw *twin) event(what, key, data string, expires uint64) {
	tw.events = append(tw.events, twinEvent{tw.shard(key), fmt.Sprintf("%s %q=%q until %d", what, key, data, expires)})
}

// fault sets one up, sometimes.
func (tw *twin) fault() {
	m := Match{Kind: Kind(tw.r.IntN(8))}
	if tw.r.IntN(2) == 0 {
		m.Key = tw.key()
	}
	var f *Fault
	switch tw.r.IntN(12) {
	case 0:
		f = tw.server.DropReply(m)
	case 1:
		f = tw.server.FailNext(m, []error{client.ErrUnavailable, client.ErrOverloaded, client.ErrInDoubt}[tw.r.IntN(3)])
	case 2:
		f = tw.server.Delay(m, time.Duration(1+tw.r.IntN(100))*time.Millisecond)
	default:
		return
	}
	tw.faults = append(tw.faults, f)
}

func (tw *twin) hits() (n int) {
	for _, f := range tw.faults {
		n += f.Hits()
	}
	return n
}

func (tw *twin) step() {
	switch n := tw.r.IntN(20); {
	case n < 5:
		tw.put()
	case n < 7:
		tw.delete()
	case n < 9:
		tw.add()
	case n < 11:
		tw.deadline()
	case n < 14:
		tw.txn()
	case n < 16:
		tw.get()
	case n < 18:
		tw.scan()
	default:
		tw.advance()
	}
}

func (tw *twin) same(what string, got, want any) {
	tw.t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		tw.t.Errorf("%s, %s: got %s, want %s", tw.doing, what, g, w)
	}
}

// wrote checks the version of something decided.
func (tw *twin) wrote(key string, version uint64) {
	tw.t.Helper()
	last := tw.last[tw.shard(key)]
	if version <= last || version < tw.now() {
		tw.t.Errorf("%s: version %d after %d, at %d", tw.doing, version, last, tw.now())
	}
	tw.last[tw.shard(key)] = version
}

func (tw *twin) sameItem(what string, item *client.Item, v twinValue, exists bool) {
	tw.t.Helper()
	if (item != nil) != exists {
		tw.t.Errorf("%s, %s: exists is %t, want %t", tw.doing, what, item != nil, exists)
	}
	if item == nil || !exists {
		return
	}
	expires := uint64(0)
	if !item.Expires.IsZero() {
		expires = uint64(item.Expires.UnixMicro())
	}
	tw.same(what, twinValue{string(item.Value), item.Version, expires}, v)
}

// condition draws a condition and says whether it holds.
func (tw *twin) condition(v twinValue, exists bool) (opt client.WriteOption, holds bool) {
	switch tw.r.IntN(6) {
	case 0:
		return client.IfAbsent(), !exists
	case 1:
		return client.IfPresent(), exists
	case 2:
		return client.IfVersion(v.version + 1), false
	case 3:
		return client.IfVersion(max(1, v.version)), exists
	}
	return nil, true
}

func (tw *twin) failed(err error, v twinValue, exists bool) {
	tw.t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Kind != client.ErrConditionFailed || e.InDoubt {
		tw.t.Fatalf("%s: got %v, want a failed condition", tw.doing, err)
	}
	tw.same("what there was", []any{e.Exists, e.Version}, []any{exists, v.version})
}

func (tw *twin) ok(err error) bool {
	tw.t.Helper()
	if err != nil {
		tw.t.Errorf("%s: %v", tw.doing, err)
	}
	return err == nil
}

func (tw *twin) put() {
	key, value := tw.key(), tw.value()
	before, exists := tw.data[key]
	cond, holds := tw.condition(before, exists)
	opts := []client.WriteOption{client.WithPrevious()}
	if cond != nil {
		opts = append(opts, cond)
	}
	after := twinValue{data: string(value)}
	switch tw.r.IntN(4) {
	case 0:
		ttl := tw.ttl()
		opts, after.expires = append(opts, client.WithTTL(ttl)), tw.now()+uint64(ttl.Microseconds())
	case 1:
		opts, after.expires = append(opts, client.KeepTTL()), before.expires
	}
	tw.doing = fmt.Sprintf("put %q", key)
	res, err := tw.client.Put(tw.ctx(), key, value, opts...)
	if !holds {
		tw.failed(err, before, exists)
		return
	}
	if !tw.ok(err) {
		return
	}
	tw.wrote(key, res.Version)
	tw.sameItem("previous", res.Previous, before, exists)
	after.version = res.Version
	tw.data[key] = after
	tw.event("put", key, after.data, after.expires)
}

func (tw *twin) delete() {
	key := tw.key()
	before, exists := tw.data[key]
	cond, holds := tw.condition(before, exists)
	opts := []client.WriteOption{client.WithPrevious()}
	if cond != nil {
		opts = append(opts, cond)
	}
	tw.doing = fmt.Sprintf("delete %q", key)
	res, err := tw.client.Delete(tw.ctx(), key, opts...)
	if !holds {
		tw.failed(err, before, exists)
		return
	}
	if !tw.ok(err) {
		return
	}
	tw.wrote(key, res.Version)
	tw.sameItem("previous", res.Previous, before, exists)
	delete(tw.data, key)
	tw.event("delete", key, "", 0)
}

// sum is what an add comes to, or the error that it is.
func sum(v twinValue, exists bool, delta int64) (string, error) {
	n := int64(0)
	if exists {
		var err error
		if n, err = strconv.ParseInt(v.data, 10, 64); err != nil || strconv.FormatInt(n, 10) != v.data {
			return "", client.ErrNotANumber
		}
	}
	s := n + delta
	if (s > n) != (delta > 0) && delta != 0 {
		return "", client.ErrOverflow
	}
	return strconv.FormatInt(s, 10), nil
}

func (tw *twin) delta() int64 { return tw.r.Int64()>>tw.r.IntN(62) - 3 }

func (tw *twin) add() {
	key, delta := tw.key(), tw.delta()
	before, exists := tw.data[key]
	wanted, fails := sum(before, exists, delta)
	tw.doing = fmt.Sprintf("add %q %d", key, delta)
	res, err := tw.client.Add(tw.ctx(), key, delta)
	if fails != nil {
		tw.same("failure", errors.Is(err, fails), true)
		return
	}
	if !tw.ok(err) {
		return
	}
	tw.wrote(key, res.Version)
	tw.same("sum", res.Value, wanted)
	tw.data[key] = twinValue{wanted, res.Version, before.expires}
	tw.event("put", key, wanted, before.expires)
}

func (tw *twin) deadline() {
	key, ttl := tw.key(), tw.ttl()
	v, exists := tw.data[key]
	tw.doing = fmt.Sprintf("expire or persist %q", key)
	var res client.ExpireResult
	var err error
	if tw.r.IntN(2) == 0 {
		res, err = tw.client.Expire(tw.ctx(), key, ttl)
		v.expires = tw.now() + uint64(ttl.Microseconds())
	} else {
		res, err = tw.client.Persist(tw.ctx(), key)
		v.expires = 0
	}
	if !exists {
		tw.same("not found", errors.Is(err, client.ErrNotFound), true)
		return
	}
	if !tw.ok(err) {
		return
	}
	tw.wrote(key, res.Version)
	v.version = res.Version
	tw.data[key] = v
	tw.event("deadline", key, "", v.expires)
	left, err := tw.client.TTL(tw.ctx(), key)
	if tw.ok(err) {
		tw.same("limited", []any{left.Limited, left.Version}, []any{v.expires != 0, v.version})
	}
}

func (tw *twin) get() {
	tw.doing = "get"
	keys := []string{tw.key(), tw.key(), tw.key()}
	results, err := tw.client.GetMany(tw.ctx(), keys)
	if !tw.ok(err) {
		return
	}
	for i, res := range results {
		v, exists := tw.data[keys[i]]
		item := &res.Item
		if errors.Is(res.Err, client.ErrNotFound) {
			item = nil
		} else if !tw.ok(res.Err) {
			return
		}
		tw.sameItem(keys[i], item, v, exists)
	}
}

// txn does the same to an overlay of the map.
func (tw *twin) txn() {
	tag := fmt.Sprintf("{%d}", tw.r.IntN(3))
	key := func() string { return tag + string(rune('a'+tw.r.IntN(4))) }
	txn := tw.client.Txn()
	holds := true
	for range tw.r.IntN(3) {
		k := key()
		v, exists := tw.data[k]
		value := []byte(v.data)
		if tw.r.IntN(3) == 0 {
			value = tw.value()
		}
		order := bytes.Compare([]byte(v.data), value)
		version := v.version + uint64(tw.r.IntN(2))
		c := []struct {
			compare client.Compare
			holds   bool
		}{
			{client.KeyAbsent(k), !exists},
			{client.KeyPresent(k), exists},
			{client.VersionIs(k, version), v.version == version},
			{client.VersionIsNot(k, version), v.version != version},
			{client.VersionAbove(k, version), v.version > version},
			{client.VersionBelow(k, version+1), v.version < version+1},
			{client.ValueIs(k, value), exists && order == 0},
			{client.ValueIsNot(k, value), !exists || order != 0},
			{client.ValueBelow(k, value), exists && order < 0},
			{client.ValueAbove(k, value), exists && order > 0},
		}[tw.r.IntN(10)]
		txn.If(c.compare)
		holds = holds && c.holds
	}
	over := maps.Clone(tw.data)
	var fails error
	var expected []string
	touched := map[string]string{} // how each key changed
	leaves := func(applied bool) (ops []client.Op) {
		for range 1 + tw.r.IntN(4) {
			k := key()
			v, exists := over[k]
			switch tw.r.IntN(5) {
			case 0:
				ops = append(ops, client.OpGet(k))
				if applied {
					expected = append(expected, fmt.Sprintf("%t %q", exists, v.data))
				}
			case 1:
				value := tw.value()
				ops = append(ops, client.OpPut(k, value, client.KeepTTL(), client.WithPrevious()))
				if applied {
					expected = append(expected, fmt.Sprintf("previous %t %q", exists, v.data))
					over[k], touched[k] = twinValue{data: string(value), expires: v.expires}, "put"
				}
			case 2:
				ops = append(ops, client.OpDelete(k))
				if applied {
					expected = append(expected, "")
					delete(over, k)
					touched[k] = "delete"
				}
			case 3:
				delta := tw.delta()
				ops = append(ops, client.OpAdd(k, delta))
				if applied && fails == nil {
					var s string
					if s, fails = sum(v, exists, delta); fails == nil {
						expected = append(expected, s)
						over[k], touched[k] = twinValue{data: s, expires: v.expires}, "put"
					}
				}
			case 4:
				ttl := tw.ttl()
				ops = append(ops, client.OpExpire(k, ttl))
				if applied {
					expected = append(expected, fmt.Sprint(exists))
					if exists {
						over[k] = twinValue{data: v.data, expires: tw.now() + uint64(ttl.Microseconds())}
						if touched[k] != "put" {
							touched[k] = "deadline"
						}
					}
				}
			}
		}
		return ops
	}
	txn.Then(leaves(holds)...).Else(leaves(!holds)...)
	tw.doing = "txn " + tag
	res, err := txn.Commit(tw.ctx())
	if fails != nil {
		tw.same("failure", errors.Is(err, fails), true)
		return
	}
	if !tw.ok(err) {
		return
	}
	tw.wrote(tag, res.Version)
	tw.same("branch", res.Succeeded, holds)
	var got []string
	for _, op := range res.Results {
		got = append(got, tw.leaf(op))
	}
	tw.same("number of results", len(got), len(expected))
	for i := range min(len(got), len(expected)) {
		if !strings.Contains(got[i], "|"+expected[i]+"|") {
			tw.t.Errorf("%s: result %d is %s, want %q", tw.doing, i, got[i], expected[i])
		}
	}
	tw.commit(over, touched, res.Version)
}

// leaf has every way to look at a result; the operation decides which one counts.
func (tw *twin) leaf(r client.OpResult) string {
	previous := ""
	if r.Previous != nil {
		previous = string(r.Previous.Value)
	}
	return fmt.Sprintf("|%t %q|previous %t %q||%d|%t|", r.Found, r.Value, r.Previous != nil, previous, r.Number, r.Found)
}

// commit takes over what a transaction did, with one event for each key. Within a
// version their order says nothing.
func (tw *twin) commit(over map[string]twinValue, touched map[string]string, version uint64) {
	keys := slices.Sorted(maps.Keys(touched))
	for _, k := range keys {
		v, exists := over[k]
		if !exists {
			delete(tw.data, k)
			tw.event("delete", k, "", 0)
			continue
		}
		v.version = version
		tw.data[k] = v
		data := v.data
		if touched[k] == "deadline" {
			data = ""
		}
		tw.event(touched[k], k, data, v.expires)
	}
}

func (tw *twin) scan() {
	tw.doing = "scan"
	from, to := tw.key(), tw.key()
	if from > to {
		from, to = to, from
	}
	keys := client.Range(from, to)
	if tw.r.IntN(3) == 0 {
		keys, from, to = client.All(), "", "\xff\xff"
	}
	bySlot, reverse, limit := tw.r.IntN(2) == 0, tw.r.IntN(2) == 0, 1+tw.r.IntN(10)
	var wanted []string
	for k := range tw.data {
		if k >= from && k < to {
			wanted = append(wanted, k)
		}
	}
	slices.SortFunc(wanted, func(a, b string) int {
		order := strings.Compare(a, b)
		if s, u := shardmap.SlotOf([]byte(a)), shardmap.SlotOf([]byte(b)); bySlot && s != u {
			order = int(s) - int(u)
		}
		if reverse {
			return -order
		}
		return order
	})
	n, err := tw.client.Count(tw.ctx(), keys)
	if tw.ok(err) {
		tw.same("count", n, len(wanted))
	}
	opts := []client.ScanOption{client.Limit(limit), client.ByKey()}
	if bySlot {
		opts[1] = client.BySlot()
	}
	if reverse {
		opts = append(opts, client.Reverse())
	}
	var got []string
	for item, err := range tw.client.Scan(tw.ctx(), keys, opts...) {
		if !tw.ok(err) {
			return
		}
		got = append(got, item.Key)
		tw.sameItem(item.Key, &item, tw.data[item.Key], true)
	}
	tw.same("keys", fmt.Sprintf("%q", got), fmt.Sprintf("%q", wanted[:min(limit, len(wanted))]))
}

func (tw *twin) advance() {
	tw.doing = "advance"
	tw.server.Advance(time.Duration(tw.r.IntN(2000)) * time.Millisecond)
	var dead []string
	for k, v := range tw.data {
		if v.expires != 0 && v.expires <= tw.now() {
			dead = append(dead, k)
		}
	}
	slices.SortFunc(dead, func(a, b string) int {
		if x, y := tw.data[a].expires, tw.data[b].expires; x != y {
			return int(int64(x) - int64(y))
		}
		return strings.Compare(a, b)
	})
	for _, k := range dead {
		delete(tw.data, k)
		tw.event("expire", k, "", 0)
		if sh := tw.shard(k); tw.last[sh] < tw.now() {
			tw.last[sh] = tw.now() - 1
		}
	}
}

// watch follows all changes until the function that it returns compares them.
func (tw *twin) watch() (finish func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var got []twinEvent
	begun, over := make(chan struct{}), make(chan error, 1)
	go func() {
		last := make(map[int]uint64)
		for ch, err := range tw.client.Watch(ctx, client.All()) {
			if err != nil {
				over <- err
				return
			}
			if ch.Kind == client.Progress {
				close(begun)
				continue
			}
			slices.SortStableFunc(ch.Events, func(a, b client.Event) int { return strings.Compare(a.Key, b.Key) })
			for _, ev := range ch.Events {
				expires := uint64(0)
				if !ev.Expires.IsZero() {
					expires = uint64(ev.Expires.UnixMicro())
				}
				sh := tw.shard(ev.Key)
				if ch.Version < last[sh] {
					tw.t.Errorf("version %d after %d", ch.Version, last[sh])
				}
				last[sh] = ch.Version
				got = append(got, twinEvent{sh, fmt.Sprintf("%s %q=%q until %d", ev.Type, ev.Key, ev.Value, expires)})
			}
		}
	}()
	<-begun
	return func() {
		time.Sleep(time.Minute) // of the bubble: streams that broke go on
		synctest.Wait()
		cancel()
		if err := <-over; !errors.Is(err, client.ErrCanceled) {
			tw.t.Errorf("watch: %v", err)
		}
		for id := range tw.last {
			of := func(all []twinEvent) (out []string) {
				for _, e := range all {
					if e.shard == id {
						out = append(out, e.what)
					}
				}
				return out
			}
			g, w := of(got), of(tw.events)
			for i := range max(len(g), len(w)) {
				if i >= len(g) || i >= len(w) || g[i] != w[i] {
					tw.t.Fatalf("shard %d: event %d of %d and %d: got %q, want %q", id, i, len(g), len(w),
						g[min(i, len(g)):min(i+3, len(g))], w[min(i, len(w)):min(i+3, len(w))])
				}
			}
		}
	}
}
