package kvserver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
)

const mib = 1 << 20

// P9, over gRPC: many clients that ask and read nothing hold no more together than
// a node allows, until they are cut; another client is served all the while, and
// afterwards nothing is held.
func TestP9_SlowClientsTogetherAreBounded(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxHeldBytes, o.Limits.MaxInFlightBytes = 16*mib, 8*mib }
	inBubble(t, small, func(e *env) {
		quick := e.open()
		value := string(make([]byte, 256<<10))
		quick.do(put(0, "foo", value))
		most := 0
		for range 12 {
			slow := e.open()
			go func() { // as much as flow control lets it, without ever reading
				for slow.rpc.Send(&kvv1.ClientFrame{Operations: []*kvv1.Operation{get(1, "foo")}}) == nil {
				}
			}()
		}
		served, refused := 0, 0
		for start := time.Now(); time.Since(start) < 25*time.Second; time.Sleep(500 * time.Millisecond) {
			synctest.Wait()
			most = max(most, e.server.HeldBytes())
			for id, a := range quick.do(put(1, "bar", "v"), get(2, "bar"), get(3, "foo")) {
				switch kind := kindIn(a); {
				case kind == kverr.None:
					served++
				case kind == kverr.Overloaded && a.Error.RetryAfterUs > 0:
					refused++
				default:
					t.Errorf("operation %d of the quick client: %v", id, a)
				}
			}
		}
		if most > 16*mib || most < 6*mib {
			t.Errorf("the clients held %d bytes at most", most)
		}
		if served < 140 || refused > served/10 {
			t.Errorf("the quick client was served %d times, refused %d times", served, refused)
		}
		time.Sleep(20 * time.Second) // they are cut
		if got := e.server.Counters(); got.Streams != 1 || got.Stalled != 12 {
			t.Errorf("%d streams, %d cut", got.Streams, got.Stalled)
		}
		if held := e.server.HeldBytes(); held != 0 {
			t.Errorf("%d bytes are held by nobody", held)
		}
	})
}

// At the bound a client with nothing under way is refused with a hint, by stream and
// by call; it neither hangs nor is cut, and is served when there is room.
func TestP9_AtTheBoundOfANodeClientsAreRefused(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxHeldBytes, o.Limits.MaxInFlightBytes = 8*mib, 8*mib }
	inBubble(t, small, func(e *env) {
		stuck := make(chan *raftstore.Write, 100)
		e.upper.onWrite = func(w *raftstore.Write) { stuck <- w }
		value := string(make([]byte, mib/4))
		c := e.open()
		for id := range uint64(2) {
			c.ops(put(id, "foo", value))
		}
		synctest.Wait()
		if len(stuck) != 2 {
			t.Fatalf("%d writes were taken", len(stuck))
		}
		e.server.held.add(8*mib - e.server.HeldBytes()) // others
		other := e.open()
		a := other.do(put(1, "bar", "v"), get(2, "bar"))
		for id := range uint64(2) {
			wantKind(t, a[id+1], kverr.Overloaded, "all the memory they may")
			if a[id+1].Error.RetryAfterUs == 0 {
				t.Error("no hint")
			}
		}
		_, err := e.client.Put(context.Background(), &kvv1.PutRequest{Key: []byte("bar"), Value: []byte("v")})
		var ke *kverr.Error
		if err := wire.ErrorFromStatus(err, wire.MaybeSent); !errors.As(err, &ke) || ke.Kind != kverr.Overloaded || ke.RetryAfter == 0 {
			t.Errorf("a call: %v", err)
		}
		if got := e.server.ServeOperation(context.Background(), get(1, "bar")); kindIn(got) != kverr.Overloaded {
			t.Errorf("a forwarded operation: %v", got)
		}
		if got := e.server.Counters(); got.NodeFull != 3 || got.Overloaded != 4 {
			t.Errorf("%+v", got)
		}
		e.server.held.add(2*mib - 8*mib)
		wantKind(t, other.do(put(3, "bar", "v"))[3], kverr.None, "")
		e.upper.apply(<-stuck)
		e.upper.apply(<-stuck)
		c.answers(2)
		synctest.Wait()
		if held := e.server.HeldBytes(); held != 2*mib-(2*(mib/4+3+opOverhead)) {
			t.Errorf("%d bytes are held", held)
		}
		e.server.held.bytes.Store(0)
	})
}

// A stream may hold an eighth of what is free: then it is not read from, and the
// others are.
func TestP8_AGreedyStreamLeavesRoom(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxHeldBytes, o.Limits.MaxInFlightBytes = 9*mib, 8*mib }
	inBubble(t, small, func(e *env) {
		held := make(chan *raftstore.Write, 1000)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		greedy := e.open()
		value := string(make([]byte, 64<<10))
		go func() {
			for greedy.rpc.Send(&kvv1.ClientFrame{Operations: []*kvv1.Operation{put(1, "foo", value)}}) == nil {
			}
		}()
		time.Sleep(time.Second)
		if got := e.server.HeldBytes(); got > mib || got < mib*3/4 {
			t.Errorf("one stream holds %d of 9 MiB", got)
		}
		wantKind(t, e.open().do(put(1, "bar", string(make([]byte, mib))))[1], kverr.None, "")
		greedy.cancel()
		synctest.Wait()
		for len(held) > 0 {
			e.upper.apply(<-held)
		}
	})
}

// A call is charged with its request, and with its value until it returns.
func TestCallsAreCharged(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		stuck := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { stuck <- w }
		done := make(chan error)
		go func() {
			_, err := e.client.Put(context.Background(), &kvv1.PutRequest{Key: []byte("foo"), Value: make([]byte, mib)})
			done <- err
		}()
		synctest.Wait()
		if got := e.server.HeldBytes(); got != mib+3+opOverhead {
			t.Errorf("a call holds %d bytes", got)
		}
		e.upper.apply(<-stuck)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		e.server.held.add(512*mib - mib/2) // room for the question, not for the answer
		_, err := e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo")})
		if !errors.Is(wire.ErrorFromStatus(err, wire.Unsent), kverr.Overloaded) {
			t.Errorf("a value for which there is no room: %v", err)
		}
		e.server.held.add(mib/2 - 512*mib)
		if _, err := e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo")}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := e.server.HeldBytes(); got != 0 {
			t.Errorf("%d bytes are left", got)
		}
	})
}

// A value for which the node has no room is left out, even the first of a stream.
func TestP9_ValuesBeyondTheBoundOfANodeAreShed(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.onRead = func(r *raftstore.Read) {
			values := make([]raftstore.Value, len(r.Keys))
			for i := range values {
				values[i] = raftstore.Value{Found: true, Version: 9, Data: make([]byte, mib)}
			}
			r.Done(values, 9, nil)
		}
		others := 512*mib - 3*mib
		e.server.held.add(others)
		var ops []*kvv1.Operation
		for id := range uint64(10) {
			ops = append(ops, get(id, "foo"))
		}
		full := 0
		for _, a := range e.open().do(ops...) {
			if kindIn(a) == kverr.None {
				full++
			} else {
				wantKind(t, a, kverr.Overloaded, "")
			}
		}
		if full != 2 {
			t.Errorf("%d values of 1 MiB came, with room for 3 and their answers", full)
		}
		synctest.Wait()
		e.server.held.add(-others)
	})
}

// What is handed to gRPC while the stream is closed is taken off the account once.
func TestAClosedStreamGivesBackOnce(t *testing.T) {
	s := &Server{limits: Limits{MaxInFlightOps: 10, MaxInFlightBytes: mib}}
	h := &s.held
	h.max = mib
	var b outbox
	b.init(s)
	b.greet(&kvv1.ServerHello{}, nil, 0, 0, nil)
	in := part{ops: []*kvv1.Operation{put(1, "foo", string(make([]byte, 1000))), put(2, "foo", string(make([]byte, 2000)))}}
	p := &plan{targets: []target{{shard: 3}}}
	for i, op := range in.ops {
		p.targets[0].add(i, op, 0, time.Time{})
	}
	if b.admit(p, in) {
		t.Fatal("not admitted")
	}
	of := p.targets[0].share
	b.deliver(delivery{answers: make([]kvv1.Answer, 1), share: of, charge: requestBytes(in.ops[0], 0)})
	var l load
	b.take(&l)
	b.close()
	b.release(1, opOverhead)
	left := requestBytes(in.ops[1], 0)
	if got := h.bytes.Load(); got != int64(left) {
		t.Errorf("%d bytes are held with one operation of %d under way", got, left)
	}
	b.deliver(delivery{answers: make([]kvv1.Answer, 1), share: of, charge: left})
	if got := h.bytes.Load(); got != 0 {
		t.Errorf("%d bytes are left", got)
	}
}
