package kvserver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// TestK2_AnswersTravelTogether: what is answered while a frame is being sent
// goes out in one next frame.
func TestK2_AnswersTravelTogether(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 100)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		sizes, gate := make(chan int, 100), make(chan struct{})
		rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
			if len(f.Answers) > 0 {
				sizes <- len(f.Answers)
				<-gate
			}
			return nil
		})
		for i := range 50 {
			rpc.in <- &kvv1.ClientFrame{Operations: []*kvv1.Operation{put(uint64(i), "foo", "")}}
		}
		synctest.Wait()
		for range 50 {
			e.upper.apply(<-held)
			synctest.Wait()
		}
		close(gate)
		close(rpc.in)
		if err := <-rpc.ended; err != nil {
			t.Error(err)
		}
		if a, b := <-sizes, <-sizes; a != 1 || b != 49 || len(sizes) != 0 {
			t.Errorf("frames of %d, %d answers and %d more", a, b, len(sizes))
		}
	})
}

// TestK3_BackPressure: with its window full, a stream is not read from; nothing
// is refused; and Done never waits for the client.
func TestK3_BackPressure(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxInFlightOps, o.Limits.MaxOpsPerFrame = 100, 10 }
	inBubble(t, small, func(e *env) {
		got, gate := 0, make(chan struct{})
		rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
			if len(f.Answers) > 0 {
				<-gate
				got += len(f.Answers)
			}
			return nil
		})
		sent := 0
		for range 100 {
			frame := &kvv1.ClientFrame{}
			for i := range 10 {
				frame.Operations = append(frame.Operations, put(uint64(sent*10+i), "foo", "v"))
			}
			select {
			case rpc.in <- frame:
				sent++
				continue
			case <-time.After(time.Second):
			}
			break
		}
		// Ten frames are in flight and the reader holds one more.
		if sent != 11 {
			t.Errorf("%d frames were taken from a client that does not read", sent)
		}
		if writes, _ := e.upper.calls(); len(writes) != 10 {
			t.Errorf("%d writes were handed over", len(writes))
		}
		close(gate)
		close(rpc.in)
		if err := <-rpc.ended; err != nil || got != 110 {
			t.Errorf("%v; %d answers", err, got)
		}
	})
}

// TestK3_DoneCallsNothingOfTheNode: a group may call Done from its apply loop and
// under its locks; looking up directions there would deadlock.
func TestK3_DoneCallsNothingOfTheNode(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		locked := func(done func()) {
			e.shards.mu.Lock()
			defer e.shards.mu.Unlock()
			e.upper.mu.Lock()
			defer e.upper.mu.Unlock()
			done()
		}
		e.upper.onWrite = func(w *raftstore.Write) {
			locked(func() { w.Done(nil, 0, kverr.New(kverr.NotLeader, "no")) })
		}
		e.upper.onRead = func(r *raftstore.Read) {
			locked(func() { r.Done([]raftstore.Value{{WrongShard: true}}, 0, nil) })
		}
		a := e.open().do(put(1, "foo", ""), get(2, "foo"))
		wantKind(t, a[1], kverr.NotLeader, "")
		wantKind(t, a[2], kverr.WrongShard, "")
		if a[1].Record == nil || a[2].Record == nil {
			t.Errorf("no directions: %v", a)
		}
	})
}

// TestK3_BytesAreBounded: reads whose values nobody takes hold at most
// MaxInFlightBytes, and what does not fit says so.
func TestK3_BytesAreBounded(t *testing.T) {
	inBubble(t, smallWindow, func(e *env) {
		value := make([]byte, 1<<20)
		e.upper.onRead = func(r *raftstore.Read) {
			values := make([]raftstore.Value, len(r.Keys))
			for i := range values {
				values[i] = raftstore.Value{Found: true, Version: 9, Data: value}
			}
			r.Done(values, 9, nil)
		}
		gate := make(chan struct{})
		full, shed := 0, 0
		rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
			if len(f.Answers) > 0 {
				<-gate
			}
			if size := proto.Size(f); size > frameTarget+1<<20+1<<10 {
				t.Errorf("a frame of %d bytes", size)
			}
			for _, a := range f.Answers {
				switch kindIn(a) {
				case kverr.None:
					full++
				case kverr.Overloaded:
					shed++
					if a.Found || a.Value != nil || a.Error.RetryAfterUs == 0 {
						t.Errorf("shed answer: %v", a)
					}
				}
			}
			return nil
		})
		many := func() *kvv1.ClientFrame {
			f := &kvv1.ClientFrame{}
			for i := range 500 {
				f.Operations = append(f.Operations, get(uint64(i), "foo"))
			}
			return f
		}
		rpc.in <- many()
		synctest.Wait()
		if queued := e.box().account().queued; queued > 8<<20+500*opOverhead {
			t.Errorf("%d bytes wait", queued)
		}
		close(gate)
		synctest.Wait()
		if full != 7 || shed != 493 {
			t.Errorf("%d values came, %d were shed", full, shed)
		}
		if got := e.server.Counters().Overloaded; got != 493 {
			t.Errorf("counted %d as overloaded", got)
		}

		// The stream has learned what reads bring: now back-pressure is enough.
		full, shed = 0, 0
		rpc.in <- many()
		close(rpc.in)
		if err := <-rpc.ended; err != nil {
			t.Error(err)
		}
		if full != 500 || shed != 0 {
			t.Errorf("second time: %d values came, %d were shed", full, shed)
		}
	})
}

// smallWindow bounds a stream to 8 MiB.
func smallWindow(o *Options) { o.Limits.MaxInFlightBytes = 8 << 20 }

// account is a copy of the box's numbers.
type account struct{ ops, bytes, queued, asked, shareOps, shareBytes int }

func (b *outbox) account() account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := account{ops: b.mu.ops, bytes: b.mu.bytes, queued: b.mu.queued, asked: b.mu.asked}
	for _, s := range b.mu.shares {
		a.shareOps += s.ops
		a.shareBytes += s.bytes
	}
	return a
}

// box is the outbox of the only stream.
func (e *env) box() *outbox {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	for st := range e.server.mu.streams {
		return &st.box
	}
	e.t.Fatal("no stream is open")
	return nil
}

// TestAccountReturnsToZero: after any mix of answers nothing is left in flight.
func TestAccountReturnsToZero(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.lower.refuseAll(kverr.New(kverr.NotLeader, "no"))
		c := e.open()
		for round := range uint64(20) {
			var ops []*kvv1.Operation
			for i := range uint64(30) {
				key := fmt.Sprint(round, "-", i)
				ops = append(ops, put(round*1000+4*i, key, "value"), get(round*1000+4*i+1, key), del(round*1000+4*i+2, key),
					routed(get(round*1000+4*i+3, key), 99, 1))
			}
			c.do(ops...)
		}
		synctest.Wait()
		if got := e.box().account(); got != (account{}) {
			t.Errorf("left in flight: %+v", got)
		}
	})
}

// TestK3_StalledClientIsCut, over gRPC: a client that reads nothing costs a
// bounded amount for a bounded time, and its operations are not in its way.
func TestK3_StalledClientIsCut(t *testing.T) {
	inBubble(t, smallWindow, func(e *env) {
		c := e.open()
		start := time.Now()
		value := string(make([]byte, 1<<18))
		c.do(put(0, "foo", value))
		go func() { // as much as flow control lets it, without ever reading
			for c.rpc.Send(&kvv1.ClientFrame{Operations: []*kvv1.Operation{get(1, "foo")}}) == nil {
			}
		}()
		for e.server.Counters().Streams > 0 {
			if a := e.box().account(); a.bytes+a.queued > 8<<20 {
				t.Fatalf("in flight: %+v", a)
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("cut after %v", took)
		}
		if got := e.server.Counters().Stalled; got != 1 {
			t.Errorf("counted %d", got)
		}
		if err := wire.ErrorFromStatus(c.end(), wire.Unsent); !errors.Is(err, kverr.Overloaded) {
			t.Errorf("its status: %v", err)
		}
	})
}

// TestPushCoalesces: while a stream cannot send, only the newest map and the
// newest hint per shard wait; an older one never follows a newer one.
func TestPushCoalesces(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		var frames []*kvv1.ServerFrame
		gate := make(chan struct{}, 100)
		gate <- struct{}{} // for the hello
		rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
			frames = append(frames, proto.Clone(f).(*kvv1.ServerFrame))
			<-gate
			return nil
		})
		synctest.Wait()
		e.server.PushMap(testMap(t, 2, lower, upper)) // this one blocks in Send
		synctest.Wait()
		for epoch := uint64(3); epoch < 50; epoch++ {
			e.server.PushMap(testMap(t, epoch, lower, upper))
			e.server.PushMap(testMap(t, epoch-1, lower, upper))
			for shard := shardmap.ShardID(2); shard <= 3; shard++ {
				e.server.PushLeader(shardmap.LeaderHint{Shard: shard, Term: epoch + 10, Node: nodeID(int(epoch)%3 + 1)})
				e.server.PushLeader(shardmap.LeaderHint{Shard: shard, Term: epoch + 9, Node: nodeID(1)})
				e.server.PushLeader(shardmap.LeaderHint{Shard: shard, Term: 1000}) // lost, not led
			}
		}
		for range 10 {
			gate <- struct{}{}
		}
		synctest.Wait()
		close(rpc.in)
		<-rpc.ended
		if len(frames) != 3 {
			t.Fatalf("%d frames, want hello, map 2, map 49 with hints", len(frames))
		}
		last := frames[2]
		if frames[1].Map.GetEpoch() != 2 || last.Map.GetEpoch() != 49 || len(last.Leaders) != 2 {
			t.Errorf("frames %v", frames[1:])
		}
		for _, h := range last.Leaders {
			if h.Term != 59 || h.NodeId != string(nodeID(2)) {
				t.Errorf("hint %v", h)
			}
		}
	})
}

// TestMapSeenAtHelloReachesOthers: the node uses a map before it pushes it.
func TestMapSeenAtHelloReachesOthers(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		first := e.open()
		e.shards.mu.Lock()
		e.shards.m = testMap(t, 8, lower, upper)
		e.shards.mu.Unlock()
		if second := e.open(); second.first.Map.GetEpoch() != 8 {
			t.Errorf("hello with map %d", second.first.Map.GetEpoch())
		}
		e.server.PushMap(e.shards.Map())
		if f := first.recv(); f.Map.GetEpoch() != 8 {
			t.Errorf("the other stream got %v", f)
		}
	})
}

// TestPushBeforeHello: what is pushed before the client said hello follows it.
func TestPushBeforeHello(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.dial()
		synctest.Wait()
		e.server.PushMap(testMap(t, 5, lower, upper))
		synctest.Wait()
		c.send(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: 1}})
		if f := c.recv(); f.Hello == nil || f.Map.GetEpoch() != 5 {
			t.Errorf("first frame %v", f)
		}
	})
}

func TestGoingAwayAndClose(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		c := e.open()
		c.ops(put(1, "foo", ""))
		synctest.Wait()

		e.server.GoingAway()
		e.server.GoingAway()
		if f := c.recv(); !f.GoingAway {
			t.Errorf("frame %v", f)
		}
		if err := wire.ErrorFromStatus(e.dial().end(), wire.Unsent); !errors.Is(err, kverr.Unavailable) {
			t.Errorf("a new stream: %v", err)
		}
		wantKind(t, c.do(put(2, "bar", ""))[2], kverr.None, "") // still served

		closed := make(chan error, 1)
		go func() { closed <- e.server.Close(context.Background()) }()
		synctest.Wait()
		wantKind(t, c.do(put(3, "bar", ""))[3], kverr.Unavailable, "stopping")
		if _, err := e.client.Put(context.Background(), &kvv1.PutRequest{Key: []byte("bar")}); err == nil {
			t.Error("a unary call was served")
		}
		time.Sleep(5 * time.Second)
		select {
		case err := <-closed:
			t.Fatalf("closed with a write in flight: %v", err)
		default:
		}
		e.upper.apply(<-held)
		wantKind(t, c.answers(1)[1], kverr.None, "")
		if err := wire.ErrorFromStatus(c.end(), wire.Unsent); !errors.Is(err, kverr.Unavailable) {
			t.Errorf("the stream's status: %v", err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := e.server.Close(context.Background()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

// TestCloseCuts: when its context ends, Close waits no longer for a group that
// does not answer, but still for its own goroutines; a late answer does no harm.
func TestCloseCuts(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 2)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		c := e.open()
		c.ops(put(1, "foo", ""))
		unary := make(chan error, 1)
		go func() {
			_, err := e.client.Put(context.Background(), &kvv1.PutRequest{Key: []byte("foo")})
			unary <- wire.ErrorFromStatus(err, wire.MaybeSent)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		if err := e.server.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("close: %v after %v", err, time.Since(start))
		}
		if got := e.server.Counters().Streams; got != 0 {
			t.Errorf("%d streams left", got)
		}
		if err := wire.ErrorFromStatus(c.end(), wire.Unsent); !errors.Is(err, kverr.Unavailable) {
			t.Errorf("the stream's status: %v", err)
		}
		if err := <-unary; !errors.Is(err, kverr.OutcomeUnknown) {
			t.Errorf("the unary call's status: %v", err)
		}
		e.upper.apply(<-held)
		e.upper.apply(<-held)
	})
}

func TestClientGoesAway(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		c := e.open()
		c.ops(put(1, "foo", ""))
		synctest.Wait()
		c.cancel()
		synctest.Wait()
		if got := e.server.Counters().Streams; got != 0 {
			t.Errorf("%d streams left", got)
		}
		e.upper.apply(<-held)
	})
}
