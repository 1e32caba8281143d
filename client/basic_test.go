package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

func TestGetPutDelete(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 3)
		c := w.open("kv://n1:7400,n2:7400")
		ctx := context.Background()
		put, err := c.Put(ctx, "a", []byte("x"))
		if err != nil || put.Version != 7 {
			t.Fatalf("Put = %+v, %v", put, err)
		}
		got, err := c.Get(ctx, "a")
		if err != nil || string(got.Value) != "v:a" || got.Version != 7 || got.Key != "a" {
			t.Fatalf("Get = %+v, %v", got, err)
		}
		if _, err := c.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Operations != 3 || s.Frames != 3 || s.Connections != 1 || s.MapEpoch != 1 || s.Retries != 0 {
			t.Fatalf("Stats = %+v", s)
		}
	})
}

func TestNotFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer { return &kvv1.Answer{Id: op.GetId()} })
		_, err := w.open("n1:7400").Get(context.Background(), "a")
		if !errors.Is(err, ErrNotFound) {
			t.Fatalf("Get = %v", err)
		}
	})
}

func TestOpenIsLazy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		c := w.open("n1:7400")
		time.Sleep(time.Minute)
		if s := c.Stats(); s.Connects != 0 {
			t.Fatalf("connected without a call: %+v", s)
		}
	})
}

func TestWithBlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].down()
		if c := w.open("n1:7400,n2:7400", WithBlock()); c.Stats().Connections != 1 {
			t.Fatalf("not connected: %+v", c.Stats())
		}
		w.nodes[1].down()
		began := time.Now()
		c, err := Open(context.Background(), "n1:7400,n2:7400", WithDialer(w.dial), WithBlock(), WithTimeout(3*time.Second))
		if c != nil || !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatalf("Open = %v, %v", c, err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestTargets(t *testing.T) {
	good := map[string]string{
		"kv://a:1,b:2":   "a:1 b:2",
		"a:1":            "a:1",
		" a:1 , b:2,a:1": "a:1 b:2",
		"kv://[::1]:7/":  "[::1]:7",
	}
	for target, want := range good {
		got, err := parseTarget(target)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("parseTarget(%q) = %v, %v", target, got, err)
		}
	}
	for _, target := range []string{"", "kv://", "a", "a:", "a:0", "a:65536", "a:http", ":7", "a:1,,b:2", "http://a:1", "::1:7"} {
		c, err := Open(context.Background(), target)
		if c != nil || !errors.Is(err, ErrInvalid) || target != "" && !strings.Contains(err.Error(), target) {
			t.Errorf("Open(%q) = %v, %v", target, c, err)
		}
	}
	if _, err := Open(context.Background(), "a:1", WithTimeout(-1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("negative timeout: %v", err)
	}
	if _, err := Open(context.Background(), "a:1", WithRand(strings.NewReader("short"))); !errors.Is(err, ErrInternal) {
		t.Errorf("no entropy: %v", err)
	}
}

func TestLimitsAreEnforcedBeforeAnythingIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		c := w.open("n1:7400")
		ctx := context.Background()
		check := func(err, kind error, text string) {
			t.Helper()
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, kind) || !errors.Is(err, ErrInvalid) || e.InDoubt ||
				!strings.Contains(err.Error(), text) {
				t.Errorf("error %v is not %v with %q", err, kind, text)
			}
		}
		_, err := c.Get(ctx, "")
		check(err, ErrInvalid, "the key is empty")
		_, err = c.Put(ctx, strings.Repeat("k", 4097), nil)
		check(err, ErrTooLarge, "4097 bytes, the limit is 4096")
		_, err = c.Put(ctx, "k", make([]byte, 1<<20+1))
		check(err, ErrTooLarge, "1048577 bytes, the limit is 1048576")
		_, err = c.Put(ctx, "k", nil, WithRequestID(RequestID{}))
		check(err, ErrInvalid, "NewRequestID")
		if s := c.Stats(); s.Connects != 0 {
			t.Fatalf("connected to refuse: %+v", s)
		}

		w.nodes[0].first = func() *kvv1.ServerFrame {
			f := w.nodes[0].helloFrame()
			f.Hello.MaxKeyBytes, f.Hello.MaxValueBytes, f.Hello.MaxFrameBytes = 5, 10, 2000
			return f
		}
		if _, err := c.Get(ctx, "abcdef"); err != nil {
			t.Fatal(err) // before the hello the defaults hold
		}
		_, err = c.Get(ctx, "abcdef")
		check(err, ErrTooLarge, "6 bytes, the limit is 5")
		_, err = c.Put(ctx, "a", make([]byte, 11))
		check(err, ErrTooLarge, "11 bytes, the limit is 10")
		results, err := c.PutMany(ctx, []KV{{"a", nil}, {"", nil}, {"b", make([]byte, 11)}})
		check(err, ErrInvalid, "empty")
		if results[0].Err != nil || !errors.Is(results[2].Err, ErrTooLarge) {
			t.Fatalf("PutMany = %+v", results)
		}
	})
}

func TestCloseEndsCallsAndTellsTheTruth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.nodes[0].script(silent)
		w.nodes[1].down()
		c := w.open("n1:7400")
		type outcome struct {
			what string
			err  error
		}
		results := make(chan outcome)
		go func() {
			_, err := c.Put(context.Background(), "a", nil)
			results <- outcome{"sent write", err}
		}()
		go func() {
			_, err := c.Get(context.Background(), "a")
			results <- outcome{"sent read", err}
		}()
		time.Sleep(time.Second)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got := <-results
			if !errors.Is(got.err, ErrClosed) || errors.Is(got.err, ErrInDoubt) != (got.what == "sent write") {
				t.Errorf("%s: %v", got.what, got.err)
			}
		}
		_, err := c.Put(context.Background(), "a", nil)
		if !errors.Is(err, ErrClosed) || errors.Is(err, ErrInDoubt) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := c.GetMany(context.Background(), []string{"a", "b"}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloseEndsWaitingCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(always(kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE))
		c := w.open("n1:7400")
		done := make(chan error)
		go func() {
			_, err := c.Put(context.Background(), "a", nil)
			done <- err
		}()
		time.Sleep(time.Second)
		began := time.Now()
		_ = c.Close()
		if err := <-done; !errors.Is(err, ErrClosed) || errors.Is(err, ErrInDoubt) || time.Since(began) > 0 {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

// The race detector is the judge: a value must not be read after its call.
func TestValueIsTheCallersAgainAfterTheCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			if op.GetId()%3 == 0 {
				return nil
			}
			return success(op)
		})
		c := w.open("n1:7400")
		done := make(chan struct{})
		for range 8 {
			go func() {
				value := make([]byte, 100)
				for range 50 {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					_, _ = c.Put(ctx, "a", value)
					cancel()
					clear(value)
				}
				done <- struct{}{}
			}()
		}
		for range 8 {
			<-done
		}
	})
}

func TestTooLargeIsSaidOnce(t *testing.T) {
	err := error(&Error{Op: "put", Key: "k", Kind: ErrTooLarge, Err: errors.New("the value has 3 bytes, the limit is 2")})
	if want := `put "k": too large: the value has 3 bytes, the limit is 2`; err.Error() != want || !errors.Is(err, ErrInvalid) {
		t.Errorf("%v, want %s", err, want)
	}
}
