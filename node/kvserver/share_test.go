package kvserver

import (
	"testing"
	"testing/synctest"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
)

// flood asks for n operations in frames of a hundred, each frame followed by one for
// the lower shard if there are such, and waits for no answer.
func flood(c *conn, n int, op func(id uint64) *kvv1.Operation, others ...*kvv1.Operation) {
	go func() {
		for id := uint64(1_000_000); id < uint64(1_000_000+n); id += 100 {
			frame := &kvv1.ClientFrame{}
			for i := range uint64(100) {
				frame.Operations = append(frame.Operations, op(id+i))
			}
			if c.rpc.Send(frame) != nil {
				return
			}
			if len(others) > 0 {
				if c.rpc.Send(&kvv1.ClientFrame{Operations: others[:1]}) != nil {
					return
				}
				others = others[1:]
			}
		}
	}()
}

// P8: a shard that never answers does not hold up others on the same stream, however
// much it is asked and whether operations or bytes are what is full; it is refused
// beyond its share, with a hint, and served again when it answers.
func TestP8_ADeafShardLeavesItsStreamToOthers(t *testing.T) {
	for _, c := range []struct {
		name string
		op   func(id uint64) *kvv1.Operation
	}{
		{"operations", func(id uint64) *kvv1.Operation { return put(id, "foo", "v") }},
		{"bytes", func(id uint64) *kvv1.Operation { return put(id, "foo", string(make([]byte, 10_000))) }},
		{"reads", func(id uint64) *kvv1.Operation { return get(id, "foo") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(e *env) {
				writes, reads := make(chan *raftstore.Write, 10_000), make(chan *raftstore.Read, 10_000)
				e.upper.onWrite = func(w *raftstore.Write) { writes <- w }
				e.upper.onRead = func(r *raftstore.Read) { reads <- r }
				s := e.open()
				var others []*kvv1.Operation
				for id := range uint64(50) {
					others = append(others, put(2*id, "bar", "v"), get(2*id+1, "bar"))
				}
				flood(s, 10_000, c.op, others...)
				start, served, refused := time.Now(), 0, 0
				take := func() {
					for _, a := range s.recv().Answers {
						if a.Id < 1_000_000 {
							wantKind(t, a, kverr.None, "")
							served++
							continue
						}
						wantKind(t, a, kverr.Overloaded, "answers slowly")
						if a.Error.RetryAfterUs == 0 || a.Error.Shard != 3 {
							t.Fatalf("refused with %v", a.Error)
						}
						refused++
					}
					if t.Failed() {
						t.FailNow()
					}
					synctest.Wait()
				}
				for served < len(others) {
					take()
				}
				if took := time.Since(start); took > slowPatience {
					t.Errorf("the others waited %v", took)
				}
				a := e.box().account()
				for ; refused+a.shareOps < 10_000; a = e.box().account() {
					take()
				}
				l := e.server.Limits()
				if a.shareOps > l.MaxInFlightOps/2 || a.shareBytes > l.MaxInFlightBytes/2 {
					t.Errorf("it has %d operations and %d bytes of the stream", a.shareOps, a.shareBytes)
				}
				for len(writes) > 0 {
					e.upper.apply(<-writes)
				}
				e.upper.serveAll()
				for len(reads) > 0 {
					e.upper.Get(<-reads)
				}
				s.answers(a.shareOps)
				wantKind(t, s.do(put(7, "foo", "v"))[7], kverr.None, "")
				synctest.Wait()
				if got := e.box().account(); got != (account{}) {
					t.Errorf("left in flight: %+v", got)
				}
			})
		})
	}
}

// A shard that is alone and takes its time is waited for, not refused: its client
// gets all it can do.
func TestAShardThatAnswersIsWaitedFor(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		work := make(chan *raftstore.Write, 10_000)
		e.upper.onWrite = func(w *raftstore.Write) { work <- w }
		go func() {
			for w := range work {
				time.Sleep(slowPatience / 5)
				e.upper.apply(w)
			}
		}()
		s := e.open()
		flood(s, 30_000, func(id uint64) *kvv1.Operation { return put(id, "foo", "v") })
		for id, a := range s.answers(30_000) {
			if kindIn(a) != kverr.None {
				t.Fatalf("operation %d: %v", id, a)
			}
		}
		close(work)
	})
}

// Several deaf shards leave room as well, and it never runs out.
func TestP8_ManyDeafShardsLeaveRoom(t *testing.T) {
	s := &Server{limits: Limits{}.withDefaults()}
	s.held.max = s.limits.MaxHeldBytes
	var b outbox
	b.init(s)
	for n := 1; n <= 12; n++ {
		of := b.shareLocked(0)
		*of = share{}
		for b.takeLocked(of, 1, 512) == noShortage {
		}
		delete(b.mu.shares, 0)
		if free := b.maxOps - b.mu.ops; free < b.maxOps>>n {
			t.Fatalf("%d deaf shards leave %d operations", n, free)
		}
	}
}

// A client that takes no answers is not refused, it is not read from: refusals would
// only be more answers.
func TestUnreadAnswersAreNoReasonToRefuse(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxInFlightOps, o.Limits.MaxOpsPerFrame = 100, 10 }
	inBubble(t, small, func(e *env) {
		gate := make(chan struct{})
		rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
			if len(f.Answers) > 0 {
				<-gate
			}
			for _, a := range f.Answers {
				wantKind(t, a, kverr.None, "")
			}
			return nil
		})
		go func() {
			for id := range uint64(300) {
				rpc.in <- &kvv1.ClientFrame{Operations: []*kvv1.Operation{put(id, "foo", "v")}}
			}
			close(rpc.in)
		}()
		time.Sleep(20 * slowPatience)
		if got := e.box().account(); got.ops != 100 || got.asked != 0 {
			t.Errorf("in flight: %+v", got)
		}
		close(gate)
		if err := <-rpc.ended; err != nil {
			t.Error(err)
		}
	})
}
