package kvserver

import (
	"hash/fnv"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// FuzzFrame (K1): whatever a frame says, nothing panics, every operation gets
// exactly one answer, and nothing stays in flight.
func FuzzFrame(f *testing.F) {
	for _, frame := range seedFrames() {
		b, err := proto.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := &kvv1.ClientFrame{}
		if proto.Unmarshal(data, frame) != nil {
			t.Skip("gRPC refuses it")
		}
		if len(frame.Operations) > 5000 {
			t.Skip("slow")
		}
		synctest.Test(t, func(t *testing.T) { fuzzFrame(t, frame) })
	})
}

func fuzzFrame(t *testing.T, frame *kvv1.ClientFrame) {
	e := newEnv(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		o.Limits.MaxOpsPerFrame, o.Limits.MaxInFlightOps = 7, 20
	})
	e.moody(e.lower)
	e.moody(e.upper)
	want, got := map[uint64]int{}, map[uint64]int{}
	for _, op := range frame.Operations {
		want[op.Id]++
	}
	rpc := serveFake(e.server, func(f *kvv1.ServerFrame) error {
		for _, a := range f.Answers {
			got[a.Id]++
		}
		return nil
	})
	again := proto.Clone(frame).(*kvv1.ClientFrame)
	rpc.in <- frame
	rpc.in <- again
	close(rpc.in)
	if err := <-rpc.ended; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	for id, n := range want {
		if got[id] != 2*n {
			t.Errorf("operation %d: sent %d times, answered %d times", id, 2*n, got[id])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d ids sent, %d answered", len(want), len(got))
	}
	for _, a := range frame.Operations {
		e.server.ServeOperation(t.Context(), a)
	}
}

// moody makes a group answer by the keys' hashes: at once or later, with every
// verdict and error there is.
func (e *env) moody(g *fakeGroup) {
	mood := func(key []byte) uint32 { h := fnv.New32a(); h.Write(key); return h.Sum32() >> 7 }
	answer := func(key []byte, done func(error)) {
		m := mood(key)
		reply := func() { done(nil) }
		if m%5 == 0 {
			kinds := kverr.Kinds()
			reply = func() { done(kverr.New(kinds[int(m)%len(kinds)], "moody")) }
		}
		if m%3 == 0 {
			time.AfterFunc(time.Duration(m%1000)*time.Millisecond, reply)
			return
		}
		reply()
	}
	g.onWrite = func(w *raftstore.Write) {
		if len(w.Ops) == 0 {
			e.t.Error("a write without operations")
		}
		results := make([]state.Result, len(w.Ops))
		for i, op := range w.Ops {
			results[i] = state.Result{Verdict: state.Verdict(mood(op.Key) % 9), Version: 1}
			if len(op.Key) == 0 || len(op.Key) > 4096 {
				e.t.Errorf("a key of %d bytes", len(op.Key))
			}
		}
		answer(w.Ops[0].Key, func(err error) { w.Done(results, 1, err) })
	}
	g.onRead = func(r *raftstore.Read) {
		values := make([]raftstore.Value, len(r.Keys))
		for i, key := range r.Keys {
			m := mood(key)
			values[i] = raftstore.Value{Found: m%2 == 0, Data: make([]byte, m%3000), WrongShard: m%7 == 0}
		}
		answer(r.Keys[0], func(err error) { r.Done(values, 1, err) })
	}
}

func seedFrames() []*kvv1.ClientFrame {
	var many []*kvv1.Operation
	for i := range uint64(40) {
		op := put(i, string(rune('a'+i)), "v")
		op.Kind = kvv1.OperationKind(i % 5)
		op.Shard, op.ArcEpoch, op.Number = i%4, i%7, i%2
		op.TimeLeftUs = i % 3 * 1e6
		many = append(many, op)
	}
	return []*kvv1.ClientFrame{
		{},
		{Hello: &kvv1.ClientHello{Format: 9}, Operations: []*kvv1.Operation{{}}},
		{Operations: []*kvv1.Operation{get(1, "foo"), get(1, "foo"), put(1, "bar", "x"), del(2, "{foo}bar")}},
		{Operations: many, LowestOpen: 1 << 63},
		{Operations: []*kvv1.Operation{
			{Id: 1, Kind: 2, Key: []byte("k"), ClientId: []byte("too short"), Number: 1},
			{Id: 2, Kind: 2, Key: []byte("k"), ClientId: make([]byte, 16), Number: 1, NotAfterUs: 1<<64 - 1, TimeLeftUs: 1<<64 - 1},
			{Id: 3, Kind: 1, Key: make([]byte, 5000), Level: -3, Shard: 1<<64 - 1, ArcEpoch: 1<<64 - 1},
			{Id: 1<<64 - 1, Kind: 3, Key: []byte{0xff, '{', '}'}, Shard: uint64(shardmap.SystemShard)},
		}},
	}
}
