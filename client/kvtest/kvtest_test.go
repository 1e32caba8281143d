package kvtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/kverr"
)

// within bounds what a test waits for; it is no assertion.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// everywhere runs a test in a bubble and outside of one.
func everywhere(t *testing.T, f func(t *testing.T)) {
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, f) })
	t.Run("real", f)
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func put(t *testing.T, c *client.Client, key, value string, opts ...client.WriteOption) client.PutResult {
	t.Helper()
	return must[client.PutResult](t)(c.Put(within(t), key, []byte(value), opts...))
}

func text(t *testing.T, c *client.Client, key string, opts ...client.ReadOption) string {
	t.Helper()
	item, err := c.Get(within(t), key, opts...)
	if errors.Is(err, client.ErrNotFound) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(item.Value)
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestEveryVerb(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		ctx := within(t)
		c := NewServer(t, WithVirtualTime()).Client()
		first := put(t, c, "a", "1")
		want(t, "get", text(t, c, "a"), "1")
		want(t, "conditional put", put(t, c, "a", "2", client.IfVersion(first.Version), client.WithPrevious()).Previous.Version, first.Version)
		_, err := c.Put(ctx, "a", nil, client.IfAbsent())
		want(t, "a condition that fails", errors.Is(err, client.ErrConditionFailed), true)
		want(t, "sum", must[client.AddResult](t)(c.Add(ctx, "a", 40)).Value, 42)
		_, err = c.Add(ctx, "a", 1<<63-1)
		want(t, "overflow", errors.Is(err, client.ErrOverflow), true)
		must[client.ExpireResult](t)(c.Expire(ctx, "a", time.Minute))
		want(t, "limited", must[client.TTLResult](t)(c.TTL(ctx, "a")).Limited, true)
		must[client.ExpireResult](t)(c.Persist(ctx, "a"))
		want(t, "unlimited", must[client.TTLResult](t)(c.TTL(ctx, "a")).Limited, false)
		r := must[client.TxnResult](t)(c.Txn().If(client.ValueIs("{a}x", []byte("no"))).
			Then(client.OpPut("{a}x", []byte("then"))).Else(client.OpPut("{a}x", []byte("else")), client.OpGet("{a}x")).Commit(ctx))
		want(t, "else", string(r.Results[1].Value), "else")
		_, err = c.Batch(ctx, client.OpPut("a", nil), client.OpPut("b", nil))
		want(t, "keys of two slots", errors.Is(err, client.ErrCrossSlot), true)
		must[[]client.WriteResult](t)(c.PutMany(ctx, []client.KV{{Key: "m1", Value: []byte("1")}, {Key: "m2", Value: []byte("2")}, {Key: "m3"}}))
		want(t, "many", len(must[[]client.GetResult](t)(c.GetMany(ctx, []string{"m1", "m2", "m3"}))), 3)
		want(t, "count", must[uint64](t)(c.Count(ctx, client.All())), 5)
		want(t, "scan", strings.Join(keysOf(t, c.Scan(ctx, client.Prefix("m"))), " "), "m1 m2 m3")
		want(t, "reverse scan", strings.Join(keysOf(t, c.Scan(ctx, client.All(), client.Reverse())), " "), "{a}x m3 m2 m1 a")
		must[client.DeleteResult](t)(c.Delete(ctx, "m1"))
		want(t, "deleted range", must[uint64](t)(c.DeleteRange(ctx, client.Prefix("m"), nil)), 2)
		want(t, "left", must[uint64](t)(c.Count(ctx, client.All())), 2)
	})
}

func keysOf(t *testing.T, items iter.Seq2[client.Item, error]) (keys []string) {
	t.Helper()
	for item, err := range items {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, item.Key)
	}
	return keys
}

// A deadline is met to the microsecond: neither early nor late.
func TestVirtualTimeIsExact(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := NewServer(t, WithVirtualTime())
		c := s.Client()
		want(t, "the beginning", s.Now().Format(time.RFC3339Nano), "2000-01-01T00:00:00Z")
		put(t, c, "k", "v", client.WithTTL(time.Second))
		item := must[client.Item](t)(c.Get(within(t), "k"))
		want(t, "deadline", item.Expires.UTC(), s.Now().Add(time.Second))
		s.Advance(time.Second - time.Microsecond)
		want(t, "early", text(t, c, "k"), "v")
		s.Advance(time.Microsecond)
		for _, level := range []client.ReadOption{client.Linearizable(), client.BoundedStale(time.Second), client.Any()} {
			want(t, "due", text(t, c, "k", level), "(none)")
		}
		want(t, "moved", s.Now().Format(time.RFC3339Nano), "2000-01-01T00:00:01Z")
	})
}

// Without virtual time keys expire by themselves, as time passes in the bubble.
func TestDeadlinesOfTheBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewServer(t, WithShards(1)).Client()
		events := follow(t, c, client.All())
		put(t, c, "k", "v", client.WithTTL(time.Minute))
		put(t, c, "n", "v", client.WithTTL(time.Hour))
		time.Sleep(time.Minute - time.Second)
		want(t, "early", text(t, c, "k", client.Any()), "v")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want(t, "late", text(t, c, "k", client.Any()), "(none)")
		want(t, "the other", text(t, c, "n", client.Any()), "v")
		want(t, "events", events.take(t, 3), "put k=v, put n=v, expire k")
	})
}

// A read by the leader expires what it meets due, even before the sweep has.
func TestReadsExpireWhatIsDue(t *testing.T) {
	s := NewServer(t, WithVirtualTime(), WithShards(1))
	c := s.Client()
	put(t, c, "k", "v", client.WithTTL(time.Second))
	s.clock.(*virtualClock).passed.Add(time.Hour.Microseconds()) // and nobody sweeps
	want(t, "what is applied", text(t, c, "k", client.Any()), "v")
	want(t, "a scan", len(keysOf(t, c.Scan(within(t), client.All()))), 0)
	want(t, "a linearizable read", text(t, c, "k"), "(none)")
	want(t, "what is applied then", text(t, c, "k", client.Any()), "(none)")
}

// events collects what a watch gives out.
type events struct {
	got  chan string
	stop context.CancelFunc
	end  chan error
}

// follow watches keys, and returns when the watch has begun.
func follow(t *testing.T, c *client.Client, keys client.Keys, opts ...client.WatchOption) *events {
	ctx, cancel := context.WithCancel(context.Background())
	e := &events{got: make(chan string, 1000), stop: cancel, end: make(chan error, 1)}
	begun := make(chan struct{})
	go func() {
		var err error
		first := true
		for ch, failed := range c.Watch(ctx, keys, opts...) {
			if failed != nil {
				err = failed
				break
			}
			if first {
				close(begun)
				first = false
			}
			for _, ev := range ch.Events {
				e.got <- describe(ev)
			}
			if ch.Kind == client.Reset {
				for _, item := range ch.Items {
					e.got <- fmt.Sprintf("reset %s=%s", item.Key, item.Value)
				}
			}
		}
		if first {
			close(begun)
		}
		e.end <- err
	}()
	t.Cleanup(func() { cancel(); <-e.end })
	<-begun
	return e
}

func describe(ev client.Event) string {
	s := ev.Type.String() + " " + ev.Key
	if ev.Type == client.EventPut {
		s += "=" + string(ev.Value)
	}
	return s
}

func (e *events) take(t *testing.T, n int) string {
	t.Helper()
	var all []string
	for range n {
		select {
		case s := <-e.got:
			all = append(all, s)
		case <-time.After(20 * time.Second):
			t.Fatalf("only %q came", all)
		}
	}
	return strings.Join(all, ", ")
}

func TestWatchShowsEveryChange(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		ctx := within(t)
		s := NewServer(t, WithVirtualTime(), WithShards(1))
		c := s.Client()
		put(t, c, "before", "")
		e := follow(t, c, client.All())
		put(t, c, "a", "1", client.WithTTL(time.Second))
		must[client.TxnResult](t)(c.Batch(ctx, client.OpPut("{a}1", []byte("x")), client.OpPut("{a}2", []byte("y"))))
		must[client.ExpireResult](t)(c.Expire(ctx, "{a}1", time.Second))
		must[client.DeleteResult](t)(c.Delete(ctx, "{a}2"))
		s.Advance(time.Second)
		want(t, "events", e.take(t, 7), "put a=1, put {a}1=x, put {a}2=y, deadline {a}1, delete {a}2, expire a, expire {a}1")
	})
}

func TestWatchFromBeforeTheHistory(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		ctx := within(t)
		c := NewServer(t, WithShards(1), WithWatchHistory(2)).Client()
		var report client.ScanReport
		for range c.Scan(ctx, client.All(), client.WithReport(&report)) {
		}
		put(t, c, "{h}a", "1")
		put(t, c, "{h}b", "2")
		e := follow(t, c, client.All(), client.From(report.Token()))
		want(t, "remembered", e.take(t, 2), "put {h}a=1, put {h}b=2")
		put(t, c, "{h}c", "3")
		want(t, "the next", e.take(t, 1), "put {h}c=3")
		for _, err := range c.Watch(ctx, client.All(), client.From(report.Token())) {
			if err != nil && !errors.Is(err, client.ErrCompacted) {
				t.Errorf("got %v, want ErrCompacted", err)
			}
			if err == nil {
				t.Error("a watch from before what is remembered went on")
			}
			break
		}
		reset := follow(t, c, client.All(), client.From(report.Token()), client.WithResync())
		want(t, "reset", reset.take(t, 3), "reset {h}a=1, reset {h}b=2, reset {h}c=3")
		put(t, c, "{h}d", "4")
		want(t, "behind the reset", reset.take(t, 1), "put {h}d=4")
	})
}

// P3: the answer to a write is lost, and the caller gets the one there was.
func TestDroppedReplies(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		ctx := within(t)
		s := NewServer(t)
		c := s.Client()
		lost := s.DropReply(Match{Kind: Add, Key: "n", Times: 3})
		r := must[client.AddResult](t)(c.Add(ctx, "n", 5))
		want(t, "sum", r.Value, 5)
		want(t, "repeated", r.Repeated, true)
		want(t, "hits", lost.Hits(), 3)
		want(t, "sum once more", must[client.AddResult](t)(c.Add(ctx, "n", 1)).Value, 6)

		s.DropReply(Match{Kind: Put})
		_, err := c.Put(ctx, "k", []byte("v"), client.WithoutRequestID())
		want(t, "in doubt", errors.Is(err, client.ErrInDoubt), true)
		want(t, "applied", text(t, c, "k"), "v")

		s.DropReply(Match{Kind: Get})
		want(t, "a read is repeated", text(t, c, "k"), "v")

		s.DropReply(Match{Kind: Txn, Key: "{k}2"})
		txn := must[client.TxnResult](t)(c.Batch(ctx, client.OpAdd("{k}1", 1), client.OpAdd("{k}2", 1)))
		want(t, "a transaction once", txn.Results[0].Number, 1)
		want(t, "its answer", txn.Repeated, true)

		s.DropReply(Match{Kind: Scan})
		want(t, "a scan goes on", len(keysOf(t, c.Scan(ctx, client.All()))), 4)

		broken := s.DropReply(Match{Kind: Watch, Prefix: "w"})
		e := follow(t, c, client.Key("w"))
		put(t, c, "w", "1")
		put(t, c, "w", "2")
		want(t, "a watch goes on", e.take(t, 2), "put w=1, put w=2")
		want(t, "hits", broken.Hits(), 1)
	})
}

func TestFailNext(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		ctx := within(t)
		s := NewServer(t)
		c := s.Client()
		fault := s.FailNext(Match{Kind: Put, Prefix: "user/"}, client.ErrNoSpace)
		put(t, c, "other", "")
		_, err := c.Put(ctx, "user/1", nil)
		want(t, "refused", errors.Is(err, client.ErrNoSpace) && !errors.Is(err, client.ErrInDoubt), true)
		want(t, "hits", fault.Hits(), 1)
		put(t, c, "user/1", "v")

		s.FailNext(Match{Key: "user/1", Times: 2}, client.ErrUnavailable)
		want(t, "repeated by the client", text(t, c, "user/1"), "v")

		s.FailNext(Match{}, &client.Error{Kind: client.ErrConditionFailed, Exists: true, Version: 17})
		_, err = c.Put(ctx, "user/1", nil, client.IfVersion(3))
		var e *client.Error
		want(t, "condition", errors.As(err, &e) && e.Kind == client.ErrConditionFailed && e.Exists && e.Version == 17, true)

		full := s.FailNext(Match{Kind: Get, Times: Forever}, &client.Error{Kind: client.ErrOverloaded, RetryAfter: time.Millisecond})
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err = c.Get(short, "user/1")
		want(t, "until the call's end", errors.Is(err, client.ErrTimeout), true)
		full.Lift()
		want(t, "lifted", text(t, c, "user/1"), "v")

		s.FailNext(Match{Kind: Scan}, client.ErrInternal)
		for _, err := range c.Scan(ctx, client.Key("user/1")) {
			want(t, "scan", errors.Is(err, client.ErrInternal), true)
		}
		s.FailNext(Match{Kind: Watch}, client.ErrCompacted)
		for _, err := range c.Watch(ctx, client.Key("user/1")) {
			want(t, "watch", errors.Is(err, client.ErrCompacted), true)
			break
		}
	})
}

// What a node can say of a request, FailNext can have it say, and the client hears it.
func TestFailNextKnowsEveryKind(t *testing.T) {
	for _, k := range kinds {
		a, ok := refusalOf(fmt.Errorf("wrapped: %w", k.is))
		if !ok || kverr.KindOf(wire.ErrorFromProto(a.GetError())) != k.kind {
			t.Errorf("%v became %v", k.is, a)
		}
	}
	for _, err := range []error{client.ErrNotFound, client.ErrClosed, client.ErrCanceled, errors.New("some other"), nil} {
		if _, ok := refusalOf(err); ok {
			t.Errorf("%v can be said by a node", err)
		}
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(t)
		c := s.Client()
		put(t, c, "k", "1")
		held := s.Delay(Match{Kind: Put, Key: "k"}, time.Hour)
		done := make(chan error, 1)
		go func() {
			_, err := c.Put(context.Background(), "k", []byte("2"), client.WithoutRequestID())
			done <- err
		}()
		synctest.Wait()
		want(t, "others pass it by", text(t, c, "k"), "1")
		held.Lift()
		want(t, "lifted", <-done, nil)
		want(t, "carried out", text(t, c, "k"), "2")

		s.Delay(Match{Kind: Get}, time.Second)
		start := time.Now()
		text(t, c, "k")
		want(t, "took", time.Since(start) >= time.Second, true)

		// The time of the caller is over when the delay is: nothing is applied.
		s.Delay(Match{Kind: Put}, time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Put(ctx, "k", []byte("3"))
		want(t, "in doubt", errors.Is(err, client.ErrInDoubt) && errors.Is(err, client.ErrTimeout), true)
		time.Sleep(2 * time.Minute)
		want(t, "not applied after its time", text(t, c, "k"), "2")

		s.Delay(Match{Kind: Watch}, time.Second)
		e := follow(t, c, client.Key("k"))
		put(t, c, "k", "4")
		want(t, "a watch", e.take(t, 1), "put k=4")
	})
}

func TestShardsAreLikeACluster(t *testing.T) {
	ctx := within(t)
	c := NewServer(t, WithShards(16)).Client()
	var wanted []string
	for i := range 200 {
		key := fmt.Sprintf("key/%03d", i)
		wanted = append(wanted, key)
		put(t, c, key, "")
	}
	var report client.ScanReport
	got := keysOf(t, c.Scan(ctx, client.All(), client.WithReport(&report)))
	want(t, "in order", slices.Equal(got, wanted), true)
	want(t, "one stream for each shard", report.Streams, 16)
	bySlot := keysOf(t, c.Scan(ctx, client.All(), client.BySlot()))
	want(t, "another order", slices.Equal(bySlot, wanted), false)
	slices.Sort(bySlot)
	want(t, "of the same keys", slices.Equal(bySlot, wanted), true)
	tagged := keysOf(t, c.Scan(ctx, client.Prefix("{x}"), client.WithReport(&report)))
	want(t, "one stream for a hash tag", report.Streams == 1 && len(tagged) == 0, true)
}

// A scan of one shard is of one moment, however long its loop takes.
func TestScanIsOfOneMoment(t *testing.T) {
	ctx := within(t)
	c := NewServer(t).Client()
	const n = 4000 // of 1 KiB: many times what the stream takes ahead
	value := func(c string) []byte { return []byte(strings.Repeat(c, 1<<10)) }
	var all []client.KV
	for i := range n {
		all = append(all, client.KV{Key: fmt.Sprintf("{s}%04d", i), Value: value("a")})
	}
	must[[]client.WriteResult](t)(c.PutMany(ctx, all))
	seen := 0
	for item, err := range c.Scan(ctx, client.Prefix("{s}")) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 1 {
			for i := range all {
				all[i].Value = value("b")
			}
			must[[]client.WriteResult](t)(c.PutMany(ctx, all))
			must[client.DeleteResult](t)(c.Delete(ctx, all[n-1].Key))
			put(t, c, "{s}zzzz", "")
		}
		if item.Value[0] != 'a' {
			t.Fatalf("%s was written after the scan had begun", item.Key)
		}
	}
	want(t, "keys", seen, n)
}

// A loop that stands still is cut off as a node does, and goes on: what did not change
// comes once.
func TestScanThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewServer(t, WithShards(1)).Client()
		ctx := context.Background()
		for i := range 40 {
			must[client.PutResult](t)(c.Put(ctx, fmt.Sprintf("{s}%02d", i), make([]byte, 512<<10)))
		}
		var got []string
		var report client.ScanReport
		for item, err := range c.Scan(ctx, client.All(), client.WithReport(&report)) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, item.Key); len(got) == 1 {
				time.Sleep(stallTimeout + time.Second)
				must[client.DeleteResult](t)(c.Delete(ctx, "{s}39"))
			}
		}
		want(t, "resumed", report.Resumed, 1)
		want(t, "keys", len(slices.Compact(got)) == 39 && slices.IsSorted(got), true)
	})
}

// Every read says how it was served.
func TestReadLevels(t *testing.T) {
	ctx := within(t)
	s := NewServer(t, WithVirtualTime())
	c := s.Client()
	session := client.NewSession()
	put(t, c, "k", "v", client.WithSession(session))
	for _, tc := range []struct {
		name string
		opt  []client.ReadOption
		by   client.ServedBy
	}{
		{"linearizable", nil, client.ServedByLeader},
		{"session", []client.ReadOption{client.InSession(session)}, client.ServedByReplica},
		{"bounded, just after", []client.ReadOption{client.BoundedStale(time.Second)}, client.ServedByReplica},
		{"any", []client.ReadOption{client.Any()}, client.ServedByReplica},
		{"from follower", []client.ReadOption{client.FromFollower()}, client.ServedByLeader}, // there is none
	} {
		item := must[client.Item](t)(c.Get(ctx, "k", tc.opt...))
		if item.Served.By != tc.by || item.Served.ShardVersion < item.Version || item.Served.Node != nodeID {
			t.Errorf("%s: served %+v", tc.name, item.Served)
		}
	}
	s.Advance(2 * time.Second)
	for _, by := range []client.ServedBy{client.ServedByLeader, client.ServedByReplica} {
		want(t, "bounded, later", must[client.Item](t)(c.Get(ctx, "k", client.BoundedStale(time.Second))).Served.By, by)
	}
	other := NewServer(t).Client()
	_, err := other.Get(ctx, "k", client.AtLeast(session.Token()))
	want(t, "another cluster's token", errors.Is(err, client.ErrBadToken), true)
}

// P7: what a client caches grows old as virtual time goes on.
func TestCachesFollowVirtualTime(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		s := NewServer(t, WithVirtualTime())
		c, other := s.Client(client.WithCache(1<<20)), s.Client()
		stale := client.BoundedStale(time.Minute)
		put(t, other, "k", "old")
		want(t, "filled", text(t, c, "k"), "old")
		put(t, other, "k", "new")
		s.Advance(time.Minute - time.Second)
		want(t, "young enough", text(t, c, "k", stale), "old")
		want(t, "served by", must[client.Item](t)(c.Get(within(t), "k", stale)).Served.By, client.ServedByCache)
		s.Advance(2 * time.Second)
		want(t, "too old", text(t, c, "k", stale), "new")
	})
}

func TestLimitsAreANodes(t *testing.T) {
	ctx := within(t)
	c := NewServer(t).Client(client.WithBlock())
	_, err := c.Put(ctx, strings.Repeat("k", MaxKeyBytes+1), nil)
	want(t, "key", errors.Is(err, client.ErrTooLarge), true)
	_, err = c.Put(ctx, "k", make([]byte, MaxValueBytes+1))
	want(t, "value", errors.Is(err, client.ErrTooLarge), true)
	must[client.PutResult](t)(c.Put(ctx, strings.Repeat("k", MaxKeyBytes), make([]byte, MaxValueBytes)))
}

// P9: more scans than a node has room for are refused, and served later.
func TestScansAreBounded(t *testing.T) {
	ctx := within(t)
	s := NewServer(t, WithShards(1))
	c := s.Client()
	put(t, c, "{s}1", strings.Repeat("v", 1<<20))
	put(t, c, "{s}2", strings.Repeat("v", 1<<20)) // more than what is taken ahead
	raw := dial(t, s)
	whole := &kvv1.ScanRequest{Shard: 2, Slots: &kvv1.Arc{To: 1 << 14}}
	begun, cancel := context.WithCancel(ctx)
	defer cancel()
	for range maxScans {
		st := must[grpc.ServerStreamingClient[kvv1.ScanPage]](t)(raw.Scan(begun, whole))
		must[*kvv1.ScanPage](t)(st.Recv())
	}
	err := scanError(ctx, raw, whole)
	want(t, "one too many", kverr.KindOf(wire.ErrorFromStatus(err, wire.Unsent)), kverr.Overloaded)
	cancel()
	want(t, "served later", len(keysOf(t, c.Scan(ctx, client.All()))), 2)
}

// Requests that no client of ours sends are refused as a node refuses them.
func TestBadRequests(t *testing.T) {
	ctx := within(t)
	s := NewServer(t)
	raw := dial(t, s)
	for name, call := range map[string]func() error{
		"empty key": func() error { _, err := raw.Get(ctx, &kvv1.GetRequest{}); return err },
		"long key":  func() error { _, err := raw.Get(ctx, &kvv1.GetRequest{Key: make([]byte, MaxKeyBytes+1)}); return err },
		"level":     func() error { _, err := raw.Get(ctx, &kvv1.GetRequest{Key: []byte("k"), Level: 9}); return err },
		"age": func() error {
			_, err := raw.Get(ctx, &kvv1.GetRequest{Key: []byte("k"), MaxAgeUs: 1 << 63})
			return err
		},
		"long value": func() error {
			_, err := raw.Put(ctx, &kvv1.PutRequest{Key: []byte("k"), Value: make([]byte, MaxValueBytes+1)})
			return err
		},
		"condition": func() error { _, err := raw.Put(ctx, &kvv1.PutRequest{Key: []byte("k"), Condition: 9}); return err },
		"version 0": func() error { _, err := raw.Put(ctx, &kvv1.PutRequest{Key: []byte("k"), Condition: 3}); return err },
		"number alone": func() error {
			_, err := raw.Put(ctx, &kvv1.PutRequest{Key: []byte("k"), RequestId: &kvv1.RequestId{Number: 1}})
			return err
		},
		"client id": func() error {
			_, err := raw.Put(ctx, &kvv1.PutRequest{Key: []byte("k"), RequestId: &kvv1.RequestId{ClientId: []byte("x")}})
			return err
		},
		"no transaction": func() error { _, err := raw.Txn(ctx, &kvv1.TxnRequest{}); return err },
		"ttl": func() error {
			_, err := raw.Expire(ctx, &kvv1.ExpireRequest{Key: []byte("k"), Expiry: 2, TtlUs: 1 << 63})
			return err
		},
		"far not-after": func() error {
			_, err := raw.Add(ctx, &kvv1.AddRequest{Key: []byte("k"), RequestId: &kvv1.RequestId{ClientId: make([]byte, 16), Number: 1, NotAfterUs: 1 << 52}})
			return err
		},
		"version unknown": func() error {
			_, err := raw.Get(ctx, &kvv1.GetRequest{Key: []byte("k"), Level: 1, MinVersion: 1 << 53})
			return err
		},
		"scan of no slot": func() error { return scanError(ctx, raw, &kvv1.ScanRequest{Shard: 2}) },
		"scan of no shard": func() error {
			return scanError(ctx, raw, &kvv1.ScanRequest{Slots: &kvv1.Arc{To: 1}})
		},
		"scan backwards": func() error {
			return scanError(ctx, raw, &kvv1.ScanRequest{Shard: 2, Slots: &kvv1.Arc{To: 1}, From: []byte("b"), To: []byte("a")})
		},
		"scan order": func() error {
			return scanError(ctx, raw, &kvv1.ScanRequest{Shard: 2, Slots: &kvv1.Arc{To: 1}, Order: 7})
		},
		"watch of the future": func() error {
			st, err := raw.Watch(ctx, &kvv1.WatchRequest{Shard: 2, Slots: &kvv1.Arc{To: 1}, AfterVersion: 1 << 52})
			if err == nil {
				_, err = st.Recv()
			}
			return err
		},
	} {
		err := call()
		if kind := kverr.KindOf(wire.ErrorFromStatus(err, wire.Unsent)); kind != kverr.Invalid {
			t.Errorf("%s: %v (%v)", name, err, kind)
		}
	}
	st := must[grpc.ServerStreamingClient[kvv1.ScanPage]](t)(raw.Scan(ctx, &kvv1.ScanRequest{Shard: 3, Slots: &kvv1.Arc{To: 1}}))
	page := must[*kvv1.ScanPage](t)(st.Recv())
	want(t, "another shard's slots", page.GetError().GetKind(), kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)
	want(t, "directions", page.GetRecord().GetShard(), 2)
}

func scanError(ctx context.Context, raw kvv1.KVClient, r *kvv1.ScanRequest) error {
	st, err := raw.Scan(ctx, r)
	if err == nil {
		_, err = st.Recv()
	}
	return err
}

func dial(t *testing.T, s *Server) kvv1.KVClient {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(s.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(16<<20)) // nothing is taken far ahead
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return kvv1.NewKVClient(cc)
}

// The unary calls are the same server.
func TestUnaryCalls(t *testing.T) {
	ctx := within(t)
	s := NewServer(t)
	raw, key := dial(t, s), []byte("{k}")
	id := &kvv1.RequestId{ClientId: make([]byte, 16), Number: 1, LowestOpen: 1, NotAfterUs: s.clock.WallMicros() + 1e6}
	s.DropReply(Match{Kind: Add})
	_, err := raw.Add(ctx, &kvv1.AddRequest{Key: key, Delta: 3, RequestId: id})
	want(t, "lost", kverr.KindOf(wire.ErrorFromStatus(err, wire.MaybeSent)), kverr.OutcomeUnknown)
	added := must[*kvv1.AddResponse](t)(raw.Add(ctx, &kvv1.AddRequest{Key: key, Delta: 3, RequestId: id}))
	want(t, "first answer", added.GetCounter() == 3 && added.GetRepeated(), true)
	must[*kvv1.ExpireResponse](t)(raw.Expire(ctx, &kvv1.ExpireRequest{Key: key, Expiry: 2, TtlUs: 1e9}))
	got := must[*kvv1.GetResponse](t)(raw.Get(ctx, &kvv1.GetRequest{Key: key}))
	want(t, "get", string(got.GetValue()) == "3" && got.GetExpiresUs() != 0, true)
	replaced := must[*kvv1.PutResponse](t)(raw.Put(ctx, &kvv1.PutRequest{Key: key, Value: []byte("x"), WantPrevious: true}))
	want(t, "previous", proto.Equal(replaced.GetPrevious(), &kvv1.Previous{Found: true, Value: []byte("3"), Version: got.GetVersion(), ExpiresUs: got.GetExpiresUs()}), true)
	txn := must[*kvv1.TxnResponse](t)(raw.Txn(ctx, &kvv1.TxnRequest{Txn: &kvv1.Txn{Then: []*kvv1.Leaf{{Kind: 1, Key: key}}}}))
	want(t, "leaf", string(txn.GetLeaves()[0].GetValue()), "x")
	must[*kvv1.DeleteResponse](t)(raw.Delete(ctx, &kvv1.DeleteRequest{Key: key}))
	want(t, "gone", must[*kvv1.GetResponse](t)(raw.Get(ctx, &kvv1.GetRequest{Key: key})).GetFound(), false)
}

// A request id that outlives its time is refused, and virtual time can tell.
func TestRequestIDsExpire(t *testing.T) {
	s := NewServer(t, WithVirtualTime())
	c := s.Client()
	id := c.NewRequestID()
	first := put(t, c, "k", "1", client.WithRequestID(id))
	again := put(t, c, "k", "1", client.WithRequestID(id))
	want(t, "first answer", again.Repeated && again.Version == first.Version, true)
	s.Advance(client.RequestIDLifetime + time.Second)
	_, err := c.Put(within(t), "k", []byte("1"), client.WithRequestID(id))
	want(t, "expired", errors.Is(err, client.ErrExpired), true)
}

// With virtual time a run is the same every time, versions too.
func TestVirtualRunsAreEqual(t *testing.T) {
	run := func() (versions []uint64) {
		s := NewServer(t, WithVirtualTime())
		c := s.Client()
		for i := range 20 {
			versions = append(versions, put(t, c, fmt.Sprint("k", i%3), "v").Version)
			s.Advance(time.Millisecond)
		}
		return versions
	}
	if a, b := run(), run(); !reflect.DeepEqual(a, b) {
		t.Errorf("versions %v and %v", a, b)
	}
}
