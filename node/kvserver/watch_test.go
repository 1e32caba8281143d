package kvserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// fakeWatch reads a fakeGroup's log.
type fakeWatch struct {
	group *fakeGroup
	next  int
	upTo  uint64
}

func (g *fakeGroup) Watch(_ context.Context, after uint64, now bool) (Watch, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &fakeWatch{group: g, upTo: after}
	if now {
		w.upTo = g.version
	}
	if w.upTo < g.floor {
		return nil, kverr.New(kverr.Compacted, "gone")
	}
	for w.next < len(g.log) && g.log[w.next].Version <= w.upTo {
		w.next++
	}
	return w, nil
}

// change makes the group do something, in one version.
func (g *fakeGroup) change(changes ...state.Change) (version uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version++
	for _, c := range changes {
		c.Version = g.version
		g.log = append(g.log, c)
	}
	if g.appends != nil {
		close(g.appends)
		g.appends = nil
	}
	return g.version
}

func (w *fakeWatch) Ready() <-chan struct{} {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	if w.group.appends == nil {
		w.group.appends = make(chan struct{})
	}
	return w.group.appends
}

func (w *fakeWatch) Take(int) ([][]state.Change, error) {
	if f := w.group.onTake; f != nil {
		f()
	}
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	if w.upTo < w.group.floor {
		return nil, kverr.New(kverr.Compacted, "gone")
	}
	rest := w.group.log[w.next:]
	w.next, w.upTo = len(w.group.log), max(w.upTo, w.group.version)
	if len(rest) == 0 {
		return nil, nil
	}
	return [][]state.Change{rest}, nil
}

func (w *fakeWatch) UpTo() uint64            { return w.upTo }
func (w *fakeWatch) Record() shardmap.Record { return w.group.Record() }

func (w *fakeWatch) Confirm(_, _ time.Duration) <-chan error {
	ch := make(chan error, 1)
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	ch <- w.group.cutOff
	return ch
}

func changed(key, value string) state.Change {
	return state.Change{Kind: state.ChangePut, Key: []byte(key), Value: []byte(value), Expires: 7}
}

// watching is a Watch call.
type watching struct {
	e   *env
	rpc grpc.ServerStreamingClient[kvv1.WatchFrame]
}

func (e *env) watch(r *kvv1.WatchRequest) *watching {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	e.t.Cleanup(cancel)
	rpc, err := e.client.Watch(ctx, r)
	if err != nil {
		e.t.Fatal(err)
	}
	return &watching{e, rpc}
}

func (w *watching) recv() (*kvv1.WatchFrame, error) {
	f, err := w.rpc.Recv()
	if err == io.EOF {
		return nil, err
	}
	return f, wire.ErrorFromStatus(err, wire.Unsent)
}

// next is the next frame in words.
func (w *watching) next() string {
	w.e.t.Helper()
	f, err := w.recv()
	if err != nil {
		return kverr.KindOf(err).String()
	}
	out := fmt.Sprint(f.Progress)
	for _, s := range f.Sets {
		out += fmt.Sprintf(" %d:", s.Version)
		for _, c := range s.Changes {
			out += fmt.Sprintf(" %s %s=%s", c.Kind.String()[len("CHANGE_KIND_"):], c.Key, c.Value)
		}
	}
	return out
}

func (w *watching) expect(want ...string) {
	w.e.t.Helper()
	for _, want := range want {
		if got := w.next(); got != want {
			w.e.t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestP6_WatchSendsWholeSetsOfWhatWasAskedFor(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		g := e.upper
		g.change(changed("{foo}a", "0"))
		all := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots})
		all.expect("0", "1 1: PUT {foo}a=0")
		some := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, From: []byte("{foo}b"), To: []byte("{foo}d"), AfterVersion: 1, KeysOnly: true})
		some.expect("1")
		slot := uint32(shardmap.SlotOf([]byte("foo")))
		slots := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: &kvv1.Arc{From: slot, To: slot + 1}, FromNow: true})
		slots.expect("1")
		g.change(changed("{foo}a", "1"), changed("{foo}b", "1"), changed("{foo}c", "1"), changed("{foo}d", "1"))
		all.expect("2 2: PUT {foo}a=1 PUT {foo}b=1 PUT {foo}c=1 PUT {foo}d=1")
		some.expect("2 2: PUT {foo}b= PUT {foo}c=")
		slots.expect("2 2: PUT {foo}a=1 PUT {foo}b=1 PUT {foo}c=1 PUT {foo}d=1")
		// Nothing that it asked for: a mark comes, when the second is over.
		g.change(state.Change{Kind: state.ChangeDelete, Key: []byte("hello, upper")})
		all.expect("3 3: DELETE hello, upper=")
		some.expect("3")
		slots.expect("3")
		g.change(state.Change{Kind: state.ChangeExpire, Key: []byte("{foo}b")}, state.Change{Kind: state.ChangeDeadline, Key: []byte("{foo}c")})
		some.expect("4 4: EXPIRE {foo}b= DEADLINE {foo}c=", "4", "4")
	})
}

// Frames are bounded, and end between versions only.
func TestWatchFramesAreBounded(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		for range 20 {
			e.upper.change(changed("{foo}a", string(make([]byte, 60<<10))), changed("{foo}b", string(make([]byte, 60<<10))))
		}
		w := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots})
		got, frames := uint64(0), 0
		for got < 20 {
			f, err := w.recv()
			if err != nil {
				t.Fatal(err)
			}
			frames++
			size := 0
			for _, s := range f.Sets {
				if s.Version != got+1 || len(s.Changes) != 2 {
					t.Fatalf("version %d with %d changes came after %d", s.Version, len(s.Changes), got)
				}
				got = s.Version
				for _, c := range s.Changes {
					size += len(c.Value)
				}
			}
			if len(f.Sets) > 0 && f.Progress != got {
				t.Errorf("a frame up to %d says %d", got, f.Progress)
			}
			if size > watchBytes+120<<10 {
				t.Errorf("a frame of %d bytes", size)
			}
		}
		if frames < 8 {
			t.Errorf("%d frames", frames)
		}
	})
}

// P6: a watch does not go quiet: a replica that does not know for 3 s whether it is
// cut off ends it, and one that does sends marks.
func TestP6_ACutOffReplicaEndsItsWatches(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		w := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, FromNow: true})
		w.expect("0", "0", "0")
		e.upper.set(func() { e.upper.cutOff = kverr.New(kverr.NotLeader, "an election is going on") })
		time.Sleep(2500 * time.Millisecond)
		e.upper.set(func() { e.upper.cutOff = nil })
		w.expect("0", "0")
		start := time.Now()
		e.upper.set(func() { e.upper.cutOff = kverr.New(kverr.Unavailable, "no quorum") })
		w.expect(kverr.Unavailable.String())
		if took := time.Since(start); took < silentFor || took > silentFor+2*markEvery {
			t.Errorf("it ended after %v", took)
		}
		if c := e.server.Counters(); c.WatchesCutOff != 1 {
			t.Errorf("%d watches count as cut off", c.WatchesCutOff)
		}
	})
}

// P6: what nobody asked for does not make a watch go quiet while it keeps coming.
func TestP6_AWatchThatNothingMatchesSendsMarks(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		start := time.Now()
		e.upper.onTake = func() {
			if time.Since(start) < time.Minute { // there is always more to take
				time.Sleep(100 * time.Millisecond)
				e.upper.change(changed("{foo}a", "v"))
			}
		}
		w := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, From: []byte("{foo}b")})
		w.expect("0")
		for last := uint64(0); time.Since(start) < 10*time.Second; {
			at := time.Now()
			f, err := w.recv()
			if err != nil || len(f.Sets) > 0 || f.Progress <= last {
				t.Fatalf("%v, %v, after a mark at %d", f, err, last)
			}
			last = f.Progress
			if quiet := time.Since(at); quiet > 2*markEvery {
				t.Fatalf("nothing came for %v", quiet)
			}
		}
		// The arc is looked at all the same.
		e.upper.set(func() { e.upper.record.Arc.From++ })
		for {
			f, err := w.recv()
			if err != nil {
				t.Fatal(err)
			}
			if f.Error != nil {
				break
			}
			if time.Since(start) > 20*time.Second {
				t.Fatal("the watch goes on in a shard that has its slots no more")
			}
		}
	})
}

func TestWatchesThatCannotBe(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxWatches = 1 }, func(e *env) {
		for name, tc := range map[string]struct {
			r    *kvv1.WatchRequest
			want kverr.Kind
		}{
			"no shard": {&kvv1.WatchRequest{Slots: upperSlots}, kverr.Invalid},
			"no slots": {&kvv1.WatchRequest{Shard: 3}, kverr.Invalid},
			"range":    {&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, From: []byte("b"), To: []byte("a")}, kverr.Invalid},
		} {
			if _, err := e.watch(tc.r).recv(); kverr.KindOf(err) != tc.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		f, err := e.watch(&kvv1.WatchRequest{Shard: 2, Slots: upperSlots}).recv()
		if err != nil || kverr.Kind(f.GetError().GetKind()) != kverr.WrongShard || f.GetRecord().GetShard() == 0 {
			t.Errorf("the wrong shard: %v, %v", f, err)
		}
		synctest.Wait()
		e.upper.set(func() { e.upper.floor = 10 })
		e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, AfterVersion: 9}).expect(kverr.Compacted.String())
		synctest.Wait()
		w := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, AfterVersion: 10})
		w.expect("10")
		e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots, AfterVersion: 10}).expect(kverr.Overloaded.String())
		e.upper.set(func() { e.upper.floor = 20 })
		w.expect(kverr.Compacted.String())
	})
}

// slowWatch is a Watch call whose client takes nothing.
type slowWatch struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *slowWatch) Context() context.Context { return s.ctx }

func (s *slowWatch) Send(*kvv1.WatchFrame) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}

// A watcher that does not read is cut, in its time; others and the writers do not
// notice.
func TestASlowWatcherIsCut(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		start := time.Now()
		go func() {
			err := e.server.Watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots}, &slowWatch{ctx: ctx})
			cancel()
			ended <- err
		}()
		quick := e.watch(&kvv1.WatchRequest{Shard: 3, Slots: upperSlots})
		quick.expect("0")
		for i := range 100 {
			v := e.upper.change(changed("{foo}", "x"))
			quick.expect(fmt.Sprintf("%d %d: PUT {foo}=x", v, v))
			if i == 0 && time.Since(start) > 0 {
				t.Errorf("a change took %v beside a watcher that does not read", time.Since(start))
			}
		}
		err := wire.ErrorFromStatus(<-ended, wire.Unsent)
		if took := time.Since(start); kverr.KindOf(err) != kverr.Overloaded || took < e.server.opts.StallTimeout {
			t.Errorf("the slow watcher: %v after %v", err, took)
		}
		if err := e.server.Close(context.Background()); err != nil {
			t.Error(err)
		}
		for err == nil || !errors.Is(err, kverr.Unavailable) {
			if _, err = quick.recv(); err == io.EOF {
				t.Fatal("the watch ended without a reason")
			}
		}
	})
}
