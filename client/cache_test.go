package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// cachedReads is a client with a cache, beside one without that writes.
type cachedReads struct {
	t      *testing.T
	m      *model
	c      *Client
	writer *Client
}

func newCachedReads(t *testing.T) *cachedReads {
	m := newModel(t, 3, 1)
	m.lagging()
	target := "n1:7400,n2:7400,n3:7400"
	c := m.w.open(target, WithCache(1<<20))
	if _, err := c.Get(context.Background(), "who leads?", WithoutCache()); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return &cachedReads{t, m, c, m.w.open(target)}
}

func (r *cachedReads) write(value string) uint64 {
	r.t.Helper()
	w, err := r.writer.Put(context.Background(), "a", []byte(value))
	if err != nil {
		r.t.Fatal(err)
	}
	return w.Version
}

func (r *cachedReads) read(want string, by ServedBy, opts ...ReadOption) Item {
	r.t.Helper()
	item, err := r.c.Get(context.Background(), "a", opts...)
	if err != nil && !errors.Is(err, ErrNotFound) || (err != nil) != (want == "") {
		r.t.Fatal(err)
	}
	if string(item.Value) != want || item.Served.By != by || item.NotModified {
		r.t.Fatalf("read %q by %v; want %q by %v", item.Value, item.Served.By, want, by)
	}
	for i := range item.Value { // the caller's to change
		item.Value[i] = '!'
	}
	return item
}

func TestP7_CacheKeepsTheLevels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		s := NewSession()
		one := r.write("1")
		r.read("1", ServedByLeader, Any())
		r.read("1", ServedByCache, Any())
		if item := r.read("1", ServedByCache, InSession(s)); s.Token().at(3) != item.Served.ShardVersion || item.Version != one || item.Served.Node == "" {
			t.Fatalf("%+v, session %v", item, s.Token())
		}
		// Nothing was said about the age of an Any.
		r.read("1", ServedByLeader, BoundedStale(time.Hour))
		r.read("1", ServedByCache, BoundedStale(time.Hour+time.Second))
		r.write("2")
		r.read("1", ServedByCache, Any())
		r.read("1", ServedByCache, InSession(s))
		time.Sleep(10 * time.Second)
		// It was read with an hour's tolerance: it may be that old already.
		r.read("2", ServedByLeader, BoundedStale(time.Minute))
		r.write("3")
		r.read("3", ServedByLeader)
		if got := r.m.w.nodes[0].operations(); got[len(got)-1].GetIfNotVersion() == 0 {
			t.Error("a linearizable read asks with the version that is cached")
		}
		before := r.c.Stats()
		r.read("3", ServedByLeader)
		if after := r.c.Stats(); after.CacheValidated != before.CacheValidated+1 || after.CacheMisses != before.CacheMisses {
			t.Errorf("%+v", after)
		}
		r.write("4")
		time.Sleep(5 * time.Second)
		r.read("3", ServedByCache, BoundedStale(5*time.Second)) // sent exactly then
		r.read("4", ServedByLeader, BoundedStale(5*time.Second-time.Microsecond))
		// A session that has seen more.
		other := NewSession()
		if _, err := r.writer.Put(context.Background(), "b", nil, WithSession(other)); err != nil {
			t.Fatal(err)
		}
		r.read("4", ServedByCache, InSession(s))
		r.read("4", ServedByLeader, InSession(other))
		r.read("4", ServedByCache, AtLeast(other.Token()))
		// By the way.
		r.write("5")
		r.read("5", ServedByLeader, WithoutCache(), Any())
		r.read("4", ServedByCache, Any())
		if s := r.c.Stats(); s.CacheHits < 8 || s.CacheRefused < 3 || s.CacheEntries != 1 || s.CacheBytes < 100 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCacheKeepsNotFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		if _, err := r.writer.Put(context.Background(), "b", nil); err != nil {
			t.Fatal(err)
		}
		r.read("", ServedByLeader)
		r.read("", ServedByCache, Any())
		r.read("", ServedByLeader) // asks
		r.write("1")
		r.read("", ServedByCache, Any())
		r.read("1", ServedByLeader)
		r.read("1", ServedByCache, Any())
		if s := r.c.Stats(); s.CacheValidated != 1 || s.CacheHits != 3 || s.CacheMisses != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCacheAndDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		if _, err := r.writer.Put(context.Background(), "a", []byte("1"), WithTTL(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if item := r.read("1", ServedByLeader); item.Expires.IsZero() {
			t.Fatal(item)
		}
		time.Sleep(59 * time.Second)
		if item := r.read("1", ServedByCache, Any()); item.Expires.IsZero() {
			t.Fatal(item)
		}
		time.Sleep(time.Second + time.Millisecond)
		r.read("", ServedByLeader, Any())
	})
}

func TestCacheSeesOwnWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		c, ctx := r.c, context.Background()
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(c.Put(ctx, "a", []byte("1")))
		r.read("1", ServedByLeader, Any())
		value := []byte("2")
		must(c.Put(ctx, "a", value))
		value[0] = '!'
		r.read("2", ServedByCache, Any())
		r.read("2", ServedByCache, BoundedStale(time.Second))
		must(c.Delete(ctx, "a"))
		r.read("", ServedByCache, Any())
		must(c.PutMany(ctx, []KV{{"a", []byte("3")}}))
		r.read("3", ServedByCache, Any())
		for name, step := range map[string]struct {
			write func() (any, error)
			want  string
		}{
			"TTL":      {func() (any, error) { return c.Put(ctx, "a", []byte("4"), WithTTL(time.Hour)) }, "4"},
			"keep TTL": {func() (any, error) { return c.Put(ctx, "a", []byte("4"), KeepTTL()) }, "4"},
			"expire":   {func() (any, error) { return c.Expire(ctx, "a", time.Hour) }, ""},
			"persist":  {func() (any, error) { return c.Persist(ctx, "a") }, ""},
			"batch":    {func() (any, error) { return c.Batch(ctx, OpPut("{a}", nil), OpPut("a", []byte("5"))) }, "5"},
			"add":      {func() (any, error) { return c.Add(ctx, "a", 1) }, ""},
		} {
			must(c.Put(ctx, "a", []byte("9")))
			want := step.want
			if want == "" {
				want = "9"
			}
			if name == "add" {
				want = "10"
			}
			r.read("9", ServedByCache, Any())
			must(step.write())
			if item := r.read(want, ServedByLeader, Any()); item.Served.By != ServedByLeader {
				t.Errorf("%s: %+v", name, item)
			}
		}
		must(c.Put(ctx, "a", []byte("6")))
		r.read("6", ServedByCache, Any())
		r.m.mu.Lock()
		r.m.after = func(_ *fakeNode, op *kvv1.Operation, a *kvv1.Answer) *kvv1.Answer {
			if op.GetKind() == opPut {
				return nil
			}
			return a
		}
		r.m.mu.Unlock()
		if _, err := c.Put(within(t, time.Second), "a", []byte("7")); !errors.Is(err, ErrInDoubt) {
			t.Fatal(err)
		}
		r.read("7", ServedByLeader, Any())
	})
}

// C2: an answer that was on its way when this client's write was acknowledged is
// older than that, and must not come into the cache.
func TestP7_SlowAnswerAfterOwnWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		ctx := context.Background()
		if _, err := r.c.Put(ctx, "a", []byte("old")); err != nil {
			t.Fatal(err)
		}
		slow := true
		r.m.w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := r.m.serve(s, op)
			if op.GetKind() == opGet && slow {
				slow = false
				go func() {
					time.Sleep(time.Second)
					s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{a}})
				}()
				return nil
			}
			return a
		})
		var wg sync.WaitGroup
		wg.Go(func() { r.read("old", ServedByLeader, Any()) })
		time.Sleep(100 * time.Millisecond)
		if _, err := r.c.Put(ctx, "a", []byte("new")); err != nil {
			t.Fatal(err)
		}
		// Who comes now must not be given what the others wait for.
		wg.Go(func() { r.read("new", ServedByLeader, Any()) })
		wg.Wait()
		r.read("new", ServedByCache, Any())
	})
}

// C3: what came late is as old as the request, not as the answer.
func TestP7_AgeCountsFromTheRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		r.write("1")
		r.m.w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := r.m.serve(s, op)
			go func() {
				time.Sleep(time.Second)
				s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{a}})
			}()
			return nil
		})
		r.read("1", ServedByLeader)
		r.read("1", ServedByCache, BoundedStale(time.Second))
		r.read("1", ServedByLeader, BoundedStale(999*time.Millisecond))
	})
}

func TestCacheHasOneFlightPerKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		r.write(strings.Repeat("x", 1000))
		var values int
		r.m.w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := r.m.serve(s, op)
			if len(a.GetValue()) > 0 {
				values++
			}
			time.Sleep(10 * time.Millisecond)
			return a
		})
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				opts := []ReadOption{[]LevelOption{Any(), BoundedStale(time.Minute), Linearizable()}[i%3]}
				if _, err := r.c.Get(context.Background(), "a", opts...); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// An Any may have flown first, with which BoundedStale cannot do anything.
		if s := r.c.Stats(); values > 2+20 || s.CacheHits < 19 {
			t.Errorf("the value came %d times; %+v", values, s)
		}
		// Nobody waits for a flight longer than its context lets it.
		r.m.w.nodes[0].script(silent)
		r.m.w.nodes[1].script(silent)
		r.m.w.nodes[2].script(silent)
		wg.Go(func() { _, _ = r.c.Get(within(t, time.Minute), "other") })
		time.Sleep(time.Millisecond)
		began := time.Now()
		if _, err := r.c.Get(within(t, time.Second), "other"); !errors.Is(err, ErrTimeout) || time.Since(began) != time.Second {
			t.Error(err)
		}
		wg.Wait()
		if n := len(r.c.cache.stripe("other").filling); n != 0 {
			t.Errorf("%d reads are still registered", n)
		}
	})
}

func TestGetManyThroughTheCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newCachedReads(t)
		c, ctx := r.c, context.Background()
		r.m.fill(t, r.writer, "a", "b", "c")
		if _, err := c.Get(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		before := c.Stats()
		all, err := c.GetMany(ctx, []string{"a", "b", "c", "none", "a"}, Any())
		if err != nil || all[1].Item.Served.By != ServedByCache || all[0].Item.Served.By != ServedByLeader || !errors.Is(all[3].Err, ErrNotFound) {
			t.Fatalf("%+v, %v", all, err)
		}
		for i, key := range []string{"a", "b", "c"} {
			if string(all[i].Item.Value) != "v:"+key || all[i].Item.Key != key {
				t.Errorf("%+v", all[i])
			}
		}
		all, err = c.GetMany(ctx, []string{"a", "b", "none"}, InSession(NewSession()))
		if err != nil || all[0].Item.Served.By != ServedByCache || all[2].Item.Served.By != ServedByCache {
			t.Fatalf("%+v, %v", all, err)
		}
		all, err = c.GetMany(ctx, []string{"a", "b"})
		if err != nil || string(all[0].Item.Value) != "v:a" || all[0].Item.NotModified {
			t.Fatalf("%+v, %v", all, err)
		}
		s := c.Stats()
		if s.CacheHits != before.CacheHits+4 || s.CacheValidated != 2 || s.Frames != before.Frames+2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c := m.w.open("n1:7400", WithCache(64<<10))
		keys := m.fill(t, c, numbered("k%04d", 1000)...)
		for _, key := range keys {
			if _, err := c.Get(context.Background(), key); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Get(context.Background(), "k0000", Any()); err != nil {
				t.Fatal(err)
			}
		}
		s := c.Stats()
		if s.CacheBytes > 64<<10 || s.CacheBytes < 60<<10 || s.CacheEntries < 200 || s.CacheEvicted != 1000-uint64(s.CacheEntries) {
			t.Errorf("%+v", s)
		}
		if item, err := c.Get(context.Background(), "k0000", Any()); err != nil || item.Served.By != ServedByCache {
			t.Errorf("what is used most was evicted: %+v", item)
		}
		if _, err := c.Put(context.Background(), "huge", make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(context.Background(), "huge"); err != nil || c.Stats().CacheEntries != s.CacheEntries {
			t.Errorf("one value takes all: %+v, %v", c.Stats(), err)
		}
		if _, err := Open(context.Background(), "n1:7400", WithCache(-1)); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
}

// TestP7_CacheAgainstHistory gives a cache the facts of a key's history in any order
// and at any time, as slow answers do, beside writes of the client's own. What it
// shows must be true of the version that it claims, and as fresh as it claims.
func TestP7_CacheAgainstHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const key = "k"
		clock := &skewed{wall: 1e15}
		k := newCache(1<<20, newShardTime(clock), clock.Boot)
		// The history: state i is what holds from version 10*i on, and was acknowledged
		// to everybody at time i.
		states := 1
		value := func(i int) []byte { return []byte(fmt.Sprint("value ", i)) }
		stateAt := func(i int) fact {
			return fact{found: i%3 != 0, value: value(i), version: uint64(10 * i), shardVersion: uint64(10 * i), fresh: neverFresh}
		}
		type read struct {
			alone bool
			state int
			fresh time.Duration
		}
		var open []read
		acked := 0 // highest own write acknowledged
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			clock.mono = time.Duration(states)
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0: // somebody writes
				states++
			case 1: // a read begins, linearizable or of a replica that lags
				r := read{alone: rapid.Bool().Draw(t, "alone"), state: rapid.IntRange(1, states).Draw(t, "state"), fresh: neverFresh}
				if rapid.Bool().Draw(t, "linearizable") {
					r.state, r.fresh = states, clock.mono
				}
				if k.begin(key, r.alone) == nil {
					open = append(open, r)
				}
			case 2: // a read ends, perhaps long after
				if len(open) > 0 {
					i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
					f := stateAt(open[i].state)
					f.fresh = open[i].fresh
					k.end(key, open[i].alone, &f)
					open = append(open[:i], open[i+1:]...)
				}
			case 3: // a read fails
				if len(open) > 0 {
					k.end(key, open[0].alone, nil)
					open = open[1:]
				}
			case 4: // this client writes
				states++
				f := stateAt(states)
				if rapid.Bool().Draw(t, "known") {
					k.wrote(key, f.version, &f)
				} else {
					k.wrote(key, f.version, nil)
				}
				acked = states
			case 5:
				k.drop(key)
				// What is forgotten is protected only while reads are under way that
				// began before; those begun later may lag as they like.
				if len(open) == 0 {
					acked = 0
				}
			}
			f, v := k.look(key, &params{level: kvv1.ReadLevel_READ_LEVEL_ANY}, 0)
			if v != cacheServes {
				continue
			}
			i := int(f.shardVersion / 10)
			want := stateAt(i)
			if f.found != want.found || string(f.value) != string(want.value) || f.version != want.version {
				t.Fatalf("shows %+v, want state %d", f, i)
			}
			if f.fresh != neverFresh && i < int(f.fresh) {
				t.Fatalf("state %d claims to be as fresh as %d", i, f.fresh)
			}
			if e := k.stripe(key).entries[key]; i < acked && e != nil && len(open) > 0 && k.stripe(key).filling[key].floor > f.shardVersion {
				t.Fatalf("state %d is shown after the write of state %d", i, acked)
			}
		}
		for _, r := range open {
			k.end(key, r.alone, nil)
		}
		if len(k.stripe(key).filling) != 0 {
			t.Fatal("reads are still registered")
		}
	})
}

// TestP7_LevelsThroughTrouble lets clients with caches read at all levels, from
// replicas that lag, while others write, leaders change and answers are slow. Every
// answer must be what its level promises.
func TestP7_LevelsThroughTrouble(t *testing.T) {
	hits := uint64(0)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { hits += levelsThroughTrouble(t, seed) })
		})
	}
	if hits < 1000 {
		t.Errorf("too quiet: %d hits", hits)
	}
}

func levelsThroughTrouble(t *testing.T, seed uint64) uint64 {
	m := newModel(t, 3, 2)
	target := "n1:7400,n2:7400,n3:7400"
	m.lagging()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, n := range m.w.nodes {
		n.script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := m.serve(s, op)
			m.mu.Lock()
			pause := time.Duration(rng.IntN(400)) * time.Millisecond
			m.mu.Unlock()
			go func() {
				time.Sleep(pause)
				s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{a}})
			}()
			return nil
		})
	}
	// acks[key] is what was acknowledged when, by version.
	type ack struct {
		at      time.Time
		version uint64
	}
	var mu sync.Mutex
	acks := map[string][]ack{}
	ackedBy := func(key string, at time.Time) (v uint64) {
		mu.Lock()
		defer mu.Unlock()
		for _, a := range acks[key] {
			if !a.at.After(at) {
				v = max(v, a.version)
			}
		}
		return v
	}
	keys := numbered("k%d", 4)
	clients := []*Client{m.w.open(target, WithCache(1<<20)), m.w.open(target, WithCache(1<<20))}
	ctx, stop := context.WithCancel(context.Background())
	var wg, writers sync.WaitGroup
	for i := range 2 {
		rng := rand.New(rand.NewPCG(seed, uint64(10+i)))
		writers.Go(func() {
			for ctx.Err() == nil {
				key := keys[rng.IntN(len(keys))]
				r, err := clients[i].Put(context.Background(), key, []byte(fmt.Sprint(rng.Uint32())))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acks[key] = append(acks[key], ack{time.Now(), r.Version})
				mu.Unlock()
				time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
			}
		})
	}
	for i := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(20+i)))
		c := clients[i%2]
		wg.Go(func() {
			session := NewSession()
			seen := map[string]uint64{} // by this session
			for range 150 {
				key := keys[rng.IntN(len(keys))]
				d := time.Duration(1+rng.IntN(3000)) * time.Millisecond
				began := time.Now()
				var opts []ReadOption
				least, level := uint64(0), rng.IntN(5)
				switch level {
				case 0:
					least = ackedBy(key, began)
				case 1, 2:
					opts = append(opts, InSession(session))
					least = seen[key]
				case 3:
					opts = append(opts, BoundedStale(d))
					least = ackedBy(key, began.Add(-d))
				case 4:
					opts = append(opts, Any())
				}
				if rng.IntN(2) == 0 {
					opts = append(opts, FromFollower())
				}
				item, err := c.Get(context.Background(), key, opts...)
				if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
					return
				}
				if item.Version < least {
					t.Errorf("level %d: version %d by %v; at least %d was promised", level, item.Version, item.Served, least)
				}
				if level == 1 || level == 2 {
					seen[key] = max(seen[key], item.Version)
				}
				time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			}
		})
	}
	trouble := rand.New(rand.NewPCG(seed, 2))
	for range 10 {
		time.Sleep(3 * time.Second)
		m.elect(trouble.IntN(3))
		m.lagging()
		if trouble.IntN(4) == 0 {
			m.split(shardmap.Slot(1 + trouble.IntN(shardmap.Slots-1)))
			m.lagging()
		}
	}
	wg.Wait()
	stop()
	writers.Wait()
	time.Sleep(time.Second)
	return clients[0].Stats().CacheHits + clients[1].Stats().CacheHits
}
