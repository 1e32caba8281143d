package client

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/shardmap"
)

// noop is a server that answers every operation with success, as cheaply as
// the wire allows, over a real socket.
type noop struct {
	kvv1.UnimplementedKVServer
	shards *kvv1.ShardMap
	value  []byte
}

func (s *noop) Stream(st grpc.BidiStreamingServer[kvv1.ClientFrame, kvv1.ServerFrame]) error {
	if _, err := st.Recv(); err != nil {
		return err
	}
	err := st.Send(&kvv1.ServerFrame{Map: s.shards, Hello: &kvv1.ServerHello{
		Format: wireFormat, ClusterId: s.shards.GetClusterId(), NodeId: s.shards.GetNodes()[0].GetId(),
		NowUs: uint64(time.Now().UnixMicro()),
	}})
	for err == nil {
		var f *kvv1.ClientFrame
		if f, err = st.Recv(); err != nil {
			return err
		}
		answers := make([]kvv1.Answer, len(f.GetOperations()))
		out := &kvv1.ServerFrame{Answers: make([]*kvv1.Answer, len(answers))}
		for i, op := range f.GetOperations() {
			a := &answers[i]
			a.Id, a.Version, a.ShardVersion, a.Found = op.GetId(), 1, 1, true
			if op.GetKind() == kvv1.OperationKind_OPERATION_KIND_GET {
				a.Value = s.value
			}
			out.Answers[i] = a
		}
		err = st.Send(out)
	}
	return err
}

func benchClient(b *testing.B) *Client {
	b.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	m, err := shardmap.NewMap(shardmap.MapSpec{
		Epoch: 1, ClusterID: "bench", ReplicationFactor: 1,
		Nodes: []shardmap.Node{{ID: nodeID(1), Address: lis.Addr().String()}},
		Records: []shardmap.Record{{
			Shard: 2, Arc: shardmap.Arc{From: 0, To: shardmap.Slots}, ArcEpoch: 1, MemberEpoch: 1,
			Replicas: []shardmap.Replica{{ID: 1, Node: nodeID(1), Role: shardmap.Voter}},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ReadBufferSize(bufferBytes), grpc.WriteBufferSize(bufferBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	kvv1.RegisterKVServer(srv, &noop{shards: wire.MapToProto(m), value: make([]byte, 256)})
	go srv.Serve(lis)
	c, err := Open(context.Background(), lis.Addr().String(), WithBlock())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		srv.Stop()
	})
	return c
}

// benchCallers runs b.N operations from a number of goroutines and reports
// operations per second and per frame.
func benchCallers(b *testing.B, callers, perOp int, op func(c *Client, i int) error) {
	c := benchClient(b)
	b.ReportAllocs()
	b.ResetTimer()
	before, cpu := c.Stats(), cpuTime()
	var next atomic.Int64
	errs := make(chan error, callers)
	for range callers {
		go func() {
			for {
				i := int(next.Add(1))
				if i > b.N {
					errs <- nil
					return
				}
				if err := op(c, i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	s := c.Stats()
	b.ReportMetric(float64(b.N*perOp)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1e3/float64(b.N*perOp), "cpu-µs/op")
	b.ReportMetric(float64(s.Operations-before.Operations)/float64(s.Frames-before.Frames), "ops/frame")
}

func BenchmarkPut(b *testing.B) {
	keys, value := benchKeys(1024), make([]byte, 256)
	for _, callers := range []int{1, 64, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			benchCallers(b, callers, 1, func(c *Client, i int) error {
				_, err := c.Put(context.Background(), keys[i%len(keys)], value)
				return err
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	keys := benchKeys(1024)
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			benchCallers(b, callers, 1, func(c *Client, i int) error {
				_, err := c.Get(context.Background(), keys[i%len(keys)])
				return err
			})
		})
	}
}

func BenchmarkPutMany(b *testing.B) {
	const size = 256
	pairs := make([]KV, size)
	for i, key := range benchKeys(size) {
		pairs[i] = KV{Key: key, Value: make([]byte, 256)}
	}
	for _, callers := range []int{1, 4} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			benchCallers(b, callers, size, func(c *Client, _ int) error {
				_, err := c.PutMany(context.Background(), pairs)
				return err
			})
		})
	}
}

// cpuTime is what both ends have used; unlike the rate it says something even
// when the machine is busy with other things.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("bench/key/%06d", i)
	}
	return keys
}

func nodeID(i int) shardmap.NodeID { return shardmap.NodeID(fmt.Sprintf("%040x", i)) }
