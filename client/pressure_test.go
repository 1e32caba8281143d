package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// P9: what is in flight is bounded; the rest waits with its callers and was
// never sent.
func TestP9_InFlightIsBounded(t *testing.T) {
	for name, size := range map[string]int{"operations": 10, "bytes": 100_000} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.nodes[0].script(silent)
				c := w.open("n1:7400", WithBlock())
				pairs := make([]KV, 6000)
				value := make([]byte, size)
				for i := range pairs {
					pairs[i] = KV{fmt.Sprint(i), value}
				}
				results, err := c.PutMany(within(t, time.Second), pairs)
				if !errors.Is(err, ErrInDoubt) {
					t.Fatal(err)
				}
				want := maxInFlight / 2 // one shard's share
				if most := maxInFlightBytes / 2 / (size + callOverhead); most < want {
					want = most
				}
				sent := len(w.nodes[0].operations())
				doubt := 0
				for _, r := range results {
					var e *Error
					if !errors.As(r.Err, &e) || e.Kind != ErrTimeout || e.InDoubt != (e.Attempts > 0) {
						t.Fatal(r.Err)
					}
					if e.InDoubt {
						doubt++
					}
				}
				if sent > doubt || doubt > want || sent < want*9/10 {
					t.Fatalf("%d sent, %d in doubt, the bound is %d", sent, doubt, want)
				}
				n := c.topology.seeds[0]
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.lines.queued != 0 || len(n.pending) != 0 || n.lines.bytes != 0 {
					t.Fatalf("left behind: %d queued, %d pending, %d bytes", n.lines.queued, len(n.pending), n.lines.bytes)
				}
			})
		})
	}
}

// A full connection to a node that answers is waited for, however long it takes;
// the calls keep their place.
func TestBusyNodeIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		type held struct {
			s  *fakeSession
			op *kvv1.Operation
		}
		work := make(chan held, 20000)
		w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			work <- held{s, op}
			return nil
		})
		go func() { // 2000 operations per second
			for {
				select {
				case h := <-work:
					time.Sleep(time.Second / 2000)
					h.s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{success(h.op)}})
				case <-t.Context().Done():
					return
				}
			}
		}()
		c := w.open("n1:7400", WithBlock())
		w.nodes[0].push(&kvv1.ServerFrame{Leaders: []*kvv1.LeaderHint{{Shard: 2, Term: 1, NodeId: string(w.nodes[0].id)}}})
		time.Sleep(time.Millisecond)
		// 4096 in flight take about as long as an attempt's patience, so what
		// waits behind them waits longer.
		keys := make([]string, 10000)
		for i := range keys {
			keys[i] = fmt.Sprint(i)
		}
		began := time.Now()
		if _, err := c.GetMany(within(t, 20*time.Second), keys); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4900*time.Millisecond || took > 8*time.Second {
			t.Fatalf("took %v", took)
		}
		if s := c.Stats(); s.Retries != 0 {
			t.Fatalf("%d attempts were given up", s.Retries)
		}
	})
}

// A new leader takes over what was sent to the old one, and what had to wait for
// room there.
func TestLeaderChangeMovesSentAndQueuedCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		c := w.open("n1:7400,n2:7400", WithBlock())
		time.Sleep(time.Second)
		w.hintAll(1, w.nodes[0])
		time.Sleep(time.Millisecond)
		w.nodes[0].script(silent)
		time.AfterFunc(time.Second, func() { w.hintAll(2, w.nodes[1]) })
		began := time.Now()
		if _, err := c.PutMany(context.Background(), make9000Pairs()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Second || len(w.nodes[0].operations()) != maxInFlight/2 {
			t.Fatalf("took %v, the old leader got %d", took, len(w.nodes[0].operations()))
		}
	})
}

func make9000Pairs() []KV {
	pairs := make([]KV, 9000)
	for i := range pairs {
		pairs[i].Key = fmt.Sprint(i)
	}
	return pairs
}

// A connection may go down between being chosen and being given the call.
func TestRefusedHandOverGoesElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.setMap(1)
		c := w.open("n1:7400,n2:7400")
		first := c.topology.seeds[0]
		first.mu.Lock()
		done := make(chan error)
		go func() {
			_, err := c.PutMany(context.Background(), []KV{{"a", nil}, {"b", nil}})
			done <- err
		}()
		for range 1000 {
			runtime.Gosched() // so that it waits for the lock
		}
		first.phase.Store(int32(phaseDown))
		first.cause = errSilent
		first.mu.Unlock()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// What a frame holds is its own: by the time it is encoded the caller may have
// given up and changed the value.
func TestFrameIsACopy(t *testing.T) {
	c, err := Open(context.Background(), "n1:1")
	if err != nil {
		t.Fatal(err)
	}
	n := c.topology.seeds[0]
	n.phase.Store(int32(phaseReady))
	n.lane = c.numbers.lane()
	value := []byte("before")
	var one call
	one.fill(c, verbPut, "key", value)
	WithRequestID(RequestID{client: [16]byte{7}, notAfter: 1}).write(one.params)
	var batch callQueue
	batch.push(&one)
	if err := n.submit(&batch, c.now()); err != nil {
		t.Fatal(err)
	}
	op := n.take().GetOperations()[0]
	copy(value, "after!")
	copy(one.key, "yek")
	one.given = RequestID{}
	if string(op.GetValue()) != "before" || string(op.GetKey()) != "key" || op.GetClientId()[0] != 7 {
		t.Fatalf("the frame changed: %v", op)
	}
}

func TestEachCallHasOneAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		// Every answer comes three times, and with ones that nobody asked for.
		w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := success(op)
			a.Value = append([]byte(nil), op.GetKey()...)
			s.send(&kvv1.ServerFrame{Answers: []*kvv1.Answer{a, a, {Id: op.GetId() + 1000}, {Id: 0}}})
			return a
		})
		c := w.open("n1:7400")
		done := make(chan error)
		for i := range 20 {
			go func() {
				for j := range 50 {
					key := fmt.Sprint(i, j)
					item, err := c.Get(context.Background(), key)
					if err != nil || string(item.Value) != key {
						done <- fmt.Errorf("%s read %q, %v", key, item.Value, err)
						return
					}
				}
				done <- nil
			}()
		}
		for range 20 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	})
}
