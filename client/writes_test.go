package client

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

func TestConditions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 2)
		c, ctx := m.w.open("n1:7400"), context.Background()
		var failed *Error
		if _, err := c.Put(ctx, "a", []byte("x"), IfPresent()); !errors.Is(err, ErrConditionFailed) || !errors.As(err, &failed) {
			t.Fatal(err)
		} else if failed.Exists || failed.Version != 0 || failed.InDoubt || failed.Op != "put" || failed.Key != "a" {
			t.Fatalf("%+v", failed)
		}
		first, err := c.Put(ctx, "a", []byte("x"), IfAbsent())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(ctx, "a", []byte("y"), IfAbsent()); !errors.As(err, &failed) || !failed.Exists || failed.Version != first.Version {
			t.Fatalf("%+v", err)
		}
		if _, err := c.Put(ctx, "a", []byte("y"), IfVersion(first.Version+1)); !errors.As(err, &failed) || failed.Version != first.Version {
			t.Fatalf("%+v", err)
		}
		second, err := c.Put(ctx, "a", []byte("y"), IfVersion(first.Version), WithPrevious())
		if err != nil || second.Previous == nil || string(second.Previous.Value) != "x" || second.Previous.Version != first.Version ||
			second.Previous.Key != "a" || second.PreviousLost {
			t.Fatalf("%+v, %v", second, err)
		}
		if _, err := c.Delete(ctx, "a", IfVersion(first.Version)); !errors.Is(err, ErrConditionFailed) {
			t.Fatal(err)
		}
		gone, err := c.Delete(ctx, "a", IfVersion(second.Version), WithPrevious())
		if err != nil || string(gone.Previous.Value) != "y" {
			t.Fatalf("%+v, %v", gone, err)
		}
		if r, err := c.Delete(ctx, "a", IfAbsent(), WithPrevious()); err != nil || r.Previous != nil {
			t.Fatal(r, err)
		}
		if _, err := c.Delete(ctx, "a", IfPresent()); !errors.Is(err, ErrConditionFailed) {
			t.Fatal(err)
		}
	})
}

// A refusal by condition is an answer like any other: it is kept under the id,
// so that a write whose first answer was lost is told the truth about itself.
func TestP3_ConditionsThroughLostAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		c := m.w.open("n1:7400")
		lost := 0
		m.after = func(_ *fakeNode, op *kvv1.Operation, a *kvv1.Answer) *kvv1.Answer {
			if op.GetKind() != opGet && lost%2 == 0 {
				lost++
				return nil
			}
			lost++
			return a
		}
		r, err := c.Put(within(t, time.Minute), "a", []byte("x"), IfAbsent())
		if err != nil || !r.Repeated {
			t.Fatalf("a put that had been applied by a lost attempt: %+v, %v", r, err)
		}
		var failed *Error
		if _, err := c.Put(within(t, time.Minute), "a", []byte("y"), IfAbsent()); !errors.As(err, &failed) || failed.Kind != ErrConditionFailed {
			t.Fatal(err)
		}
		if failed.InDoubt || errors.Is(failed, ErrInDoubt) || failed.Attempts < 2 || failed.Version != r.Version {
			t.Fatalf("a refusal is certain, also after a lost answer: %+v", failed)
		}
		if r, err := c.Add(within(t, time.Minute), "n", 5); err != nil || r.Value != 5 || !r.Repeated {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, err := c.Add(within(t, time.Minute), "a", 5); !errors.Is(err, ErrNotANumber) || errors.Is(err, ErrInDoubt) {
			t.Fatal(err)
		}
		big, err := c.Put(within(t, time.Minute), "a", make([]byte, 5000), WithPrevious())
		if err != nil || big.Previous == nil || big.PreviousLost {
			t.Fatalf("%+v, %v", big, err)
		}
		big, err = c.Put(within(t, time.Minute), "a", nil, WithPrevious())
		if err != nil || big.Previous != nil || !big.PreviousLost {
			t.Fatalf("%+v, %v", big, err)
		}
	})
}

func TestAdd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		for _, step := range []struct{ delta, want int64 }{{1, 1}, {-5, -4}, {math.MaxInt64, math.MaxInt64 - 4}, {0, math.MaxInt64 - 4}} {
			r, err := c.Add(ctx, "n", step.delta)
			if err != nil || r.Value != step.want || r.Version == 0 {
				t.Fatalf("%+v: %+v, %v", step, r, err)
			}
		}
		if _, err := c.Add(ctx, "n", 5); !errors.Is(err, ErrOverflow) {
			t.Fatal(err)
		}
		item, err := c.Get(ctx, "n")
		if err != nil || string(item.Value) != "9223372036854775803" {
			t.Fatal(item, err)
		}
		if _, err := c.Put(ctx, "s", []byte("1.5")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add(ctx, "s", 1); !errors.Is(err, ErrNotANumber) {
			t.Fatal(err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		put := func(opts ...WriteOption) {
			t.Helper()
			if _, err := c.Put(ctx, "a", []byte("x"), opts...); err != nil {
				t.Fatal(err)
			}
		}
		ttl := func(limited bool, left time.Duration) {
			t.Helper()
			r, err := c.TTL(ctx, "a")
			if err != nil || r.Limited != limited || r.Left.Round(time.Microsecond) > left || r.Left < left-time.Millisecond || r.Version == 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			if limited == r.Expires.IsZero() {
				t.Fatalf("%+v", r)
			}
		}
		put()
		ttl(false, 0)
		put(WithTTL(time.Minute))
		ttl(true, time.Minute)
		time.Sleep(20 * time.Second)
		put(KeepTTL())
		ttl(true, 40*time.Second)
		item, err := c.Get(ctx, "a")
		if err != nil || !item.Expires.Equal(time.Now().Add(40*time.Second)) {
			t.Fatal(item, err)
		}
		if _, err := c.Expire(ctx, "a", time.Hour); err != nil {
			t.Fatal(err)
		}
		ttl(true, time.Hour)
		if r, err := c.Persist(ctx, "a"); err != nil || r.Version <= item.Version {
			t.Fatal(r, err)
		}
		ttl(false, 0)
		put(WithTTL(time.Second))
		put()
		ttl(false, 0)
		put(WithTTL(time.Nanosecond)) // rounded up
		ttl(true, time.Microsecond)
		time.Sleep(time.Millisecond)
		for name, err := range map[string]error{
			"get":     func() error { _, err := c.Get(ctx, "a"); return err }(),
			"ttl":     func() error { _, err := c.TTL(ctx, "a"); return err }(),
			"expire":  func() error { _, err := c.Expire(ctx, "a", time.Hour); return err }(),
			"persist": func() error { _, err := c.Persist(ctx, "a"); return err }(),
		} {
			var e *Error
			if !errors.As(err, &e) || e.Kind != ErrNotFound || e.Op != name {
				t.Errorf("%s of a key that expired: %v", name, err)
			}
		}
	})
}

func TestDeleteMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 2, 3)
		c, ctx := m.w.open("n1:7400"), context.Background()
		puts, err := c.PutMany(ctx, []KV{{"a", []byte("1")}, {"b", []byte("2")}}, WithTTL(time.Hour), IfAbsent())
		if err != nil {
			t.Fatal(err)
		}
		gone, err := c.DeleteMany(ctx, []string{"b", "c", "a"}, WithPrevious())
		if err != nil || string(gone[0].Previous.Value) != "2" || gone[1].Previous != nil || gone[2].Previous.Version != puts[0].Version {
			t.Fatalf("%+v, %v", gone, err)
		}
		if results, err := c.DeleteMany(ctx, []string{"a"}, IfPresent()); !errors.Is(err, ErrConditionFailed) || results[0].Err == nil {
			t.Fatal(results, err)
		}
		if _, err := c.PutMany(ctx, []KV{{"a", nil}}, WithRequestID(c.NewRequestID())); !errors.Is(err, ErrInvalid) {
			t.Fatal(err)
		}
	})
}

// Everything that makes no sense is refused before anything is sent.
func TestOptionsThatMakeNoSense(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, ctx := newModel(t, 1, 1).w.open("n1:7400"), context.Background()
		put := func(opts ...WriteOption) error { _, err := c.Put(ctx, "a", nil, opts...); return err }
		del := func(opts ...WriteOption) error { _, err := c.Delete(ctx, "a", opts...); return err }
		add := func(opts ...WriteOption) error { _, err := c.Add(ctx, "a", 1, opts...); return err }
		expire := func(d time.Duration) error { _, err := c.Expire(ctx, "a", d); return err }
		for name, row := range map[string]struct {
			err  error
			says string
		}{
			"no TTL":                  {put(WithTTL(0)), "positive"},
			"negative TTL":            {put(WithTTL(-time.Second)), "-1s"},
			"absurd TTL":              {put(WithTTL(math.MaxInt64)), "100 years"},
			"two expiries":            {put(WithTTL(time.Second), KeepTTL()), "contradict"},
			"version 0":               {put(IfVersion(0)), "version 0"},
			"absent and present":      {put(IfAbsent(), IfPresent()), "more than one condition"},
			"two versions":            {put(IfVersion(1), IfVersion(2)), "more than one condition"},
			"no id":                   {put(WithRequestID(RequestID{})), "zero value"},
			"TTL of a delete":         {del(WithTTL(time.Second)), "a TTL option does not go with delete"},
			"keeping TTL of a delete": {del(KeepTTL()), "does not go with delete"},
			"condition of an add":     {add(IfAbsent()), "a condition does not go with add"},
			"previous of an add":      {add(WithPrevious()), "WithPrevious does not go with add"},
			"TTL of an add":           {add(WithTTL(time.Second)), "does not go with add"},
			"expire now":              {expire(0), "positive"},
			"expire before":           {expire(-1), "positive"},
			"expire never":            {expire(math.MaxInt64), "100 years"},
			"expire with a condition": {func() error { _, err := c.Expire(ctx, "a", 1, IfAbsent()); return err }(), "does not go with expire"},
			"persist with previous":   {func() error { _, err := c.Persist(ctx, "a", WithPrevious()); return err }(), "does not go with persist"},
			"add to no key":           {func() error { _, err := c.Add(ctx, "", 1); return err }(), "key is empty"},
		} {
			var e *Error
			if !errors.As(row.err, &e) || e.Kind != ErrInvalid || e.InDoubt || e.Attempts != 0 || !strings.Contains(e.Error(), row.says) {
				t.Errorf("%s: %v", name, row.err)
			}
		}
		if s := c.Stats(); s.Frames != 0 {
			t.Errorf("%d frames were sent", s.Frames)
		}
		if err := put(IfVersion(5), IfVersion(5)); !errors.Is(err, ErrConditionFailed) {
			t.Errorf("the same condition twice: %v", err)
		}
	})
}

// Every kind has one sentinel, and a caller sees it through a real exchange.
func TestEveryKindHasASentinel(t *testing.T) {
	want := map[kverr.Kind]error{
		kverr.Invalid: ErrInvalid, kverr.WrongShard: ErrTimeout, kverr.NotLeader: ErrTimeout, kverr.Unavailable: ErrTimeout,
		kverr.Overloaded: ErrTimeout, kverr.OutcomeUnknown: ErrInDoubt, kverr.Expired: ErrExpired, kverr.StaleDuplicate: ErrInDoubt,
		kverr.Deadline: ErrTimeout, kverr.NotInitialized: ErrNotInitialized, kverr.WrongCluster: ErrWrongCluster,
		kverr.Format: ErrFormat, kverr.Internal: ErrInternal, kverr.Closed: ErrTimeout, kverr.Conflict: ErrInternal,
		kverr.NoSpace: ErrNoSpace, kverr.CondFailed: ErrConditionFailed, kverr.CrossSlot: ErrCrossSlot,
		kverr.Compacted: ErrCompacted, kverr.NotANumber: ErrNotANumber, kverr.Overflow: ErrOverflow,
	}
	for _, kind := range kverr.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.nodes[0].script(always(kvv1.ErrorKind(kind)))
				_, err := w.open("n1:7400").Put(within(t, 3*time.Second), "a", nil)
				var e *Error
				if !errors.As(err, &e) || !errors.Is(err, want[kind]) || want[kind] == nil {
					t.Fatalf("%v; want %v", err, want[kind])
				}
				if !errors.Is(err, kind) {
					t.Errorf("the kind is not in the chain of %v", err)
				}
				if doubt := kind == kverr.OutcomeUnknown || kind == kverr.StaleDuplicate; e.InDoubt != doubt {
					t.Errorf("in doubt: %v", e.InDoubt)
				}
			})
		})
	}
}
