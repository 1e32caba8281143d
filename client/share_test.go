package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// twoShards gives the lower half of the ring to shard 2 and the upper to shard 3.
func (w *world) twoShards() {
	w.setMap(1, w.record(2, 0, shardmap.Slots/2, 1), w.record(3, shardmap.Slots/2, shardmap.Slots, 1))
}

// keysOf makes n keys of one of two shards.
func keysOfShard(shard shardmap.ShardID, n int) []string {
	keys := make([]string, 0, n)
	for i := 0; len(keys) < n; i++ {
		key := fmt.Sprint("k", i)
		if upper := shardmap.SlotOf([]byte(key)) >= shardmap.Slots/2; upper == (shard == 3) {
			keys = append(keys, key)
		}
	}
	return keys
}

// deaf makes a script for a node whose shard 2 never answers, while others do.
func deaf(answer func(*kvv1.Operation) *kvv1.Answer) func(*fakeSession, *kvv1.Operation) *kvv1.Answer {
	return func(_ *fakeSession, op *kvv1.Operation) *kvv1.Answer {
		if op.GetShard() == 2 {
			return nil
		}
		return answer(op)
	}
}

// P8: a shard that never answers, with more callers than a connection has room for,
// holds nobody else up: calls for another shard of the same node go through at once,
// one after the other and many together.
func TestP8_ADeafShardLeavesRoom(t *testing.T) {
	for name, size := range map[string]int{"operations": 10, "bytes": 100_000} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.twoShards()
				w.nodes[0].script(deaf(success))
				c := w.open("n1:7400", WithBlock())
				value := make([]byte, size)
				stuck, quick := make([]KV, 10_000), make([]KV, 3000)
				for i, key := range keysOfShard(2, len(stuck)) {
					stuck[i] = KV{key, value}
				}
				for i, key := range keysOfShard(3, len(quick)) {
					quick[i] = KV{key, value}
				}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error)
				go func() {
					_, err := c.PutMany(ctx, stuck)
					done <- err
				}()
				time.Sleep(100 * time.Millisecond) // as much as may be is under way
				began := time.Now()
				for _, kv := range quick[:100] {
					if _, err := c.Put(within(t, time.Second), kv.Key, kv.Value); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := c.PutMany(within(t, time.Second), quick); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("took %v of virtual time", took)
				}
				n := c.topology.seeds[0]
				n.mu.Lock()
				l := n.lines.byShard[2]
				if l.sent > maxInFlight/2 || l.bytes > maxInFlightBytes/2 {
					t.Errorf("the deaf shard has %d operations, %d bytes in flight", l.sent, l.bytes)
				}
				if l.sent < maxInFlight/2-1 && l.bytes < maxInFlightBytes/2-2*size {
					t.Errorf("the deaf shard has only %d operations, %d bytes in flight", l.sent, l.bytes)
				}
				n.mu.Unlock()
				cancel()
				if err := <-done; !errors.Is(err, ErrInDoubt) {
					t.Error(err)
				}
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.lines.queued != 0 || n.lines.sent != 0 || n.lines.bytes != 0 || n.lines.waiting != 0 {
					t.Errorf("left behind: %+v", n.lines)
				}
			})
		})
	}
}

// Values that reads will bring count: a deaf shard that is asked for large ones has
// fewer reads in flight, so that the node need not stop reading.
func TestP8_ReadsAreChargedWithWhatTheyBring(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.twoShards()
		value := make([]byte, 256<<10)
		w.nodes[0].script(deaf(func(op *kvv1.Operation) *kvv1.Answer {
			a := success(op)
			a.Value = value
			return a
		}))
		c := w.open("n1:7400", WithBlock())
		if _, err := c.Get(context.Background(), keysOfShard(3, 1)[0]); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() {
			_, err := c.GetMany(ctx, keysOfShard(2, 1000))
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		if got := len(w.nodes[0].operations()); got < 30 || got > 33 {
			t.Errorf("%d reads were sent to a shard that may have 8 MiB, at 256 KiB each", got)
		}
		if _, err := c.Get(within(t, time.Second), keysOfShard(3, 1)[0]); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
	})
}

// Lines take turns: a few calls for one shard do not wait until the many for another
// were sent.
func TestLinesTakeTurns(t *testing.T) {
	var ls lines
	ls.init()
	calls := make([]call, 12)
	for i := range calls {
		calls[i].verb, calls[i].key = verbPut, []byte{byte(i)}
		calls[i].try.shard = 2
		if i >= 9 {
			calls[i].try.shard = 3
		}
		ls.push(ls.of(calls[i].try.shard), &calls[i])
	}
	n := &conn{lines: ls, maxFrame: defaultMaxFrame}
	chosen, _ := n.chooseLocked()
	var order []byte
	for c := chosen.pop(); c != nil; c = chosen.pop() {
		order = append(order, c.key[0])
	}
	if got, want := fmt.Sprint(order), "[0 9 1 10 2 11 3 4 5 6 7 8]"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
}

// Lines of shards that are gone do not add up.
func TestP9_LinesAreForgotten(t *testing.T) {
	var ls lines
	ls.init()
	var waits call
	ls.push(ls.of(7), &waits)
	for shard := range shardmap.ShardID(5 * manyLines) {
		ls.of(shard + 100)
	}
	if len(ls.byShard) > manyLines || ls.byShard[7] == nil {
		t.Errorf("%d lines", len(ls.byShard))
	}
}
