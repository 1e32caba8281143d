package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// hintAll tells the client of a leader through every connected node.
func (w *world) hintAll(term uint64, leader *fakeNode) {
	for _, n := range w.nodes {
		n.push(&kvv1.ServerFrame{Leaders: []*kvv1.LeaderHint{{Shard: 2, Term: term, NodeId: string(leader.id)}}})
	}
}

func TestP3_BrokenConnectionRepeatsUnderTheSameID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].script(func(s *fakeSession, _ *kvv1.Operation) *kvv1.Answer {
			s.finish(io.ErrUnexpectedEOF)
			return nil
		})
		c := w.open("n1:7400")
		began := time.Now()
		if _, err := c.Put(context.Background(), "a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		first, second := w.nodes[0].operations(), w.nodes[1].operations()
		if len(first) != 1 || len(second) != 1 || time.Since(began) > 0 {
			t.Fatalf("n1 got %v, n2 got %v after %v", first, second, time.Since(began))
		}
		a, b := first[0], second[0]
		if a.GetNumber() == 0 || a.GetNumber() != b.GetNumber() || a.GetNotAfterUs() != b.GetNotAfterUs() ||
			string(w.nodes[0].received()[0].GetHello().GetClientId()) != string(w.nodes[1].received()[0].GetHello().GetClientId()) {
			t.Fatalf("another identity the second time: %v, then %v", a, b)
		}
	})
}

func TestFrozenLeaderIsLeftWhenAnotherIsElected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		c := w.open("n1:7400,n2:7400", WithBlock())
		ctx := context.Background()
		w.hintAll(1, w.nodes[0])
		time.Sleep(time.Millisecond)
		w.nodes[0].freeze()
		done := make(chan error)
		go func() {
			_, err := c.Put(ctx, "a", nil)
			done <- err
		}()
		time.Sleep(700 * time.Millisecond) // the election
		w.nodes[1].push(&kvv1.ServerFrame{Leaders: []*kvv1.LeaderHint{{Shard: 2, Term: 2, NodeId: string(w.nodes[1].id)}}})
		began := time.Now()
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Fatalf("%v, %v after the news", err, time.Since(began))
		}
	})
}

func TestFrozenLeaderIsLeftWithoutNews(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[0], 1))
		}
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		w.nodes[0].freeze()
		time.AfterFunc(1500*time.Millisecond, func() {
			for _, n := range w.nodes {
				n.script(leads(w.nodes[2], 2))
			}
		})
		began := time.Now()
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > attemptPatience+100*time.Millisecond {
			t.Fatalf("took %v", took)
		}
		// Nobody else waits for it while it is under suspicion, or better known.
		began = time.Now()
		if _, err := c.Get(ctx, "b"); err != nil || time.Since(began) > 0 {
			t.Fatal(err, time.Since(began))
		}
	})
}

// While nobody knows a new leader, only the first callers wait for the old one.
func TestFrozenLeaderIsUnderSuspicion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		for _, n := range w.nodes {
			n.script(leads(w.nodes[0], 1))
		}
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		w.hintAll(1, w.nodes[0])
		w.nodes[0].freeze()
		go func() { _, _ = c.Get(ctx, "a") }()
		time.Sleep(attemptPatience + 100*time.Millisecond)
		time.AfterFunc(300*time.Millisecond, func() {
			for _, n := range w.nodes {
				n.script(leads(w.nodes[2], 2))
			}
		})
		began := time.Now()
		if _, err := c.Get(ctx, "b"); err != nil || time.Since(began) > 600*time.Millisecond {
			t.Fatal(err, time.Since(began))
		}
	})
}

func TestSlowAnswerIsNotSentForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(silent)
		c := w.open("n1:7400")
		_, err := c.Put(within(t, time.Minute), "a", nil)
		var e *Error
		// 2 + 4 + 8 + 16 s, then 32.
		if !errors.As(err, &e) || !e.InDoubt || e.Attempts != 5 {
			t.Fatalf("%v", err)
		}
	})
}

func TestBlackHoleEndpointIsPassedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].setHole()
		w.setMap(1) // no routes: any node will do
		began := time.Now()
		for i := range 4 { // whichever comes first in the shuffled order
			c := w.open("n1:7400,n2:7400")
			if _, err := c.Get(context.Background(), "a"); err != nil {
				t.Fatal(i, err)
			}
		}
		if took := time.Since(began); took > 4*connectPatience+time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestNodeComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		c := w.open("n1:7400")
		ctx := context.Background()
		if _, err := c.Get(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		w.nodes[0].down()
		time.Sleep(5 * time.Second)
		w.nodes[0].up()
		began := time.Now()
		if _, err := c.Get(ctx, "a"); err != nil || time.Since(began) > reconnectLast+waitLast {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

func TestUnreachableClusterSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].down()
		w.nodes[1].down()
		c := w.open("n1:7400,n2:7400")
		began := time.Now()
		_, err := c.Put(within(t, 3*time.Second), "a", nil)
		if !errors.Is(err, ErrTimeout) || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Fatalf("took %v", took)
		}
		_, err = c.Put(context.Background(), "a", nil)
		if took := time.Since(began) - 3*time.Second; !errors.Is(err, context.DeadlineExceeded) || took != DefaultTimeout {
			t.Fatalf("%v; DefaultTimeout was not kept: %v", err, took)
		}
	})
}

func TestHangingUpIsNotReconnectedInALoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		var hellos atomic.Int64
		w.nodes[0].first = func() *kvv1.ServerFrame {
			if hellos.Add(1) > 100 {
				time.Sleep(time.Hour) // spare the test a storm
			}
			return w.nodes[0].helloFrame()
		}
		w.nodes[0].script(func(s *fakeSession, _ *kvv1.Operation) *kvv1.Answer {
			s.finish(status.Error(codes.Unavailable, "no"))
			return nil
		})
		c := w.open("n1:7400")
		for range 10 {
			_, _ = c.Get(within(t, time.Second), "a")
		}
		if n := hellos.Load(); n > 60 {
			t.Fatalf("%d connections in 10 s", n)
		}
	})
}

func TestGoingAwayDisturbsNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		type held struct {
			s  *fakeSession
			op *kvv1.Operation
		}
		holding := make(chan held, 10)
		w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			holding <- held{s, op}
			return nil
		})
		w.nodes[1].script(leads(w.nodes[1], 2))
		c := w.open("n1:7400", WithBlock())
		errs := make(chan error, 10)
		put := func() {
			_, err := c.Put(context.Background(), "a", nil, WithoutRequestID())
			errs <- err
		}
		go put()
		time.Sleep(100 * time.Millisecond)
		w.nodes[0].push(&kvv1.ServerFrame{GoingAway: true})
		time.Sleep(100 * time.Millisecond)
		go put() // must go elsewhere
		time.Sleep(100 * time.Millisecond)
		h := <-holding
		h.s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{success(h.op)}})
		time.Sleep(100 * time.Millisecond)
		w.nodes[0].down()
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n, m := len(w.nodes[0].operations()), len(w.nodes[1].operations()); n != 1 || m != 1 {
			t.Errorf("n1 got %d operations, n2 %d", n, m)
		}
	})
}

func TestOverloadedWaitsAsAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := refusal(op, kvv1.ErrorKind_ERROR_KIND_OVERLOADED)
			a.Error.RetryAfterUs = 700_000
			return a
		})
		c := w.open("n1:7400")
		_, err := c.Put(within(t, 2*time.Second), "a", nil)
		var e *Error
		if !errors.As(err, &e) || e.Kind != ErrTimeout || e.InDoubt || e.Attempts != 3 || e.RetryAfter != 700*time.Millisecond {
			t.Fatalf("%v", err)
		}
	})
}

// Clients that were refused together come back one by one, none of them before it
// was asked to, and none later than its caller has time.
func TestOverloadedCallersDoNotReturnTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const callers, hint = 200, 800 * time.Millisecond
		w := newWorld(t, 1)
		began := time.Now()
		refused := make(map[string]bool)
		returned := make(map[time.Duration]int)
		var mu sync.Mutex
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			mu.Lock()
			defer mu.Unlock()
			if key := string(op.GetKey()); !refused[key] {
				refused[key] = true
				a := refusal(op, kvv1.ErrorKind_ERROR_KIND_OVERLOADED)
				a.Error.RetryAfterUs = uint64(hint / time.Microsecond)
				return a
			}
			after := time.Since(began)
			if after < hint || after > hint+hint/8+time.Millisecond {
				t.Errorf("asked again after %v", after)
			}
			returned[after/(5*time.Millisecond)]++
			return success(op)
		})
		c := w.open("n1:7400")
		var calls sync.WaitGroup
		for i := range callers {
			calls.Go(func() {
				if _, err := c.Put(within(t, 2*time.Second), fmt.Sprint(i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		for at, n := range returned { // in 20 steps of 5 ms, 10 each
			if n > callers/5 {
				t.Errorf("%d of %d came back within the same 5 ms, after %v", n, callers, at*5*time.Millisecond)
			}
		}
		// A hint beyond the caller's time ends with that.
		mu.Lock()
		clear(refused)
		mu.Unlock()
		start := time.Now()
		_, err := c.Put(within(t, hint/2), "0", nil)
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || errors.Is(err, ErrInDoubt) || took != hint/2 {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestRefusalsThatWillNotChangeAreReportedAtOnce(t *testing.T) {
	format := func(n *fakeNode) *kvv1.ServerFrame {
		f := n.helloFrame()
		f.Hello.Format = 2
		return f
	}
	for name, test := range map[string]struct {
		first func(n *fakeNode) *kvv1.ServerFrame
		serve func(*fakeSession, *kvv1.Operation) *kvv1.Answer
		want  error
	}{
		"format": {first: format, want: ErrFormat},
		"not initialized": {
			first: func(n *fakeNode) *kvv1.ServerFrame {
				f := n.helloFrame()
				f.Map, f.Hello.ClusterId = nil, ""
				return f
			},
			serve: always(kvv1.ErrorKind_ERROR_KIND_NOT_INITIALIZED),
			want:  ErrNotInitialized,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 3)
				for _, n := range w.nodes {
					n.first = func() *kvv1.ServerFrame { return test.first(n) }
					if test.serve != nil {
						n.script(test.serve)
					}
				}
				c := w.open("n1:7400,n2:7400,n3:7400")
				began := time.Now()
				_, err := c.Put(context.Background(), "a", nil)
				if !errors.Is(err, test.want) || errors.Is(err, ErrInDoubt) || time.Since(began) > time.Second {
					t.Fatalf("%v after %v", err, time.Since(began))
				}
			})
		})
	}
}

func TestNodesOfAnotherClusterAreNotUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.setMap(1)
		w.nodes[1].first = func() *kvv1.ServerFrame {
			f := w.nodes[1].helloFrame()
			f.Hello.ClusterId = "another"
			return f
		}
		c := w.open("n1:7400,n2:7400", WithBlock())
		time.Sleep(time.Second) // both were asked
		home, away := w.nodes[0], w.nodes[1]
		if c.topology.cluster() == "another" {
			home, away = away, home
		}
		if _, err := c.Get(context.Background(), "a"); err != nil || len(home.operations()) != 1 {
			t.Fatal(err)
		}
		home.down()
		_, err := c.Get(within(t, time.Second), "a")
		if err == nil || len(away.operations()) != 0 {
			t.Fatalf("a node of another cluster was asked: %v", err)
		}
	})
}

func TestAddressGivenToAnotherNodeIsNotMistaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.nodes[1].first = func() *kvv1.ServerFrame {
			f := w.nodes[1].helloFrame()
			f.Hello.NodeId = string(nodeID(9))
			return f
		}
		for _, n := range w.nodes {
			n.script(leads(w.nodes[1], 1))
		}
		c := w.open("n1:7400")
		_, err := c.Put(within(t, time.Second), "a", nil)
		if err == nil || len(w.nodes[1].operations()) != 0 {
			t.Fatalf("%v; the wrong node got %v", err, w.nodes[1].operations())
		}
	})
}

// P8: a shard that cannot serve delays nobody but its own keys, not even within
// one call.
func TestP8_StuckShardDelaysOnlyItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.setMap(1, w.record(2, 0, 8000, 1), w.record(3, 8000, 16384, 1))
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if op.GetShard() == 2 {
				return refusal(op, kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE)
			}
			return success(op)
		})
		c := w.open("n1:7400")
		stuck, sound := keyIn(0, 8000), keyIn(8000, 16384)
		done := make(chan error)
		go func() {
			results, err := c.PutMany(within(t, 3*time.Second), []KV{{stuck, nil}, {sound, nil}})
			if results[1].Err != nil {
				err = results[1].Err
			}
			done <- err
		}()
		for range 100 {
			began := time.Now()
			if _, err := c.Put(context.Background(), sound, nil); err != nil || time.Since(began) > 0 {
				t.Fatal(err, time.Since(began))
			}
		}
		if err := <-done; !errors.Is(err, ErrTimeout) || errors.Is(err, ErrInDoubt) || !strings.Contains(err.Error(), "UNAVAILABLE") {
			t.Fatal(err)
		}
	})
}

// No hint of a server's, however absurd, makes a client ask again before its caller's
// time is over, or not wait at all.
func TestAnAbsurdHintIsWaitedFor(t *testing.T) {
	for _, hint := range []uint64{uint64(25 * time.Hour / time.Microsecond), math.MaxInt64 / 1000, math.MaxUint64} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, 1)
			w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
				a := refusal(op, kvv1.ErrorKind_ERROR_KIND_OVERLOADED)
				a.Error.RetryAfterUs = hint
				return a
			})
			c := w.open("n1:7400")
			_, err := c.Put(within(t, time.Minute), "a", nil)
			var e *Error
			if !errors.As(err, &e) || e.Kind != ErrTimeout || e.InDoubt || e.Attempts != 1 {
				t.Errorf("hint %d: %v", hint, err)
			}
		})
	}
}

// A full disk does not get better by waiting a little: the caller is told at once,
// unless an earlier attempt is in doubt, which only the server can settle.
func TestNoSpaceIsReportedAtOnceUnlessInDoubt(t *testing.T) {
	full := func(op *kvv1.Operation) *kvv1.Answer {
		a := refusal(op, kvv1.ErrorKind_ERROR_KIND_NO_SPACE)
		a.Error.RetryAfterUs = 1_000_000
		return a
	}
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return full(op) })
		c := w.open("n1:7400")
		start := time.Now()
		_, err := c.Put(within(t, 5*time.Second), "a", nil)
		var e *Error
		if !errors.As(err, &e) || e.Kind != ErrNoSpace || e.InDoubt || e.RetryAfter != time.Second || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		tries := 0
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			switch tries++; tries {
			case 1:
				return refusal(op, kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN)
			case 2, 3:
				return full(op)
			}
			return &kvv1.Answer{Id: op.GetId(), Version: 7, Repeated: true}
		})
		c := w.open("n1:7400")
		if version, err := c.Put(within(t, 5*time.Second), "a", nil); err != nil || tries != 4 {
			t.Errorf("%v, %v after %d tries; want the answer of the first attempt", version, err, tries)
		}
	})
}
