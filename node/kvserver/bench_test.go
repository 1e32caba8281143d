package kvserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// BenchmarkFrame is the server's own work per frame, decoding and encoding
// included, gRPC and groups excluded: the groups answer at once. cpu-ns/op is
// CPU time per operation, both goroutines and garbage collection together.
func BenchmarkFrame(b *testing.B) {
	for _, kind := range []string{"put", "get"} {
		for _, ops := range []int{1, 16, 128} {
			for _, shards := range []int{1, 8} {
				b.Run(fmt.Sprintf("%s/ops=%d/shards=%d", kind, ops, shards), func(b *testing.B) {
					benchFrames(b, kind, ops, shards)
				})
			}
		}
	}
}

func benchFrames(b *testing.B, kind string, ops, shards int) {
	rpc := &benchRPC{wire: benchFrame(b, kind, ops, shards), left: b.N}
	s := benchServer(b, shards)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	if err := s.Stream(rpc); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N*ops), "cpu-ns/op")
	b.StopTimer()
	if rpc.answered != b.N*ops {
		b.Fatalf("%d answers to %d operations", rpc.answered, b.N*ops)
	}
	b.ReportMetric(float64(rpc.answered)/float64(rpc.frames), "answers/frame")
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStream is a whole stream over gRPC and loopback TCP. The client sends
// ready bytes and decodes nothing, so cpu-ns/op is the server's CPU time and that
// of both ends' transports.
func BenchmarkStream(b *testing.B) {
	for _, kind := range []string{"put", "get"} {
		for _, ops := range []int{1, 16, 128} {
			b.Run(fmt.Sprintf("%s/ops=%d", kind, ops), func(b *testing.B) { benchStream(b, kind, ops) })
		}
	}
}

func benchStream(b *testing.B, kind string, ops int) {
	s := benchServer(b, 8)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Skip(err)
	}
	srv := grpc.NewServer()
	kvv1.RegisterKVServer(srv, s)
	go srv.Serve(listener)
	defer srv.Stop()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	stream, err := conn.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		kvv1.KV_Stream_FullMethodName, grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(8<<20))
	if err != nil {
		b.Fatal(err)
	}
	hello, err := proto.Marshal(&kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: Format, ClientId: make([]byte, 16)}})
	if err != nil {
		b.Fatal(err)
	}
	frame := benchFrame(b, kind, ops, 8)
	if err := errors.Join(stream.SendMsg(hello), stream.RecvMsg(nil)); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	before := cpu()
	go func() {
		for range b.N {
			if stream.SendMsg(frame) != nil {
				return // RecvMsg says why
			}
		}
		stream.CloseSend()
	}()
	for err == nil {
		err = stream.RecvMsg(nil)
	}
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N*ops), "cpu-ns/op")
	if err != io.EOF {
		b.Fatal(err)
	}
}

// rawCodec sends bytes as they are and looks at nothing it receives.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

func benchFrame(b *testing.B, kind string, ops, shards int) []byte {
	frame := &kvv1.ClientFrame{LowestOpen: 1}
	for i := range ops {
		op := get(uint64(i+1), fmt.Sprintf("user:%08d:profile", i*7919))
		if kind == "put" {
			op = put(op.Id, string(op.Key), string(make([]byte, 256)))
			op.Number, op.NotAfterUs = op.Id, 1<<50
		}
		op.TimeLeftUs = 5_000_000
		frame.Operations = append(frame.Operations, routed(op, uint64(shardmap.SlotOf(op.Key))*uint64(shards)/shardmap.Slots+2, 1))
	}
	wire, err := proto.Marshal(frame)
	if err != nil {
		b.Fatal(err)
	}
	return wire
}

// benchRPC decodes the same frame again and again and encodes what is answered.
type benchRPC struct {
	fakeRPC
	wire             []byte
	left             int // the reader's
	greeted          bool
	buffer           []byte // the writer's
	answered, frames int
}

func (r *benchRPC) Context() context.Context { return context.Background() }

func (r *benchRPC) Recv() (*kvv1.ClientFrame, error) {
	switch {
	case !r.greeted:
		r.greeted = true
		return &kvv1.ClientFrame{Hello: &kvv1.ClientHello{Format: Format, ClientId: make([]byte, 16)}}, nil
	case r.left == 0:
		return nil, io.EOF
	}
	r.left--
	frame := &kvv1.ClientFrame{}
	return frame, proto.Unmarshal(r.wire, frame)
}

func (r *benchRPC) Send(f *kvv1.ServerFrame) (err error) {
	r.buffer, err = proto.MarshalOptions{}.MarshalAppend(r.buffer[:0], f)
	r.answered += len(f.Answers)
	r.frames++
	return err
}

// instant is a group that answers at once and allocates nothing.
type instant struct {
	Group   // nothing else is asked
	record  shardmap.Record
	results []state.Result
	values  []raftstore.Value
}

func (g *instant) Propose(w *raftstore.Write)          { w.Done(g.results[:len(w.Ops)], 7, nil) }
func (g *instant) Get(r *raftstore.Read)               { r.Done(g.values[:len(r.Keys)], 7, nil) }
func (g *instant) Admits(state.OpKind) error           { return nil }
func (g *instant) Record() shardmap.Record             { return g.record }
func (g *instant) Leader() (shardmap.LeaderHint, bool) { return shardmap.LeaderHint{}, false }

type instantShards map[shardmap.ShardID]*instant

func (s instantShards) Map() *shardmap.Map { return nil }

func (s instantShards) Group(id shardmap.ShardID) (Group, bool) { g, ok := s[id]; return g, ok }

func (s instantShards) LocalFor(slot shardmap.Slot) (Group, bool) {
	return s.Group(shardmap.ShardID(int(slot)*len(s)/shardmap.Slots + 2))
}

func benchServer(b *testing.B, shards int) *Server {
	groups := instantShards{}
	data := make([]byte, 256)
	for i := range shards {
		g := &instant{record: shardmap.Record{Shard: shardmap.ShardID(i + 2), ArcEpoch: 1, Arc: shardmap.Arc{
			From: shardmap.Slot((i*shardmap.Slots + shards - 1) / shards),
			To:   shardmap.Slot(((i+1)*shardmap.Slots + shards - 1) / shards),
		}}}
		for range 1024 {
			g.results = append(g.results, state.Result{Verdict: state.Applied, Version: 1 << 50})
			g.values = append(g.values, raftstore.Value{Found: true, Version: 1 << 50, Data: data})
		}
		groups[g.record.Shard] = g
	}
	s, err := New(Options{ClusterID: func() string { return cluster }, Self: self, Shards: groups, Clock: clock.NewSystem()})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// cpu is the process's CPU time so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
