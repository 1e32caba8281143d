package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

func testRandom(t interface{ Fatal(...any) }) *random {
	r, err := newRandom(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *numbers) take() ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openLocked()
}

// The twin keeps a plain set per client id.
func TestP3_NumbersAgreeWithASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newNumbers(testRandom(t))
		var open []ticket
		next := map[*lane]uint64{}
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			if len(open) == 0 || rapid.Bool().Draw(t, "open") {
				k := s.take()
				next[k.lane]++
				if k.number != next[k.lane] {
					t.Fatalf("number %d, want %d", k.number, next[k.lane])
				}
				open = append(open, k)
			} else {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				s.close(open[i])
				open = append(open[:i], open[i+1:]...)
			}
			for l, n := range next {
				lowest := n + 1
				for _, k := range open {
					if k.lane == l {
						lowest = min(lowest, k.number)
					}
				}
				if got := l.lowest.Load(); got != lowest {
					t.Fatalf("lowest open is %d, want %d", got, lowest)
				}
			}
		}
	})
}

func TestStuckNumberDoesNotHoldUpTheOthers(t *testing.T) {
	s := newNumbers(testRandom(t))
	stuck := s.take()
	seen := map[*lane]int{}
	for range 5 * laneSpan {
		k := s.take()
		seen[k.lane]++
		if k.number-k.lane.lowest.Load() >= laneSpan {
			t.Fatalf("number %d is given out while %d is open", k.number, k.lane.lowest.Load())
		}
		s.close(k)
	}
	if seen[stuck.lane] != laneSpan-1 || len(seen) != 2 {
		t.Fatalf("%d lanes, %d numbers in the first", len(seen), seen[stuck.lane])
	}
	if stuck.lane.id == s.current.id || stuck.lane.lowest.Load() != stuck.number {
		t.Fatal("the stuck number is not protected")
	}
	s.close(stuck)
	if stuck.lane.lowest.Load() != stuck.lane.next {
		t.Fatal("the old lane did not close")
	}
}

func TestP3_FramesCarryTheLowestOpenNumber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if string(op.GetKey()) == "stuck" {
				return nil
			}
			return success(op)
		})
		c := w.open("n1:7400")
		ctx := context.Background()
		put := func(key string) { _, _ = c.Put(ctx, key, nil) }
		lowest := func() uint64 {
			frames := w.nodes[0].received()
			return frames[len(frames)-1].GetLowestOpen()
		}
		put("a")
		if lowest() != 1 {
			t.Fatalf("the first write's frame said %d", lowest())
		}
		put("b")
		put("c")
		if lowest() != 3 {
			t.Fatalf("the third write's frame said %d", lowest())
		}
		go func() { _, _ = c.Put(within(t, time.Second), "stuck", nil) }()
		time.Sleep(time.Millisecond)
		for range 5 {
			put("d")
		}
		if lowest() != 4 {
			t.Fatalf("with number 4 under way a frame said %d", lowest())
		}
		time.Sleep(time.Second) // its caller has given up, in doubt: a late copy must be refused
		put("e")
		if lowest() != 10 {
			t.Fatalf("with nothing under way a frame said %d", lowest())
		}
		_, _ = c.Get(ctx, "a")
		if lowest() != 11 {
			t.Fatalf("a read's frame said %d", lowest())
		}
	})
}

// P8 again: thousands of writes pass a stuck one, and the shards hear of their
// closing all the same.
func TestP8_StuckWriteDoesNotKeepRecordsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if string(op.GetKey()) == "stuck" {
				return refusal(op, kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN)
			}
			return success(op)
		})
		c := w.open("n1:7400")
		done := make(chan error)
		go func() {
			_, err := c.Put(context.Background(), "stuck", nil)
			done <- err
		}()
		time.Sleep(10 * time.Millisecond)
		pairs := make([]KV, 1024)
		for i := range pairs {
			pairs[i].Key = fmt.Sprint(i)
		}
		for range 2 * laneSpan / len(pairs) {
			if _, err := c.PutMany(context.Background(), pairs); err != nil {
				t.Fatal(err)
			}
		}
		ops := w.nodes[0].operations()
		last := ops[len(ops)-1]
		if len(last.GetClientId()) != 16 || last.GetNumber()-last.GetLowestOpen() > 2*uint64(len(pairs)) {
			t.Fatalf("the last write went as %v", last)
		}
		if err := <-done; !errors.Is(err, ErrInDoubt) {
			t.Fatal(err)
		}
		numbers := map[uint64]bool{}
		for _, op := range ops {
			if string(op.GetKey()) == "stuck" {
				numbers[op.GetNumber()] = true
				if len(op.GetClientId()) != 0 && op.GetLowestOpen() != op.GetNumber() {
					t.Fatalf("sent again as %v", op)
				}
			}
		}
		if len(numbers) != 1 {
			t.Fatalf("the stuck write went under the numbers %v", numbers)
		}
	})
}
