package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

func TestP3_RequestIDOutlivesTheClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHonest(t, 1, 1)
		h.calm = true
		w := h.w
		var lose atomic.Bool
		lose.Store(true)
		w.nodes[0].script(func(s *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			a := h.serve(s, op)
			if lose.Load() {
				return nil
			}
			return a
		})
		first := w.open("n1:7400", WithBlock())
		id := first.NewRequestID()
		_, err := first.Put(within(t, time.Second), "a", []byte("x"), WithRequestID(id))
		if !errors.Is(err, ErrInDoubt) {
			t.Fatal(err)
		}
		_ = first.Close()

		lose.Store(false)
		stored, err := ParseRequestID(id.String()) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		second := w.open("n1:7400")
		for range 3 {
			got, err := second.Put(context.Background(), "a", []byte("x"), WithRequestID(stored))
			if err != nil || !got.Repeated {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		if n := h.applied["x"]; n != 1 {
			t.Fatalf("applied %d times", n)
		}
		// It does not take part in this client's own numbers.
		checkNumbersClosed(t, second)
		if next := second.numbers.lane().next; next != 1 {
			t.Fatalf("it used number %d of the stream's client", next-1)
		}
		time.Sleep(RequestIDLifetime)
		_, err = second.Put(context.Background(), "a", []byte("x"), WithRequestID(stored))
		checkError(t, err, ErrExpired, true)
		if n := h.applied["x"]; n != 1 {
			t.Fatalf("applied %d times", n)
		}
	})
}

func TestRequestIDText(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newWorld(t, 1).open("n1:7400")
		a, b := c.NewRequestID(), c.NewRequestID()
		if a == b || a.IsZero() {
			t.Fatal("ids are not distinct")
		}
		var back struct{ ID RequestID }
		text, err := json.Marshal(struct{ ID RequestID }{a})
		if err != nil || json.Unmarshal(text, &back) != nil || back.ID != a {
			t.Fatalf("%s does not come back: %v", text, err)
		}
	})
	good := RequestID{client: [16]byte{1}, notAfter: 2}.String()
	for _, bad := range []string{
		"", "rq1", good[1:], good + "0", strings.ToUpper(good), "rq2" + good[3:], strings.Replace(good, "0", "g", 1),
		good[:len(good)-1] + "x", strings.ReplaceAll(good, "-", "_"),
	} {
		if id, err := ParseRequestID(bad); !errors.Is(err, ErrInvalid) || !id.IsZero() {
			t.Errorf("ParseRequestID(%q) = %v, %v", bad, id, err)
		}
	}
}

func FuzzParseRequestID(f *testing.F) {
	f.Add(RequestID{client: [16]byte{1, 2, 3}, notAfter: 1 << 50}.String())
	f.Add("rq1-00000000000000000000000000000000-0000000000000000")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseRequestID(text)
		if err == nil && id.String() != text {
			t.Fatalf("%q reads as %q", text, id)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"kv://a:1,b:2", "[::1]:7", "kv://", ",", "a:1,a:1/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		endpoints, err := parseTarget(text)
		if (err == nil) != (len(endpoints) > 0) {
			t.Fatalf("%v, %v", endpoints, err)
		}
		if err == nil {
			again, err := parseTarget("kv://" + strings.Join(endpoints, ","))
			if err != nil || len(again) != len(endpoints) {
				t.Fatalf("%q gives %q, which gives %q, %v", text, endpoints, again, err)
			}
		}
	})
}
