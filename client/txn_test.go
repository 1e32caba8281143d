package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

func TestTxn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 2, 2)
		c, ctx := m.w.open("n1:7400"), context.Background()
		r, err := c.Txn().
			If(KeyAbsent("{u}a"), VersionIs("{u}b", 0)).
			Then(OpPut("{u}a", []byte("1"), WithTTL(time.Hour)), OpAdd("{u}n", 7), OpGet("{u}n")).
			Else(OpGet("{u}a")).
			Commit(ctx)
		if err != nil || !r.Succeeded || len(r.Results) != 3 || r.Results[1].Number != 7 || string(r.Results[2].Value) != "7" ||
			r.Results[2].Key != "{u}n" || r.Results[2].Version != r.Version || r.ResultsLost {
			t.Fatalf("%+v, %v", r, err)
		}
		again, err := c.Txn().If(KeyAbsent("{u}a")).Then(OpDelete("{u}a")).Else(OpGet("{u}a"), OpExpire("{u}x", time.Hour)).Commit(ctx)
		if err != nil || again.Succeeded || string(again.Results[0].Value) != "1" || again.Results[0].Expires.IsZero() || again.Results[1].Found {
			t.Fatalf("%+v, %v", again, err)
		}
		b, err := c.Batch(ctx, OpPut("{u}a", []byte("2"), WithPrevious()), OpDelete("{u}n", WithPrevious()), OpPersist("{u}a"), OpGet("{u}n"))
		if err != nil || string(b.Results[0].Previous.Value) != "1" || string(b.Results[1].Previous.Value) != "7" || !b.Results[2].Found || b.Results[3].Found {
			t.Fatalf("%+v, %v", b, err)
		}
		if item, err := c.Get(ctx, "{u}a"); err != nil || item.Version != b.Version || !item.Expires.IsZero() {
			t.Fatal(item, err)
		}
		// All or nothing.
		if _, err := c.Batch(ctx, OpPut("{u}a", []byte("no")), OpAdd("{u}a", 1)); !errors.Is(err, ErrNotANumber) {
			t.Fatal(err)
		}
		if item, _ := c.Get(ctx, "{u}a"); string(item.Value) != "2" {
			t.Fatal("half a transaction was applied")
		}
		only, err := c.Txn().If(ValueIs("{u}a", []byte("2"))).Commit(ctx)
		if err != nil || !only.Succeeded {
			t.Fatal(only, err)
		}
	})
}

func TestTxnCompares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		put, err := c.Put(ctx, "k", []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		v := put.Version
		for _, row := range []struct {
			name   string
			make   func(key string) Compare
			k, not bool // holds for the key, and for one that does not exist
		}{
			{"absent", KeyAbsent, false, true},
			{"present", KeyPresent, true, false},
			{"version is", func(k string) Compare { return VersionIs(k, v) }, true, false},
			{"version is not", func(k string) Compare { return VersionIsNot(k, v) }, false, true},
			{"version below", func(k string) Compare { return VersionBelow(k, v) }, false, true},
			{"version above", func(k string) Compare { return VersionAbove(k, v-1) }, true, false},
			{"value is", func(k string) Compare { return ValueIs(k, []byte("m")) }, true, false},
			{"value is not", func(k string) Compare { return ValueIsNot(k, []byte("m")) }, false, true},
			{"value below", func(k string) Compare { return ValueBelow(k, []byte("n")) }, true, false},
			{"value above", func(k string) Compare { return ValueAbove(k, []byte("a")) }, true, false},
		} {
			for key, want := range map[string]bool{"k": row.k, "{k}2": row.not} {
				r, err := c.Txn().If(row.make(key)).Then(OpGet(key)).Commit(ctx)
				if err != nil || r.Succeeded != want {
					t.Errorf("%s of %s: %v, %v", row.name, key, r.Succeeded, err)
				}
			}
		}
	})
}

func TestP3_TxnThroughLostAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 3, 1)
		c := m.w.open("n1:7400,n2:7400,n3:7400")
		rng := rand.New(rand.NewPCG(1, 1))
		m.after = func(n *fakeNode, _ *kvv1.Operation, a *kvv1.Answer) *kvv1.Answer {
			if m.index(n) == m.shards[0].leader && rng.IntN(2) == 0 {
				return nil
			}
			return a
		}
		for i := range 30 {
			r, err := c.Batch(within(t, time.Hour), OpAdd("{n}a", 1), OpAdd("{n}b", -1))
			if err != nil || r.Results[0].Number != int64(i+1) || r.Results[1].Number != -int64(i+1) {
				t.Fatalf("%d: %+v, %v", i, r, err)
			}
		}
		if c.Stats().Retries < 10 {
			t.Fatal("too quiet a run")
		}
	})
}

func TestTxnLostResults(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			return &kvv1.Answer{Id: op.GetId(), Version: 5, Repeated: true, DetailDropped: true, Otherwise: true}
		})
		r, err := w.open("n1:7400").Txn().If(KeyPresent("a")).Then(OpGet("a")).Else(OpGet("a")).Commit(context.Background())
		if err != nil || r.Succeeded || !r.ResultsLost || r.Results != nil || r.Version != 5 || !r.Repeated {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func TestTxnsThatMakeNoSense(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, ctx := newModel(t, 1, 1).w.open("n1:7400"), context.Background()
		batch := func(ops ...Op) error { _, err := c.Batch(ctx, ops...); return err }
		many := func(n int) (ops []Op) {
			for i := range n {
				ops = append(ops, OpPut(fmt.Sprintf("{t}%d", i), nil))
			}
			return ops
		}
		huge := make([]byte, 1<<20)
		for name, row := range map[string]struct {
			err  error
			kind error
			says string
		}{
			"two slots":          {batch(OpPut("first", nil), OpPut("{first}", nil), OpPut("second", nil)), ErrCrossSlot, `"second"`},
			"slot of a compare":  {func() error { _, err := c.Txn().If(KeyAbsent("x")).Then(OpGet("y")).Commit(ctx); return err }(), ErrCrossSlot, `"x"`},
			"slot of else":       {func() error { _, err := c.Txn().If(KeyAbsent("x")).Else(OpGet("y")).Commit(ctx); return err }(), ErrCrossSlot, `"y"`},
			"nothing":            {batch(), ErrInvalid, "no operations"},
			"too many":           {batch(many(1025)...), ErrTooLarge, "1025"},
			"too many compares":  {func() error { _, err := c.Txn().If(KeyAbsent("{t}")).Then(many(1024)...).Commit(ctx); return err }(), ErrTooLarge, "1025"},
			"too many bytes":     {batch(OpPut("a", huge), OpPut("{a}", huge)), ErrTooLarge, "bytes"},
			"value too large":    {batch(OpPut("a", append(huge, 1))), ErrTooLarge, "value"},
			"compare too large":  {func() error { _, err := c.Txn().If(ValueIs("a", append(huge, 1))).Commit(ctx); return err }(), ErrTooLarge, "value"},
			"empty key":          {batch(OpGet("")), ErrInvalid, "empty"},
			"negative TTL":       {batch(OpExpire("a", -1)), ErrInvalid, "positive"},
			"absurd TTL":         {batch(OpPut("a", nil, WithTTL(math.MaxInt64))), ErrInvalid, "100 years"},
			"condition on an op": {batch(OpPut("a", nil, IfAbsent())), ErrInvalid, "use If"},
			"id of an op":        {batch(OpDelete("a", WithoutRequestID())), ErrInvalid, "Commit"},
			"TTL of a delete":    {batch(OpDelete("a", WithTTL(time.Second))), ErrInvalid, "does not go with delete"},
			"below nothing":      {func() error { _, err := c.Txn().If(VersionBelow("a", 0)).Commit(ctx); return err }(), ErrInvalid, "below 0"},
			"option of commit":   {func() error { _, err := c.Txn().Then(OpGet("a")).Commit(ctx, WithTTL(time.Second)); return err }(), ErrInvalid, "does not go with txn"},
		} {
			var e *Error
			if !errors.As(row.err, &e) || e.Kind != row.kind || !errors.Is(e, ErrInvalid) || e.Attempts != 0 || !strings.Contains(e.Error(), row.says) {
				t.Errorf("%s: %v", name, row.err)
			}
		}
		if s := c.Stats(); s.Frames != 0 {
			t.Errorf("%d frames were sent", s.Frames)
		}
		if err := batch(many(1024)...); err != nil {
			t.Error(err)
		}
	})
}

// The largest transaction that is let through fits the frame that nodes take.
func TestTxnFitsAFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newModel(t, 1, 1)
		c, ctx := m.w.open("n1:7400"), context.Background()
		value := make([]byte, defaultMaxFrame-operationOverhead-1-20)
		if _, err := c.Batch(ctx, OpPut("a", value[:1<<20], WithTTL(maxDuration), WithPrevious())); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Batch(ctx, OpPut("a", value[:1<<19]), OpPut("{a}b", value[:1<<19])); err != nil {
			t.Fatal(err)
		}
	})
}
