package client

import (
	"context"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// skewed is a clock with a wall of its own.
type skewed struct {
	wall uint64
	mono time.Duration
}

func (s *skewed) WallMicros() uint64  { return s.wall }
func (s *skewed) Mono() time.Duration { return s.mono }
func (s *skewed) Boot() time.Duration { return s.mono }

func TestNoSingleClockDecidesShardTime(t *testing.T) {
	const hour, base = uint64(3600e6), uint64(1e15)
	for name, test := range map[string]struct {
		own   uint64
		nodes []uint64
		saw   uint64
		want  uint64
	}{
		"alone":                        {own: base, want: base},
		"one node is behind":           {own: base, nodes: []uint64{base - hour}, want: base - hour},
		"one node is ahead":            {own: base, nodes: []uint64{base + hour}, want: base},
		"own clock is ahead":           {own: base + hour, nodes: []uint64{base, base + 1, base + 2}, want: base + 1},
		"own clock is behind":          {own: base - hour, nodes: []uint64{base, base + 1}, want: base},
		"one node of three is ahead":   {own: base, nodes: []uint64{base + hour, base + 1, base + 2}, want: base + 1},
		"a version is proof":           {own: base, nodes: []uint64{base, base}, saw: base + hour, want: base + hour},
		"an old version says nothing":  {own: base, nodes: []uint64{base, base}, saw: base - hour, want: base},
		"own clock and one node ahead": {own: base + hour, nodes: []uint64{base, base + hour, base + 1}, want: base + 1},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &skewed{wall: test.own, mono: 5 * time.Second}
			s := newShardTime(clock)
			for i, wall := range test.nodes {
				s.hello(nodeID(i), wall)
			}
			s.saw(test.saw)
			if got := s.now(); got != test.want {
				t.Errorf("estimate is off by %d µs", int64(got)-int64(test.want))
			}
			clock.mono += time.Second
			if got := s.now(); got != test.want+1e6 {
				t.Errorf("after a second it is off by %d µs", int64(got)-int64(test.want+1e6))
			}
		})
	}
}

func TestExpiryIsBounded(t *testing.T) {
	s := newShardTime(&skewed{wall: 1e15})
	for left, want := range map[time.Duration]uint64{
		0: 30e6, time.Second: 31e6, 4 * time.Minute: 270e6, 5 * time.Minute: 300e6, 24 * time.Hour: 300e6,
	} {
		if got := s.expiry(left); got != 1e15+want {
			t.Errorf("expiry(%v) is %d µs ahead, want %d", left, got-1e15, want)
		}
	}
	for i := range 2 * mostOffsets {
		s.hello(nodeID(i), 1e15)
	}
	if len(s.offsets) > mostOffsets {
		t.Errorf("%d clocks are kept", len(s.offsets))
	}
}

// An estimate that is too low costs one attempt. The second one has a number of
// its own: under the first it has expired for good.
func TestP3_ExpiredIsRenewedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHonest(t, 1, 1)
		h.calm = true
		w := h.w
		w.nodes[0].first = func() *kvv1.ServerFrame {
			f := w.nodes[0].helloFrame()
			f.Hello.NowUs -= 3600e6 // this node's clock is slow, too
			return f
		}
		own := &skewed{wall: uint64(time.Now().UnixMicro()) - 3600e6}
		c := w.open("n1:7400", WithClock(own))
		ahead := uint64(time.Now().UnixMicro())
		w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := h.serve(s, op)
			a.ShardVersion = ahead
			return a
		})
		if _, err := c.Put(context.Background(), "a", []byte("x")); err != nil {
			t.Fatal(err)
		}
		ops := w.nodes[0].operations()
		if len(ops) != 2 || ops[0].GetNumber() == ops[1].GetNumber() || h.applied["x"] != 1 {
			t.Fatalf("sent %v, applied %d times", ops, h.applied["x"])
		}
		// Now the client knows better.
		if _, err := c.Put(context.Background(), "a", []byte("y")); err != nil || len(w.nodes[0].operations()) != 3 {
			t.Fatal(err, len(w.nodes[0].operations()))
		}
	})
}

// Renewing a write that may have been applied could apply it again.
func TestP3_ExpiredIsNotRenewedInDoubt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		kinds := []kvv1.ErrorKind{kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN, kvv1.ErrorKind_ERROR_KIND_EXPIRED}
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if len(kinds) == 0 {
				return success(op)
			}
			a := refusal(op, kinds[0])
			kinds = kinds[1:]
			return a
		})
		_, err := w.open("n1:7400").Put(context.Background(), "a", nil)
		checkError(t, err, ErrExpired, true)
		if n := len(w.nodes[0].operations()); n != 2 {
			t.Fatalf("sent %d times", n)
		}
	})
}

// After an attempt that may have been applied, a new expiry could let a late
// copy be applied when the record is gone.
func TestP3_NotAfterIsTheSameForAllAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(always(kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN))
		c := w.open("n1:7400")
		_, _ = c.Put(within(t, 8*time.Minute), "a", nil)
		ops := w.nodes[0].operations()
		for _, op := range ops {
			if op.GetNotAfterUs() != ops[0].GetNotAfterUs() || op.GetNumber() != ops[0].GetNumber() {
				t.Fatalf("first %v, then %v", ops[0], op)
			}
		}
		if len(ops) < 100 {
			t.Fatalf("only %d attempts", len(ops))
		}
	})
}

func TestOperationsCarryTimeLeftAndRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.setMap(3, w.record(2, 0, shardmap.Slots, 42))
		c := w.open("n1:7400")
		_, _ = c.Put(within(t, 3*time.Second), "a", []byte("x"))
		_, _ = c.Get(context.Background(), "a")
		ops := w.nodes[0].operations()
		for i, want := range []uint64{3e6, 10e6} {
			if op := ops[i]; op.GetTimeLeftUs() != want || op.GetShard() != 2 || op.GetArcEpoch() != 42 {
				t.Errorf("sent %v", op)
			}
		}
		if wall := uint64(time.Now().UnixMicro()); ops[0].GetNotAfterUs() != wall+33e6 || ops[1].GetNotAfterUs() != 0 {
			t.Errorf("not after %d, %d; now %d", ops[0].GetNotAfterUs(), ops[1].GetNotAfterUs(), wall)
		}
	})
}
