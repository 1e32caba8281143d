package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// watching runs a watch in a goroutine and keeps what it gets.
type watching struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu  sync.Mutex
	all []Changes
	err error
}

func watchAll(c *Client, keys Keys, opts ...WatchOption) *watching {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ch, err := range c.Watch(ctx, keys, opts...) {
			w.mu.Lock()
			w.all = append(w.all, ch)
			w.err = err
			w.mu.Unlock()
		}
	}()
	return w
}

// stop ends the watch and returns what it got, the last being the error.
func (w *watching) stop() ([]Changes, error) {
	synctest.Wait()
	w.cancel()
	<-w.done
	return w.all, w.err
}

func (w *watching) events() (texts []string) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.all {
		for _, e := range ch.Events {
			texts = append(texts, fmt.Sprintf("%s %s=%s", e.Type, e.Key, e.Value))
		}
	}
	return texts
}

func TestWatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 3)
		c, ctx := m.w.open("n1:7400"), context.Background()
		m.fill(t, c, "{u}a", "before")
		w := watchAll(c, Prefix("{u}"))
		all := watchAll(c, All(), KeysOnly(), FromFollower())
		synctest.Wait()
		if len(w.all) != 1 || w.all[0].Kind != Progress || w.all[0].Token.IsZero() {
			t.Fatalf("a watch that is set up says so: %+v", w.all)
		}
		r, err := c.Batch(ctx, OpPut("{u}a", []byte("1"), WithTTL(time.Minute)), OpAdd("{u}n", 2), OpDelete("{u}x"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Put(ctx, "other", []byte("2"))
		_, _ = c.Persist(ctx, "{u}a")
		_, _ = c.Expire(ctx, "{u}a", time.Second)
		time.Sleep(2 * time.Second)
		_, _ = c.Get(ctx, "{u}a")
		want := []string{"put {u}a=1", "put {u}n=2", "delete {u}x=", "deadline {u}a=", "deadline {u}a=", "expire {u}a="}
		if got := w.events(); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		if got := all.events(); len(got) != 7 || !slices.Contains(got, "put other=") {
			t.Errorf("got %q", got)
		}
		changes, err := w.stop()
		if !errors.Is(err, ErrCanceled) || len(changes) != 6 {
			t.Fatal(changes, err)
		}
		group := changes[1]
		if group.Kind != ChangeSet || group.Version != r.Version || len(group.Events) != 3 || group.Events[0].Expires.IsZero() ||
			!group.Covers("{u}z") || group.Covers("other") && shardmap.SlotOf([]byte("other")) != shardmap.SlotOf([]byte("{u}")) {
			t.Errorf("an atomic group comes whole: %+v", group)
		}
		if last := changes[5]; last.Kind != 0 || !reflect.DeepEqual(last.Token, changes[4].Token) {
			t.Errorf("the error comes with the position: %+v", last)
		}
		_, _ = all.stop()
		again := watchAll(c, Prefix("{u}"), From(group.Token))
		if got := again.events(); !slices.Equal(got, want[3:]) {
			t.Errorf("from a token: %q", got)
		}
		if _, err := c.Put(ctx, "{u}a", []byte("9")); err != nil {
			t.Fatal(err)
		}
		if got := again.events(); len(got) != 4 {
			t.Errorf("from a token: %q", got)
		}
		_, _ = again.stop()
	})
}

func TestWatchFromAScan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 3)
		c, ctx := m.w.open("n1:7400"), context.Background()
		m.fill(t, c, numbered("k%02d", 20)...)
		var report ScanReport
		seen := map[string]string{}
		for item, err := range c.Scan(ctx, Prefix("k"), WithReport(&report)) {
			if err != nil {
				t.Fatal(err)
			}
			seen[item.Key] = string(item.Value)
			if len(seen) == 5 {
				m.split(9000)
				_, _ = c.PutMany(ctx, []KV{{"k01", []byte("new")}, {"k17", []byte("new")}, {"k99", []byte("new")}})
				_, _ = c.Delete(ctx, "k02")
			}
		}
		w := watchAll(c, Prefix("k"), From(report.Token()))
		synctest.Wait()
		changes, _ := w.stop()
		for _, ch := range changes {
			for _, e := range ch.Events {
				seen[e.Key] = string(e.Value)
				if e.Type == EventDelete {
					delete(seen, e.Key)
				}
			}
		}
		if !maps.Equal(seen, m.contents("k")) {
			t.Errorf("%v; want %v", seen, m.contents("k"))
		}
	})
}

// contents is what the model holds under a prefix.
func (m *model) contents(prefix string) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]string{}
	for _, s := range m.shards {
		for key, v := range s.replicas[s.leader].data {
			if strings.HasPrefix(key, prefix) {
				out[key] = string(v.value)
			}
		}
	}
	return out
}

func TestWatchProgress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c := m.w.open("n1:7400")
		m.fill(t, c, "a")
		w, quiet := watchAll(c, Key("a"), WithProgress()), watchAll(c, Key("a"))
		synctest.Wait()
		m.fill(t, c, "b")
		time.Sleep(3 * time.Second)
		changes, _ := w.stop()
		if len(changes) != 3 || changes[1].Kind != Progress || changes[1].Token.at(shardmap.SlotOf([]byte("a"))) != m.shards[0].lastVersion() {
			t.Errorf("%+v", changes)
		}
		// The token of the error is as fresh.
		changes, _ = quiet.stop()
		if len(changes) != 2 || changes[1].Token.at(shardmap.SlotOf([]byte("a"))) != m.shards[0].lastVersion() {
			t.Errorf("%+v", changes)
		}
	})
}

// A node that says nothing at all is given up, though its connection stands.
func TestP6_SilentStreamIsBrokenOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		m.fill(t, c, "a")
		w := watchAll(c, Key("a"))
		time.Sleep(time.Second)
		m.w.nodes[0].freeze()
		m.elect(1)
		time.Sleep(time.Second)
		m.fill(t, c, "a")
		time.Sleep(watchSilence + 2*time.Second)
		if got := w.events(); !slices.Equal(got, []string{"put a=v:a"}) {
			t.Errorf("got %q", got)
		}
		_, _ = w.stop()
	})
}

func TestWatchCompacted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		m.fill(t, c, numbered("k%02d", 10)...)
		var report ScanReport
		for range c.Scan(context.Background(), All(), WithReport(&report)) {
		}
		m.fill(t, c, "k01", "k99")
		_, _ = c.Delete(context.Background(), "k02")
		from := report.Token()
		forget := func(nodes ...int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.streams.watches = nil
			for _, n := range nodes {
				m.streams.floors[[2]int{0, n}] = m.shards[0].lastVersion()
			}
		}
		forget(0, 1)
		w := watchAll(c, Prefix("k"), From(from))
		time.Sleep(time.Second)
		if got := w.events(); len(got) != 3 {
			t.Errorf("one replica remembers: %q", got)
		}
		_, _ = w.stop()
		forget(0, 1, 2)
		w = watchAll(c, Prefix("k"), From(from))
		<-w.done
		var e *Error
		if !errors.As(w.err, &e) || e.Kind != ErrCompacted || e.Op != "watch" || len(m.streams.watches) != 3 ||
			w.all[0].Token.String() != from.String() {
			t.Errorf("%d nodes were asked: %v", len(m.streams.watches), w.err)
		}
		// With a node that is down nobody can know better.
		m.w.nodes[2].down()
		w = watchAll(c, Prefix("k"), From(from))
		<-w.done
		if !errors.Is(w.err, ErrCompacted) {
			t.Error(w.err)
		}
		m.w.nodes[2].up()
		w = watchAll(c, Prefix("k"), From(from), WithResync())
		time.Sleep(time.Second)
		m.fill(t, c, "k50")
		changes, _ := w.stop()
		if len(changes) != 3 || changes[0].Kind != Reset || !changes[0].First || !changes[0].Last || len(changes[0].Items) != 10 ||
			!changes[0].Covers("k02") || changes[1].Events[0].Key != "k50" {
			t.Errorf("%+v", changes)
		}
	})
}

// A reset whose scan is interrupted shows a part of the keys at a newer version
// than it goes on from. Nothing of that is told twice, and nothing is lost.
func TestP6_ResetIsInterrupted(t *testing.T) {
	for _, split := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			m := newModel(t, 3, 1)
			c := m.w.open("n1:7400,n2:7400,n3:7400")
			keys := m.fill(t, c, numbered("k%02d", 20)...)
			var report ScanReport
			for range c.Scan(context.Background(), All(), WithReport(&report)) {
			}
			m.fill(t, c, keys...)
			m.mu.Lock()
			for n := range 3 {
				m.streams.floors[[2]int{0, n}] = m.shards[0].lastVersion()
			}
			interrupted := false
			m.streams.onPage = func(_ *fakeNode, _ *kvv1.ScanRequest, count int) error {
				if count != 2 || interrupted {
					return nil
				}
				interrupted = true
				if split {
					m.split(shardmap.SlotOf([]byte(bySlot(keys)[8])))
					m.mu.Lock()
					m.streams.floors[[2]int{1, 0}] = m.shards[1].lastVersion()
					m.streams.floors[[2]int{1, 1}] = m.shards[1].lastVersion()
					m.streams.floors[[2]int{1, 2}] = m.shards[1].lastVersion()
					m.mu.Unlock()
				}
				for _, s := range m.shards {
					set := modelSet{version: s.lastVersion() + 1000}
					for _, key := range append(keys, "new1", "new2", "new3", "new4") {
						if s.record.Arc.Contains(shardmap.SlotOf([]byte(key))) {
							set.changes = append(set.changes, &kvv1.Change{Kind: kvv1.ChangeKind_CHANGE_KIND_PUT, Key: []byte(key), Value: []byte("2")})
						}
					}
					m.mu.Lock()
					m.append(s, set)
					m.mu.Unlock()
				}
				return wire.StatusFromError(kverr.New(kverr.Unavailable, "again"))
			}
			m.mu.Unlock()
			w := watchAll(c, All(), From(report.Token()), WithResync())
			time.Sleep(3 * time.Second)
			changes, _ := w.stop()
			f := &follower{t: t, data: map[string]string{}, last: map[string]uint64{}, seen: map[string]int{}}
			for _, ch := range changes {
				f.take(ch)
			}
			if want := m.contents(""); !maps.Equal(f.data, want) || len(want) != 24 || !interrupted {
				t.Errorf("follows %v\nwant    %v", f.data, want)
			}
			if f.resets < 1 || split && f.resets < 2 {
				t.Errorf("%d resets", f.resets)
			}
		})
	}
}

func TestWatchFailures(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 2)
		c := m.w.open("n1:7400")
		m.fill(t, c, "a")
		s := NewSession()
		s.saw("test", shardmap.Arc{From: 0, To: shardmap.Slots}, 7)
		position := func(cluster string, to shardmap.Slot) Token {
			return Token{cluster: cluster, exact: true, marks: []mark{{0, to, 7}}}
		}
		for name, row := range map[string]struct {
			keys Keys
			opts []WatchOption
			kind error
			says string
		}{
			"range":           {Range("b", "a"), nil, ErrInvalid, "behind"},
			"empty range":     {Range("b", "b"), nil, ErrInvalid, "empty"},
			"two starts":      {All(), []WatchOption{FromNow(), From(position("test", shardmap.Slots))}, ErrInvalid, "both"},
			"no token":        {All(), []WatchOption{From(Token{})}, ErrBadToken, "empty"},
			"session's token": {All(), []WatchOption{From(s.Token())}, ErrBadToken, "session"},
			"other cluster":   {All(), []WatchOption{From(position("elsewhere", shardmap.Slots))}, ErrBadToken, "elsewhere"},
			"half a token":    {All(), []WatchOption{From(position("test", 8000))}, ErrBadToken, "slot 8000"},
		} {
			w := watchAll(c, row.keys, row.opts...)
			<-w.done
			if !errors.Is(w.err, row.kind) || !strings.Contains(w.err.Error(), row.says) {
				t.Errorf("%s: %v", name, w.err)
			}
		}
		m.w.nodes[0].down()
		began := time.Now()
		w := watchAll(c, All())
		<-w.done
		if !errors.Is(w.err, ErrUnavailable) || time.Since(began) < watchPatience {
			t.Error(w.err)
		}
		m.w.nodes[0].up()
		w = watchAll(c, All())
		time.Sleep(time.Second)
		_ = c.Close()
		<-w.done
		if !errors.Is(w.err, ErrClosed) {
			t.Error(w.err)
		}
	})
}

// TestP6_WatchThroughTrouble lets writers write while leaders change, shards split,
// nodes stop, streams break and histories are forgotten. Followers of the watches
// must end with what the model holds, and must have seen every change of a shard
// once and in order, but for those that a reset stands for.
func TestP6_WatchThroughTrouble(t *testing.T) {
	resets, events := 0, 0
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, e := troubledWatch(t, seed)
				resets += r
				events += e
			})
		})
	}
	if resets < 5 || events < 1000 {
		t.Errorf("too quiet: %d resets, %d events", resets, events)
	}
}

// follower keeps what a watch tells, and checks the order.
type follower struct {
	t      *testing.T
	data   map[string]string
	last   map[string]uint64 // version of the last event, by key
	seen   map[string]int    // events, by key and version
	resets int
	events int
}

func (f *follower) take(ch Changes) {
	if ch.Kind == Reset {
		if ch.First {
			f.resets++
			for key := range f.data {
				if ch.Covers(key) {
					delete(f.data, key)
				}
			}
			for key := range f.last {
				if ch.Covers(key) {
					delete(f.last, key)
				}
			}
		}
		for _, item := range ch.Items {
			f.data[item.Key] = string(item.Value)
			f.last[item.Key] = item.Version
		}
		return
	}
	for _, e := range ch.Events {
		f.events++
		if ch.Version <= f.last[e.Key] {
			f.t.Errorf("%s: version %d after %d", e.Key, ch.Version, f.last[e.Key])
		}
		f.last[e.Key] = ch.Version
		f.seen[fmt.Sprint(e.Key, " ", ch.Version)]++
		switch e.Type {
		case EventPut:
			f.data[e.Key] = string(e.Value)
		case EventDelete, EventExpire:
			delete(f.data, e.Key)
		}
		// Both keys of a group change together; a reset may have shown one before.
		if other := strings.TrimSuffix(e.Key, "a") + "b"; f.resets == 0 && strings.HasSuffix(e.Key, "}a") &&
			!slices.ContainsFunc(ch.Events, func(o Event) bool { return o.Key == other }) {
			f.t.Errorf("half of a group: %+v", ch)
		}
	}
}

func troubledWatch(t *testing.T, seed uint64) (resets, events int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := newModel(t, 3, 1+int(seed%3))
	target := "n1:7400,n2:7400,n3:7400"
	writer, reader := m.w.open(target), m.w.open(target)
	m.fill(t, writer, numbered("{k%d}a", 5)...)
	m.fill(t, writer, numbered("{k%d}b", 5)...)
	f := &follower{t: t, data: m.contents(""), last: map[string]uint64{}, seen: map[string]int{}}
	var mu sync.Mutex
	calm := false
	trouble := rand.New(rand.NewPCG(seed, 2))
	chance := func(n int) bool {
		mu.Lock()
		defer mu.Unlock()
		return !calm && trouble.IntN(n) == 0
	}
	m.streams.onFrame = func(_ *fakeNode, _ *kvv1.WatchRequest, count int) error {
		switch {
		case count > 0 && chance(25):
			return wire.StatusFromError(kverr.New(kverr.Overloaded, "too slow"))
		case chance(25):
			return errors.New("some network")
		}
		return nil
	}
	m.streams.onPage = func(*fakeNode, *kvv1.ScanRequest, int) error {
		if chance(3) {
			return wire.StatusFromError(kverr.New(kverr.Unavailable, "again"))
		}
		return nil
	}
	opts := []WatchOption{WithResync()}
	if seed%2 == 1 {
		opts = append(opts, FromFollower())
	}
	ctx, stop := context.WithCancel(context.Background())
	var first sync.Once
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var at []WatchOption // the first watch is from now
		for ctx.Err() == nil {
			n := 0
			for ch, err := range reader.Watch(ctx, All(), append(at, opts...)...) {
				if err != nil {
					if !errors.Is(err, ErrCanceled) {
						t.Error(err)
					}
					break
				}
				f.take(ch)
				first.Do(func() { close(started) })
				if !ch.Token.IsZero() {
					parsed, err := ParseToken(ch.Token.String())
					if err != nil {
						t.Error(err)
					}
					at = []WatchOption{From(parsed)}
				}
				// Sometimes another process takes over, but not in the middle of a reset.
				if n++; n > 30 && (ch.Kind != Reset || ch.Last) && chance(10) {
					break
				}
				if chance(40) {
					time.Sleep(20 * time.Second) // a slow loop
				}
			}
		}
	}()
	<-started
	for range 150 {
		key := fmt.Sprintf("{k%d}", rng.IntN(12))
		value := []byte(fmt.Sprint(rng.Uint32()))
		wctx, cancel := context.WithTimeout(ctx, time.Hour)
		var err error
		if rng.IntN(5) == 0 {
			_, err = writer.Batch(wctx, OpDelete(key+"a"), OpPut(key+"b", value))
		} else {
			_, err = writer.Batch(wctx, OpPut(key+"a", value), OpPut(key+"b", value))
		}
		cancel()
		if err != nil {
			t.Error(err)
		}
		switch rng.IntN(25) {
		case 0:
			m.elect(rng.IntN(3))
		case 1:
			m.split(shardmap.Slot(1 + rng.IntN(shardmap.Slots-1)))
		case 2:
			n := m.w.nodes[rng.IntN(3)]
			n.freeze()
			m.elect(rng.IntN(3))
			time.Sleep(time.Duration(rng.IntN(9000)) * time.Millisecond)
			n.thaw()
		case 3:
			n := m.w.nodes[rng.IntN(3)]
			n.down()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			n.up()
		case 4:
			m.mu.Lock()
			for i, s := range m.shards {
				for n := range 3 {
					m.streams.floors[[2]int{i, n}] = s.lastVersion()
				}
			}
			m.mu.Unlock()
			m.w.nodes[rng.IntN(3)].down() // breaks streams
			time.Sleep(100 * time.Millisecond)
			for _, n := range m.w.nodes {
				n.mu.Lock()
				down := n.server == nil
				n.mu.Unlock()
				if down {
					n.up()
				}
			}
		default:
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		}
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	time.Sleep(2 * time.Minute)
	stop()
	<-done
	if want := m.contents(""); !maps.Equal(f.data, want) {
		t.Errorf("follows %v\nwant    %v", f.data, want)
	}
	for change, n := range f.seen {
		if n != 1 {
			t.Errorf("%s came %d times", change, n)
		}
	}
	if f.resets == 0 && len(f.seen) < 290 {
		t.Errorf("only %d changes were seen", len(f.seen))
	}
	return f.resets, f.events
}
