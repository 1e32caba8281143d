package kvserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

// fakeView is a copy of a fakeGroup's data.
type fakeView struct {
	info  raftstore.ViewInfo
	group *fakeGroup
	keys  [][]byte
	value map[string][]byte

	mu  sync.Mutex
	at  int
	why error
}

func (g *fakeGroup) View(_ context.Context, spec raftstore.ReadSpec) (View, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.onView != nil {
		if err := g.onView(spec); err != nil {
			return nil, err
		}
	}
	v := &fakeView{group: g, value: map[string][]byte{},
		info: raftstore.ViewInfo{Record: g.record, Version: g.version, ShardTime: 100, Served: raftstore.ByLeader}}
	for key, val := range g.data {
		k := state.DataKey(nil, shardmap.SlotOf([]byte(key)), []byte(key))
		stored := state.Value{Version: val.Version, Expires: val.Expires, Data: val.Data}
		v.keys, v.value[string(k)] = append(v.keys, k), stored.AppendTo(nil)
	}
	slices.SortFunc(v.keys, bytes.Compare)
	g.views.Add(1)
	return v, nil
}

func (v *fakeView) Info() raftstore.ViewInfo { return v.info }

func (v *fakeView) Use(fn func(scan.Cursor) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why != nil {
		return v.why
	}
	return fn(v)
}

func (v *fakeView) end(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.why == nil {
		v.why = why
		v.group.views.Add(-1)
	}
}

func (v *fakeView) Close() { v.end(kverr.New(kverr.Closed, "closed")) }

func (v *fakeView) to(at int) bool {
	v.at = at
	return at >= 0 && at < len(v.keys)
}

func (v *fakeView) find(key []byte) int {
	i, _ := slices.BinarySearchFunc(v.keys, key, bytes.Compare)
	return i
}

func (v *fakeView) SeekGE(key []byte) bool       { return v.to(v.find(key)) }
func (v *fakeView) SeekLT(key []byte) bool       { return v.to(v.find(key) - 1) }
func (v *fakeView) Next() bool                   { return v.to(v.at + 1) }
func (v *fakeView) Prev() bool                   { return v.to(v.at - 1) }
func (v *fakeView) Key() []byte                  { return v.keys[v.at] }
func (v *fakeView) ValueAndErr() ([]byte, error) { return v.value[string(v.Key())], nil }
func (v *fakeView) Error() error                 { return nil }

// load puts n keys of one hash tag of the upper shard into it.
func (g *fakeGroup) load(n int, value []byte) {
	g.set(func() {
		for i := range n {
			g.version++
			g.data[fmt.Sprintf("{foo}%05d", i)] = raftstore.Value{Found: true, Version: g.version, Data: value}
		}
	})
}

var upperSlots = &kvv1.Arc{From: 8192, To: 16384}

// scanned is a scan that came to its end.
type scanned struct {
	pages []*kvv1.ScanPage
	keys  []string
	count uint64
	err   error
}

func (e *env) scan(r *kvv1.ScanRequest) (got scanned) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rpc, err := e.client.Scan(ctx, r)
	if err != nil {
		e.t.Fatal(err)
	}
	for {
		p, err := rpc.Recv()
		if err == io.EOF {
			return got
		}
		if err != nil {
			got.err = wire.ErrorFromStatus(err, wire.Unsent)
			return got
		}
		got.pages = append(got.pages, p)
		for _, i := range p.Items {
			got.keys = append(got.keys, string(i.Key))
		}
		got.count += p.Count
	}
}

func TestScan(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.load(2500, []byte("value"))
		e.upper.set(func() {
			e.upper.data["{foo}due"] = raftstore.Value{Version: 1, Expires: 100}
			e.upper.data["{foo}later"] = raftstore.Value{Version: 1, Expires: 101, Data: []byte("soon")}
		})
		all := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots})
		if all.err != nil || len(all.keys) != 2501 || len(all.pages) < 3 || !slices.IsSorted(all.keys) {
			t.Fatalf("%d keys in %d pages, %v", len(all.keys), len(all.pages), all.err)
		}
		for i, p := range all.pages {
			last := i == len(all.pages)-1
			if p.Version != 2500 || p.ServedBy != kvv1.ServedBy_SERVED_BY_LEADER || p.Done != last || len(p.Last) == 0 || len(p.Items) > pageItems {
				t.Errorf("page %d: version %d, served %v, done %t, last %q, %d items", i, p.Version, p.ServedBy, p.Done, p.Last, len(p.Items))
			}
		}
		if p := all.pages[len(all.pages)-1]; p.Seeks != 1 || p.Examined != 2502 {
			t.Errorf("the scan cost %d seeks, and looked at %d keys", p.Seeks, p.Examined)
		}
		soon := all.pages[len(all.pages)-1].Items
		if i := soon[len(soon)-1]; string(i.Key) != "{foo}later" || string(i.Value) != "soon" || i.ExpiresUs != 101 || i.Version != 1 {
			t.Errorf("the last item: %v", i)
		}

		some := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots, From: []byte("{foo}00010"), To: []byte("{foo}00020"), Reverse: true,
			After: []byte("{foo}00018"), Limit: 3, KeysOnly: true, Order: kvv1.ScanOrder_SCAN_ORDER_KEY})
		if fmt.Sprint(some.keys) != "[{foo}00017 {foo}00016 {foo}00015]" || some.pages[0].Items[0].Value != nil || !some.pages[0].Done {
			t.Errorf("a part of it: %v, %v", some.keys, some.err)
		}
		count := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots, CountOnly: true})
		if count.count != 2501 || len(count.keys) != 0 || count.err != nil {
			t.Errorf("counted %d, %v", count.count, count.err)
		}
		synctest.Wait()
		if n := e.upper.views.Load(); n != 0 {
			t.Errorf("%d views are left open", n)
		}
	})
}

// Pages end by bytes, so that large values come in small messages.
func TestScanPagesAreBoundedInBytes(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.load(40, make([]byte, 100<<10))
		got := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots})
		if got.err != nil || len(got.keys) != 40 {
			t.Fatalf("%d keys, %v", len(got.keys), got.err)
		}
		for _, p := range got.pages {
			if len(p.Items) > 3 {
				t.Errorf("a page of %d items of 100 KiB", len(p.Items))
			}
		}
	})
}

func TestScansThatMeanNothing(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		ok := func() *kvv1.ScanRequest { return &kvv1.ScanRequest{Shard: 3, Slots: upperSlots} }
		for name, r := range map[string]*kvv1.ScanRequest{
			"no shard":    {Slots: upperSlots},
			"no slots":    {Shard: 3},
			"system slot": {Shard: 3, Slots: &kvv1.Arc{From: 8192, To: 16385}},
			"range":       {Shard: 3, Slots: upperSlots, From: []byte("b"), To: []byte("a")},
			"order":       {Shard: 3, Slots: upperSlots, Order: 7},
			"level":       {Shard: 3, Slots: upperSlots, Level: 4},
			"long key":    {Shard: 3, Slots: upperSlots, After: make([]byte, 5000)},
			"token":       {Shard: 3, Slots: upperSlots, Level: session, MinVersion: 1 << 53},
		} {
			if got := e.scan(r); kverr.KindOf(got.err) != kverr.Invalid || len(got.pages) != 0 {
				t.Errorf("%s: %d pages, %v", name, len(got.pages), got.err)
			}
		}
		if got := e.scan(ok()); got.err != nil || len(got.pages) != 1 || !got.pages[0].Done {
			t.Errorf("a scan of nothing: %v, %v", got.pages, got.err)
		}
		// A token of many shards may ask for more than one of them has given out.
		merged := ok()
		merged.Level, merged.MinVersion = session, 1<<40
		if got := e.scan(merged); got.err != nil || len(got.pages) != 1 || got.pages[0].Version >= merged.MinVersion {
			t.Errorf("with a version from elsewhere: %v, %v", got.pages, got.err)
		}
	})
}

// A scan that came to the wrong place is told where to go, in a page.
func TestScanDirections(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.onView = func(raftstore.ReadSpec) error { return kverr.New(kverr.NotLeader, "another node leads") }
		for name, tc := range map[string]struct {
			r    *kvv1.ScanRequest
			want kverr.Kind
		}{
			"follower":     {&kvv1.ScanRequest{Shard: 3, Slots: upperSlots}, kverr.NotLeader},
			"not its arc":  {&kvv1.ScanRequest{Shard: 2, Slots: upperSlots}, kverr.WrongShard},
			"more":         {&kvv1.ScanRequest{Shard: 2, Slots: &kvv1.Arc{From: 0, To: 8193}}, kverr.WrongShard},
			"unknown":      {&kvv1.ScanRequest{Shard: 77, Slots: upperSlots}, kverr.WrongShard},
			"end of range": {&kvv1.ScanRequest{Shard: 2, Slots: &kvv1.Arc{From: 16383, To: 16384}}, kverr.WrongShard},
		} {
			got := e.scan(tc.r)
			if got.err != nil || len(got.pages) != 1 || kverr.Kind(got.pages[0].GetError().GetKind()) != tc.want || got.pages[0].GetRecord().GetShard() == 0 {
				t.Errorf("%s: %v, %v", name, got.pages, got.err)
			}
		}
	})
}

func TestScanAuthorization(t *testing.T) {
	var from, to string
	inBubble(t, func(o *Options) {
		o.AuthorizeRange = func(_ context.Context, v Verb, f, t []byte) error {
			from, to = string(f), string(t)
			return kverr.New(kverr.Invalid, "%s is not allowed", v)
		}
	}, func(e *env) {
		got := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots, From: []byte("a"), To: []byte("b")})
		if got.err == nil || got.err.Error() != "scan is not allowed" || from != "a" || to != "b" {
			t.Errorf("asked for [%s,%s): %v", from, to, got.err)
		}
	})
}

// slowScan is a Scan call whose client takes nothing before it is told to.
type slowScan struct {
	grpc.ServerStream
	ctx  context.Context
	gate chan struct{}
	sent []*kvv1.ScanPage
}

func (s *slowScan) Context() context.Context { return s.ctx }

func (s *slowScan) Send(p *kvv1.ScanPage) error {
	select {
	case <-s.gate:
		s.sent = append(s.sent, p)
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// startScan begins a scan of the upper shard whose client is slow.
func (e *env) startScan() (call *slowScan, ended <-chan error) {
	ctx, cancel := context.WithCancel(context.Background())
	call = &slowScan{ctx: ctx, gate: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		err := e.server.Scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots}, call)
		cancel() // as gRPC does
		done <- err
	}()
	return call, done
}

// P9: a scan whose client does not read holds one page, and for a bounded time; and
// there are not too many of them.
func TestP9_ScansAreBounded(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxScans = 2 }, func(e *env) {
		e.upper.load(100, make([]byte, 50<<10))
		_, ended := e.startScan()
		call, second := e.startScan()
		synctest.Wait()
		if held := e.server.HeldBytes(); held < 2*pageBytes || held > 3*pageBytes {
			t.Errorf("two scans hold %d bytes; a page is about %d", held, pageBytes)
		}
		if got := e.scan(&kvv1.ScanRequest{Shard: 3, Slots: upperSlots}); kverr.KindOf(got.err) != kverr.Overloaded {
			t.Errorf("a third scan: %v", got.err)
		}
		close(call.gate)
		if err := <-second; err != nil || len(call.sent) < 10 || !call.sent[len(call.sent)-1].Done {
			t.Errorf("the scan that was read: %d pages, %v", len(call.sent), err)
		}
		if err := wire.ErrorFromStatus(<-ended, wire.Unsent); kverr.KindOf(err) != kverr.Unavailable {
			t.Errorf("the scan that was not read: %v", err)
		}
		synctest.Wait()
		c := e.server.Counters()
		if n := e.upper.views.Load(); n != 0 || e.server.HeldBytes() != 0 || c.FeedsStalled != 1 {
			t.Errorf("%d views, %d bytes are left; %d were cut", n, e.server.HeldBytes(), c.FeedsStalled)
		}
	})
}

// A stop ends scans, waits for their goroutines, and says that another node may
// serve; a view that is given up does, too.
func TestScansEndWithTheServerAndTheView(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.load(100, make([]byte, 50<<10))
		call, ended := e.startScan()
		synctest.Wait()
		if err := e.server.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := wire.ErrorFromStatus(<-ended, wire.Unsent); kverr.KindOf(err) != kverr.Unavailable || len(call.sent) != 0 {
			t.Errorf("a scan at the stop: %v", err)
		}
		if n := e.upper.views.Load(); n != 0 {
			t.Errorf("%d views are open after the stop", n)
		}
	})
}
