package kvserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/internal/clock"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// library opens a client of the Go library that has the server for its only node.
func (e *env) library() *client.Client {
	e.t.Helper()
	listener := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(e.server.Limits().MaxFrameBytes),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second}))
	kvv1.RegisterKVServer(srv, e.server)
	go srv.Serve(listener)
	for _, rec := range []shardmap.Record{lower, upper} {
		e.server.PushLeader(shardmap.LeaderHint{Shard: rec.Shard, Term: 7, Node: self})
	}
	c, err := client.Open(context.Background(), "n1:7400", client.WithBlock(), client.WithClock(clock.NewVirtual()),
		client.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = c.Close()
		srv.Stop()
	})
	return c
}

// keysOf makes n keys of the lower or the upper shard.
func keysOf(rec shardmap.Record, n int) []string {
	keys := make([]string, 0, n)
	for i := 0; len(keys) < n; i++ {
		if key := fmt.Sprint("k", i); rec.Arc.Contains(shardmap.SlotOf([]byte(key))) {
			keys = append(keys, key)
		}
	}
	return keys
}

// P8, client library and server together: a shard that never answers has far more
// callers than may be in flight, who give up and come again, so that the node has
// operations under way of which the client knows nothing any more. Callers of another
// shard of the same node, through the same client, hardly notice.
func TestP8_ADeafShardAndTheLibrary(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		deaf := make(chan func(), 100_000)
		e.upper.onWrite = func(w *raftstore.Write) { deaf <- func() { e.upper.apply(w) } }
		e.upper.onRead = func(r *raftstore.Read) { deaf <- func() { r.Done(make([]raftstore.Value, len(r.Keys)), 1, nil) } }
		c := e.library()
		var pairs []client.KV
		for _, key := range keysOf(upper, 6000) {
			pairs = append(pairs, client.KV{Key: key, Value: []byte("v")})
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		for range 2 {
			go func() {
				defer func() { stopped <- struct{}{} }()
				for {
					ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
					_, err := c.PutMany(ctx, pairs)
					cancel()
					if !errors.Is(err, client.ErrTimeout) && !errors.Is(err, client.ErrInDoubt) && !errors.Is(err, client.ErrOverloaded) {
						t.Error(err)
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		quick := keysOf(lower, 100)
		var longest, all time.Duration
		for round := range 50 {
			for _, key := range quick[:20] {
				start := time.Now()
				if _, err := c.Put(context.Background(), key, []byte("v")); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Get(context.Background(), key); err != nil {
					t.Fatal(err)
				}
				took := time.Since(start)
				longest, all = max(longest, took), all+took
			}
			time.Sleep(time.Duration(round) * time.Millisecond)
		}
		if longest > 2*slowPatience || all > 10*slowPatience {
			t.Errorf("callers of another shard waited %v at most, %v together", longest, all)
		}
		if got := e.server.Counters().Overloaded; got == 0 {
			t.Error("the node never met its own bound")
		}
		close(stop)
		<-stopped
		<-stopped
		for len(deaf) > 0 {
			(<-deaf)()
			synctest.Wait()
		}
	})
}
