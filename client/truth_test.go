package client

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// TestP4_InDoubtTruthTable has a row for every way in which a write can end
// badly: what happened to it before, what happened last, and whether it may have
// been applied.
func TestP4_InDoubtTruthTable(t *testing.T) {
	answer := always
	hangUp := func(s *fakeSession, _ *kvv1.Operation) *kvv1.Answer {
		s.finish(io.ErrUnexpectedEOF)
		return nil
	}
	for _, row := range []struct {
		name   string
		script []func(*fakeSession, *kvv1.Operation) *kvv1.Answer // one per attempt, the last repeats
		opts   []WriteOption
		kind   error
		doubt  bool
	}{
		{name: "never answered", script: scripts(silent), kind: ErrTimeout, doubt: true},
		{name: "refused for good", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_INVALID)), kind: ErrInvalid},
		{name: "internal", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_INTERNAL)), kind: ErrInternal},
		{name: "not leader for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_NOT_LEADER)), kind: ErrTimeout},
		{name: "wrong shard for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_WRONG_SHARD)), kind: ErrTimeout},
		{name: "unavailable for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE)), kind: ErrTimeout},
		{name: "closed for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_CLOSED)), kind: ErrTimeout},
		{name: "overloaded for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_OVERLOADED)), kind: ErrTimeout},
		{name: "its time ran out there", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_DEADLINE)), kind: ErrTimeout},
		{name: "unknown for ever", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN)), kind: ErrTimeout, doubt: true},
		{name: "a kind from the future", script: scripts(answer(99)), kind: ErrTimeout, doubt: true},
		{name: "hung up for ever", script: scripts(hangUp), kind: ErrTimeout, doubt: true},
		{name: "unknown, then refused", kind: ErrInvalid, doubt: true,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN), answer(kvv1.ErrorKind_ERROR_KIND_INVALID))},
		{name: "hung up, then unavailable", kind: ErrTimeout, doubt: true,
			script: scripts(hangUp, answer(kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE))},
		{name: "unavailable, then never answered", kind: ErrTimeout, doubt: true,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE), silent)},
		{name: "expired twice", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_EXPIRED)), kind: ErrExpired},
		{name: "unknown, then expired", kind: ErrExpired, doubt: true,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN), answer(kvv1.ErrorKind_ERROR_KIND_EXPIRED))},
		{name: "given id, expired", opts: []WriteOption{WithRequestID(RequestID{notAfter: 1})}, kind: ErrExpired, doubt: true,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_EXPIRED))},
		{name: "stale duplicate", script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_STALE_DUPLICATE)), kind: ErrInDoubt, doubt: true},
		{name: "no id, hung up", opts: []WriteOption{WithoutRequestID()}, script: scripts(hangUp), kind: ErrInDoubt, doubt: true},
		{name: "no id, unknown", opts: []WriteOption{WithoutRequestID()}, kind: ErrInDoubt, doubt: true,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_OUTCOME_UNKNOWN))},
		{name: "no id, never answered", opts: []WriteOption{WithoutRequestID()}, kind: ErrTimeout, doubt: true,
			script: scripts(silent)},
		{name: "no id, unavailable for ever", opts: []WriteOption{WithoutRequestID()}, kind: ErrTimeout,
			script: scripts(answer(kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE))},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				var attempt atomic.Int64
				w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
					return row.script[min(int(attempt.Add(1)), len(row.script))-1](s, op)
				})
				c := w.open("n1:7400")
				_, err := c.Put(within(t, 5*time.Second), "a", nil, row.opts...)
				checkError(t, err, row.kind, row.doubt)

				// The same to a read is never in doubt.
				if len(row.opts) == 0 {
					attempt.Store(0)
					_, err = c.Get(within(t, 5*time.Second), "a")
					var e *Error
					if !errors.As(err, &e) || e.InDoubt {
						t.Errorf("Get: %v", err)
					}
				}
			})
		})
	}
}

func scripts(s ...func(*fakeSession, *kvv1.Operation) *kvv1.Answer) []func(*fakeSession, *kvv1.Operation) *kvv1.Answer {
	return s
}

func checkError(t *testing.T, err, kind error, doubt bool) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %v", err)
	}
	if e.Kind != kind || e.InDoubt != doubt || errors.Is(err, ErrInDoubt) != doubt {
		t.Errorf("kind %v, in doubt %v; want %v, %v (%v)", e.Kind, e.InDoubt, kind, doubt, err)
	}
	if errors.Is(err, context.DeadlineExceeded) != (kind == ErrTimeout) ||
		errors.Is(err, context.Canceled) != (kind == ErrCanceled) {
		t.Errorf("context errors do not match kind %v: %v", kind, err)
	}
}

func TestP4_EndOfContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(silent)
		c := w.open("n1:7400", WithBlock())

		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, err := c.Put(ctx, "a", nil)
		checkError(t, err, ErrCanceled, true)

		_, err = c.Put(ctx, "a", nil) // cancelled before it began
		checkError(t, err, ErrCanceled, false)
		_, err = c.Put(within(t, 0), "a", nil)
		checkError(t, err, ErrTimeout, false)
		_, err = c.Get(within(t, time.Second), "a")
		checkError(t, err, ErrTimeout, false)

		// Waiting for a connection is not being sent.
		w.nodes[0].setHole()
		w.nodes[0].down()
		time.Sleep(time.Millisecond) // else it may be sent into the breaking connection
		_, err = c.Put(within(t, time.Second), "a", nil)
		checkError(t, err, ErrTimeout, false)
	})
}

func TestWriteWithoutIDIsSentOnceIntoDoubt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].script(leads(w.nodes[1], 1)) // a refusal that is certain may be followed
		w.nodes[1].script(silent)
		c := w.open("n1:7400")
		_, err := c.Put(within(t, 9*time.Second), "a", nil, WithoutRequestID())
		checkError(t, err, ErrTimeout, true)
		ops := w.nodes[1].operations()
		if len(ops) != 1 || ops[0].GetNumber() != 0 || ops[0].GetNotAfterUs() != 0 || len(ops[0].GetClientId()) != 0 {
			t.Fatalf("n2 got %v", ops)
		}
	})
}

func TestEveryKindHasARule(t *testing.T) {
	for _, kind := range kverr.Kinds() {
		if r, ok := rules[kind]; !ok || r.is == nil {
			t.Errorf("kind %v has no rule", kind)
		} else if kind.Applied() && !r.unknown {
			t.Errorf("kind %v may have been applied, the rule says no", kind)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	cause := kverr.New(kverr.Unavailable, "shard 3: no quorum since 12:00")
	for want, e := range map[string]*Error{
		`get "a": key not found`: {Op: "get", Key: "a", Kind: ErrNotFound},
		`put "a": timed out after 4 attempts: shard 3: no quorum since 12:00`: {
			Op: "put", Key: "a", Kind: ErrTimeout, Attempts: 4, Err: cause},
		`put "a": timed out (outcome unknown: it may or may not have been applied): shard 3: no quorum since 12:00`: {
			Op: "put", Key: "a", Kind: ErrTimeout, InDoubt: true, Attempts: 1, Err: cause},
		`put "a": outcome unknown`: {Op: "put", Key: "a", Kind: ErrInDoubt, InDoubt: true},
	} {
		if e.Error() != want {
			t.Errorf("got  %s\nwant %s", e, want)
		}
	}
	if !errors.Is(&Error{Kind: ErrTooLarge}, ErrInvalid) || !errors.Is(&Error{Kind: ErrTimeout, Err: cause}, kverr.Unavailable) {
		t.Error("Unwrap")
	}
}
