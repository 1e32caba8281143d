package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

func TestManyIsOneFramePerNodeAndKeepsOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.setMap(1, w.record(2, 0, 8000, 1), w.record(3, 8000, shardmap.Slots, 1))
		for _, n := range w.nodes {
			n.first = func() *kvv1.ServerFrame {
				f := n.helloFrame()
				f.Leaders = []*kvv1.LeaderHint{
					{Shard: 2, Term: 1, NodeId: string(w.nodes[0].id)}, {Shard: 3, Term: 1, NodeId: string(w.nodes[1].id)},
				}
				return f
			}
		}
		c := w.open("n1:7400,n2:7400", WithBlock())
		time.Sleep(time.Second)
		before := c.Stats()
		keys, pairs := make([]string, 500), make([]KV, 500)
		for i := range keys {
			keys[i] = fmt.Sprintf("key%d", (i*7)%500)
			pairs[i] = KV{keys[i], []byte(keys[i])}
		}
		puts, err := c.PutMany(context.Background(), pairs)
		if err != nil || len(puts) != len(pairs) || puts[499].Version != 7 {
			t.Fatal(err)
		}
		gets, err := c.GetMany(context.Background(), keys)
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range gets {
			if g.Err != nil || g.Item.Key != keys[i] || string(g.Item.Value) != "v:"+keys[i] {
				t.Fatalf("result %d is %+v, %v", i, g.Item, g.Err)
			}
		}
		if s := c.Stats(); s.Frames-before.Frames != 4 || s.Operations-before.Operations != 1000 {
			t.Fatalf("two calls on two nodes took %d frames", s.Frames-before.Frames)
		}
		numbers := map[uint64]bool{}
		for _, n := range w.nodes {
			for _, op := range n.operations() {
				if op.GetKind() == opPut {
					numbers[op.GetNumber()] = true
				}
			}
		}
		if len(numbers) != 500 {
			t.Fatalf("500 writes had %d numbers", len(numbers))
		}
		if got, err := c.GetMany(context.Background(), nil); err != nil || len(got) != 0 {
			t.Fatal(got, err)
		}
	})
}

func TestManyReportsTheWorst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].script(func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
			switch string(op.GetKey()) {
			case "missing":
				return &kvv1.Answer{Id: op.GetId()}
			case "refused":
				return refusal(op, kvv1.ErrorKind_ERROR_KIND_INVALID)
			case "silent":
				return nil
			}
			return success(op)
		})
		c := w.open("n1:7400")
		gets, err := c.GetMany(context.Background(), []string{"a", "missing"})
		if err != nil || !errors.Is(gets[1].Err, ErrNotFound) {
			t.Fatal(err, gets[1].Err)
		}
		puts, err := c.PutMany(within(t, time.Second), []KV{{"a", nil}, {"refused", nil}, {"silent", nil}})
		checkError(t, err, ErrTimeout, true)
		checkError(t, puts[1].Err, ErrInvalid, false)
		checkError(t, puts[2].Err, ErrTimeout, true)
		if puts[0].Err != nil || puts[0].Version != 7 {
			t.Fatalf("%+v", puts[0])
		}
	})
}

// A value that fills a frame travels alone, small ones are cut by count.
func TestFramesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.nodes[0].first = func() *kvv1.ServerFrame {
			f := w.nodes[0].helloFrame()
			f.Hello.MaxFrameBytes, f.Hello.MaxValueBytes = 10_000, 9_000
			return f
		}
		c := w.open("n1:7400", WithBlock())
		pairs := []KV{{"big1", make([]byte, 9000)}, {"big2", make([]byte, 9000)}}
		for i := range 1000 {
			pairs = append(pairs, KV{fmt.Sprint(i), make([]byte, 100)})
		}
		if _, err := c.PutMany(context.Background(), pairs); err != nil {
			t.Fatal(err)
		}
		keys := make([]string, 3000)
		for i := range keys {
			keys[i] = strings.Repeat("k", i%3+1)
		}
		if _, err := c.GetMany(context.Background(), keys); err != nil {
			t.Fatal(err)
		}
		for _, f := range w.nodes[0].received() {
			bytes := 0
			for _, op := range f.GetOperations() {
				bytes += len(op.GetKey()) + len(op.GetValue()) + operationOverhead
			}
			if bytes > 10_000 || len(f.GetOperations()) > maxFrameOperations {
				t.Fatalf("a frame of %d operations and %d bytes", len(f.GetOperations()), bytes)
			}
		}
	})
}
