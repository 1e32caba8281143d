package kvserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func TestHelloRefusals(t *testing.T) {
	hello := func(h *kvv1.ClientHello) *kvv1.ClientFrame { return &kvv1.ClientFrame{Hello: h} }
	for _, tt := range []struct {
		name    string
		cluster string
		frame   *kvv1.ClientFrame
		want    kverr.Kind
	}{
		{"none", cluster, &kvv1.ClientFrame{Operations: []*kvv1.Operation{get(1, "a")}}, kverr.Invalid},
		{"newer format", cluster, hello(&kvv1.ClientHello{Format: 2}), kverr.Format},
		{"no format", cluster, hello(&kvv1.ClientHello{}), kverr.Format},
		{"other cluster", cluster, hello(&kvv1.ClientHello{Format: 1, ClusterId: "c2"}), kverr.WrongCluster},
		{"uninitialised", "", hello(&kvv1.ClientHello{Format: 1}), kverr.NotInitialized},
		{"short client id", cluster, hello(&kvv1.ClientHello{Format: 1, ClientId: []byte("x")}), kverr.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(o *Options) { o.ClusterID = func() string { return tt.cluster } }, func(e *env) {
				c := e.dial()
				c.send(tt.frame)
				err := wire.ErrorFromStatus(c.end(), wire.Unsent)
				if kverr.KindOf(err) != tt.want {
					t.Errorf("got %v, want kind %v", err, tt.want)
				}
				if len(c.frames) != 0 {
					t.Errorf("a refused client was sent %v", c.frames)
				}
			})
		})
	}
}

func TestNoHelloIsCut(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.dial()
		start := time.Now()
		if err := wire.ErrorFromStatus(c.end(), wire.Unsent); !errors.Is(err, kverr.Deadline) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestServerHello(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.server.PushLeader(shardmap.LeaderHint{Shard: 3, Term: 9, Node: nodeID(2)})
		c := e.open()
		h := c.first.Hello
		if h.Format != 1 || h.ClusterId != cluster || h.NodeId != string(self) || h.NowUs != uint64(time.Now().UnixMicro()) ||
			h.MaxKeyBytes != 4096 || h.MaxValueBytes != 1<<20 || h.MaxFrameBytes != 4<<20 {
			t.Errorf("hello: %v", h)
		}
		if c.first.Map.GetEpoch() != 1 || len(c.first.Map.GetShards()) != 2 {
			t.Errorf("map: %v", c.first.Map)
		}
		leaders := map[uint64]string{}
		for _, l := range c.first.Leaders {
			leaders[l.Shard] = l.NodeId
		}
		if want := (map[uint64]string{2: string(self), 3: string(nodeID(2))}); !cmp.Equal(leaders, want) {
			t.Errorf("leaders %v, want %v", leaders, want)
		}

		// A client that holds the map already is not sent it again.
		c = e.dial()
		c.send(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: 1, ClusterId: cluster, MapEpoch: 1}})
		if f := c.recv(); f.Hello == nil || f.Map != nil {
			t.Errorf("first frame: %v", f)
		}
	})
}

func TestPutGetDelete(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.open()
		a := c.do(put(1, "foo", "1"), put(2, "bar", ""))
		for id := uint64(1); id <= 2; id++ {
			wantKind(t, a[id], kverr.None, "")
			if a[id].Version != 1 || a[id].ShardVersion != 1 || a[id].ServedBy != kvv1.ServedBy_SERVED_BY_LEADER {
				t.Errorf("put: %v", a[id])
			}
		}
		a = c.do(get(3, "foo"), get(4, "bar"), get(5, "none"))
		if !a[3].Found || string(a[3].Value) != "1" || a[3].Version != 1 {
			t.Errorf("get foo: %v", a[3])
		}
		if !a[4].Found || len(a[4].Value) != 0 {
			t.Errorf("get bar: %v", a[4])
		}
		if a[5].Found || a[5].Error != nil {
			t.Errorf("get none: %v", a[5])
		}
		wantKind(t, c.do(del(6, "foo"))[6], kverr.None, "")
		if a := c.do(get(7, "foo"))[7]; a.Found || a.ShardVersion != 2 {
			t.Errorf("get after delete: %v", a)
		}
		if err := c.rpc.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := c.end(); err != nil {
			t.Errorf("after a half-close: %v", err)
		}
		want := Counters{Frames: 5, Operations: 7, Reads: 4, Writes: 3, Streams: 0}
		synctest.Wait()
		if got := e.server.Counters(); got != want {
			t.Errorf("counters %+v, want %+v", got, want)
		}
	})
}

// TestK1_BadOperations: every kind of bad operation is answered by itself, and
// its neighbours are served.
func TestK1_BadOperations(t *testing.T) {
	level := get(8, "foo")
	level.Level = 5
	number := put(9, "foo", "")
	number.Number, number.NotAfterUs, number.ClientId = 1, 1, []byte("short")
	noTime := put(10, "foo", "")
	noTime.Number = 1
	getWithValue := get(11, "foo")
	getWithValue.Value = []byte("v")
	denied := put(12, "denied", "")
	txn := func(id uint64, leaves ...*kvv1.Leaf) *kvv1.Operation {
		return &kvv1.Operation{Id: id, Kind: kvv1.OperationKind_OPERATION_KIND_TXN, Txn: &kvv1.Txn{Then: leaves}}
	}
	deniedLeaf := txn(29, &kvv1.Leaf{Kind: 1, Key: []byte("{denied}1")}, &kvv1.Leaf{Kind: 2, Key: []byte("denied")})
	for _, tt := range []struct {
		op      *kvv1.Operation
		message string
	}{
		{&kvv1.Operation{Id: 1, Key: []byte("foo")}, "kind 0"},
		{&kvv1.Operation{Id: 2, Key: []byte("foo"), Kind: 99}, "kind 99"},
		{&kvv1.Operation{Id: 3, Key: []byte("foo"), Kind: -1}, "kind -1"},
		{get(4, ""), "key is empty"},
		{put(5, "", "v"), "key is empty"},
		{get(6, string(make([]byte, 4097))), "4097"},
		{put(7, "foo", string(make([]byte, 1<<20+1))), "1048577"},
		{level, "read level 5"},
		{number, "client_id has 5 bytes"},
		{noTime, "not_after_us"},
		{getWithValue, "carries no value"},
		{denied, "not for you"},
		{deniedLeaf, "not for you"},
		{&kvv1.Operation{Id: 13, Key: []byte("foo"), Kind: 2, Condition: 9}, "condition 9"},
		{&kvv1.Operation{Id: 14, Key: []byte("foo"), Kind: 2, Condition: -1}, "condition -1"},
		{&kvv1.Operation{Id: 15, Key: []byte("foo"), Kind: 2, Condition: 3}, "version 0"},
		{&kvv1.Operation{Id: 16, Key: []byte("foo"), Kind: 2, Expiry: 2}, "time to live of 0"},
		{&kvv1.Operation{Id: 17, Key: []byte("foo"), Kind: 2, Expiry: 2, TtlUs: 1 << 62}, "time to live of 4611686018427387904"},
		{&kvv1.Operation{Id: 18, Key: []byte("foo"), Kind: 4, Value: []byte("1")}, "carries no value"},
		{&kvv1.Operation{Id: 19, Key: []byte("foo"), Kind: 4, Condition: 1}, "with condition 1"},
		{&kvv1.Operation{Id: 20, Key: []byte("foo"), Kind: 5, Expiry: 1}, "with expiry 1"},
		{&kvv1.Operation{Id: 21, Key: []byte("foo"), Kind: 6}, "without content"},
		{txn(22), "key is empty"},
		{txn(23, &kvv1.Leaf{Kind: 6, Key: []byte("foo")}), "operation 6"},
		{txn(24, &kvv1.Leaf{Kind: -1, Key: []byte("foo")}), "operation -1"},
		{txn(25, &kvv1.Leaf{Kind: 2, Key: []byte("foo"), Value: make([]byte, 1<<20+1)}), "1048577"},
		{txn(26, slices.Repeat([]*kvv1.Leaf{{Kind: 1, Key: []byte("foo")}}, 1025)...), "1025"},
		{txn(27, nil), "key is empty"},
		{&kvv1.Operation{Id: 28, Key: []byte("foo"), Kind: 6, Txn: &kvv1.Txn{Compares: []*kvv1.Compare{{Kind: 11, Key: []byte("foo")}}}}, "compare 11"},
	} {
		t.Run(tt.message, func(t *testing.T) {
			authorize := func(_ context.Context, v Verb, key []byte) error {
				if v == VerbPut && string(key) == "denied" {
					return kverr.New(kverr.Invalid, "not for you")
				}
				return nil
			}
			inBubble(t, func(o *Options) { o.Authorize = authorize }, func(e *env) {
				c := e.open()
				a := c.do(put(100, "foo", "x"), tt.op, put(101, "bar", "y"))
				wantKind(t, a[tt.op.Id], kverr.Invalid, tt.message)
				wantKind(t, a[100], kverr.None, "")
				wantKind(t, a[101], kverr.None, "")
			})
		})
	}
}

func TestNumberNeedsClient(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.dial()
		op := put(1, "foo", "")
		op.Number, op.NotAfterUs = 1, 1
		c.send(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: 1}, Operations: []*kvv1.Operation{op}})
		wantKind(t, c.answers(1)[1], kverr.Invalid, "needs a client_id")
	})
}

func TestRequestIdentity(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		var got []state.RequestID
		e.upper.onWrite = func(w *raftstore.Write) {
			for _, op := range w.Ops {
				got = append(got, op.Request)
			}
			e.upper.apply(w)
		}
		c := e.open()
		none, streams, own := put(1, "foo", ""), put(2, "foo", ""), put(3, "foo", "")
		streams.Number, streams.NotAfterUs, streams.LowestOpen = 8, 77, 999 // its own lowest_open does not count
		own.Number, own.NotAfterUs, own.LowestOpen, own.ClientId = 9, 78, 6, []byte("fedcba9876543210")
		c.send(&kvv1.ClientFrame{LowestOpen: 5, Operations: []*kvv1.Operation{none, streams, own}})
		c.answers(3)
		want := []state.RequestID{
			{},
			{Client: state.ClientID([]byte("0123456789abcdef")), Number: 8, LowestOpen: 5, NotAfter: 77},
			{Client: state.ClientID([]byte("fedcba9876543210")), Number: 9, LowestOpen: 6, NotAfter: 78},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestK1_AnswersPerVerdict is the table of what a group may say to a write.
func TestK1_AnswersPerVerdict(t *testing.T) {
	for _, tt := range []struct {
		verdict state.Verdict
		want    kverr.Kind
		retry   bool
		record  bool
	}{
		{state.Applied, kverr.None, false, false},
		{state.WrongShard, kverr.WrongShard, false, true},
		{state.Expired, kverr.Expired, false, false},
		{state.TooFar, kverr.Invalid, false, false},
		{state.StaleDuplicate, kverr.StaleDuplicate, false, false},
		{state.TableFull, kverr.Overloaded, true, false},
		{state.Superseded, kverr.NotLeader, false, true},
		{state.CondFailed, kverr.CondFailed, false, false},
		{state.NotANumber, kverr.NotANumber, false, false},
		{state.Overflow, kverr.Overflow, false, false},
		{state.TxnTooLarge, kverr.Invalid, false, false},
		{0, kverr.OutcomeUnknown, false, false},
		{200, kverr.OutcomeUnknown, false, false},
	} {
		t.Run(tt.verdict.String(), func(t *testing.T) {
			inBubble(t, nil, func(e *env) {
				e.upper.onWrite = func(w *raftstore.Write) {
					w.Done([]state.Result{
						{Verdict: state.Applied, Version: 40, Repeated: true},
						{Verdict: tt.verdict, Version: 41},
					}, 44, nil)
				}
				a := e.open().do(put(1, "foo", ""), put(2, "foo", ""))
				wantKind(t, a[1], kverr.None, "")
				if a[1].Version != 40 || !a[1].Repeated || a[1].ShardVersion != 44 {
					t.Errorf("neighbour: %v", a[1])
				}
				wantKind(t, a[2], tt.want, "")
				if retry := a[2].Error.GetRetryAfterUs() > 0; retry != tt.retry {
					t.Errorf("retry hint: %v", a[2])
				}
				if tt.want != kverr.None && (a[2].Error.Shard != 3 || a[2].Error.NodeId != string(self) || a[2].Version != 0) {
					t.Errorf("answer: %v", a[2])
				}
				if (a[2].Record != nil) != tt.record || (a[2].Leader != nil) != tt.record {
					t.Errorf("directions: %v", a[2])
				}
			})
		})
	}
}

// TestK1_AnswersPerError: whatever error a group gives holds for all operations.
func TestK1_AnswersPerError(t *testing.T) {
	for _, kind := range kverr.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			inBubble(t, nil, func(e *env) {
				e.upper.refuseAll(&kverr.Error{Kind: kind, Message: "because", RetryAfter: 3 * time.Millisecond})
				e.lower.set(func() { e.lower.leader = shardmap.LeaderHint{} })
				a := e.open().do(put(1, "foo", ""), del(2, "foo"), get(3, "foo"), put(4, "bar", ""))
				for id := uint64(1); id <= 3; id++ {
					wantKind(t, a[id], kind, "because")
					if a[id].Error.RetryAfterUs != 3000 || a[id].Error.Shard != 3 {
						t.Errorf("answer: %v", a[id])
					}
					directed := kind == kverr.NotLeader || kind == kverr.WrongShard
					if (a[id].Record.GetShard() == 3) != directed || (a[id].Leader.GetNodeId() == string(self)) != directed {
						t.Errorf("directions: %v", a[id])
					}
				}
				wantKind(t, a[4], kverr.None, "")
			})
		})
	}
}

func TestK1_WrongNumberOfResults(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		e.upper.onWrite = func(w *raftstore.Write) { w.Done(make([]state.Result, 3), 1, nil) }
		e.upper.onRead = func(r *raftstore.Read) { r.Done(nil, 1, nil) }
		a := e.open().do(put(1, "foo", ""), get(2, "foo"))
		wantKind(t, a[1], kverr.OutcomeUnknown, "3 of 1")
		wantKind(t, a[2], kverr.Internal, "0 of 1")
	})
}

// TestK2_OneHandOverPerFrameAndShard counts what the groups are given.
func TestK2_OneHandOverPerFrameAndShard(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.open()
		var ops []*kvv1.Operation
		wantLower, wantUpper := 0, 0
		for i := range 300 {
			key := fmt.Sprintf("key-%d", i)
			op := put(uint64(3*i+1), key, "v")
			if i%2 == 0 { // routed and unrouted operations share a batch
				op.Shard, op.ArcEpoch = 2, 5
				if upper.Arc.Contains(shardmap.SlotOf(op.Key)) {
					op.Shard = 3
				}
			}
			ops = append(ops, op, get(uint64(3*i+2), key), del(uint64(3*i+3), key))
			if lower.Arc.Contains(shardmap.SlotOf(op.Key)) {
				wantLower++
			} else {
				wantUpper++
			}
		}
		for id, a := range c.do(ops...) {
			if a.Error != nil {
				t.Fatalf("operation %d: %v", id, a)
			}
		}
		for _, g := range []struct {
			group *fakeGroup
			keys  int
		}{{e.lower, wantLower}, {e.upper, wantUpper}} {
			writes, reads := g.group.calls()
			if !cmp.Equal(writes, []int{2 * g.keys}) || !cmp.Equal(reads, []int{g.keys}) {
				t.Errorf("shard %d was given writes %v and reads %v for %d keys", g.group.record.Shard, writes, reads, g.keys)
			}
		}
	})
}

func TestLongFrameIsServedInParts(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxOpsPerFrame = 10; o.Limits.MaxInFlightOps = 20 }, func(e *env) {
		c := e.open()
		var ops []*kvv1.Operation
		for i := range 95 {
			ops = append(ops, put(uint64(i), "foo", ""))
		}
		c.do(ops...)
		writes, _ := e.upper.calls()
		if want := []int{10, 10, 10, 10, 10, 10, 10, 10, 10, 5}; !cmp.Equal(writes, want) {
			t.Errorf("writes %v", writes)
		}
	})
}

func TestAnswersOutOfOrder(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		c := e.open()
		c.ops(put(1, "foo", "slow"), put(2, "bar", "fast"))
		if a := c.answers(1); a[2] == nil {
			t.Fatalf("first answer: %v", a)
		}
		c.ops(get(3, "bar"))
		if a := c.answers(1); string(a[3].GetValue()) != "fast" {
			t.Fatalf("second answer: %v", a)
		}
		e.upper.apply(<-held)
		if a := c.answers(1); a[1] == nil {
			t.Fatalf("third answer: %v", a)
		}
	})
}

func TestDeadlines(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		var got []time.Duration
		e.upper.onWrite = func(w *raftstore.Write) { got = append(got, time.Until(w.Deadline)); e.upper.apply(w) }
		e.upper.onRead = func(r *raftstore.Read) {
			got = append(got, time.Until(r.Deadline))
			r.Done(make([]raftstore.Value, len(r.Keys)), 0, nil)
		}
		left := func(op *kvv1.Operation, us uint64) *kvv1.Operation { op.TimeLeftUs = us; return op }
		c := e.open()
		c.do(put(1, "foo", ""))
		c.do(left(put(2, "foo", ""), 1_500_000))
		c.do(left(put(3, "foo", ""), 1<<63), get(4, "foo")) // a batch works until its last caller gives up
		c.do(left(get(5, "foo"), 3))
		want := []time.Duration{10 * time.Second, 1500 * time.Millisecond, time.Minute, time.Minute, 3 * time.Microsecond}
		if !cmp.Equal(got, want) {
			t.Errorf("deadlines %v, want %v", got, want)
		}
	})
}

// TestDeadlineWhileWaitingForRoom: time left runs from arrival, and what ran out
// before the work began is not begun.
func TestDeadlineWhileWaitingForRoom(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxInFlightOps = 1; o.Limits.MaxOpsPerFrame = 1 }, func(e *env) {
		held := make(chan *raftstore.Write, 10)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		c := e.open()
		late := put(2, "foo", "")
		late.TimeLeftUs = 20_000
		c.ops(put(1, "foo", ""))
		c.ops(late)
		time.Sleep(slowPatience * 4 / 5)
		e.upper.apply(<-held)
		a := c.answers(2)
		wantKind(t, a[1], kverr.None, "")
		wantKind(t, a[2], kverr.Deadline, "before the work began")
		if len(held) != 0 {
			t.Error("the late write was handed over")
		}
	})
}

func TestOversizeFrame(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		c := e.open()
		value := string(make([]byte, 1<<20))
		c.ops(put(1, "foo", value), put(2, "foo", value), put(3, "foo", value), put(4, "foo", value))
		if err := c.end(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
		if writes, _ := e.upper.calls(); len(writes) != 0 {
			t.Errorf("it was served: %v", writes)
		}
	})
}

func TestMaxStreams(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxStreams = 2 }, func(e *env) {
		first := e.open()
		e.open()
		err := wire.ErrorFromStatus(e.dial().end(), wire.Unsent)
		if !errors.Is(err, kverr.Overloaded) {
			t.Errorf("third stream: %v", err)
		}
		first.cancel()
		synctest.Wait()
		e.open()
	})
}
