package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// P9: whoever asks at the same time, the bound holds, and all comes back.
func TestP9_TheBoundOfANodeHolds(t *testing.T) {
	b := nodeBound{maxOps: 100, maxBytes: 10_000}
	var held struct {
		sync.Mutex
		ops, bytes, most, mostBytes, refused int
	}
	var shards sync.WaitGroup
	for i := range 16 {
		shards.Go(func() {
			var mine [][2]int // what is held by this one, the oldest first
			for n := range 2000 {
				size := 1 + (i+n)%17
				bytes := size * (50 + 10*(n%15))
				ok := b.take(size, bytes, 0, 0)
				held.Lock()
				if ok {
					mine = append(mine, [2]int{size, bytes})
					held.ops, held.bytes = held.ops+size, held.bytes+bytes
					held.most, held.mostBytes = max(held.most, held.ops), max(held.mostBytes, held.bytes)
				} else {
					held.refused++
				}
				give := len(mine) > 0 && (!ok || len(mine) > 8)
				if give {
					held.ops, held.bytes = held.ops-mine[0][0], held.bytes-mine[0][1]
				}
				held.Unlock()
				if give {
					b.give(mine[0][0], mine[0][1])
					mine = mine[1:]
				}
			}
			for _, m := range mine {
				held.Lock()
				held.ops, held.bytes = held.ops-m[0], held.bytes-m[1]
				held.Unlock()
				b.give(m[0], m[1])
			}
		})
	}
	shards.Wait()
	if held.most > 100 || held.mostBytes > 10_000 || held.most < 80 {
		t.Errorf("%d operations and %d bytes were held at once", held.most, held.mostBytes)
	}
	if b.ops.Load() != 0 || b.bytes.Load() != 0 || b.refused.Load() != uint64(held.refused) {
		t.Errorf("left: %d operations, %d bytes; %d refused, counted %d", b.ops.Load(), b.bytes.Load(), held.refused, b.refused.Load())
	}
}

// However many shards hold all they can get, the next one finds room, of both.
func TestP8_StuckShardsLeaveRoomForOthers(t *testing.T) {
	for _, unit := range []struct{ ops, bytes int }{{1, 0}, {0, 1}} {
		for stuck := 1; stuck <= 9; stuck++ {
			b := nodeBound{maxOps: 1000, maxBytes: 1000}
			held := make([]int, stuck)
			for grown := true; grown; {
				grown = false
				for i := range held {
					if b.take(unit.ops, unit.bytes, max(held[i]*unit.ops, 1), held[i]*unit.bytes) {
						held[i]++
						grown = true
					}
				}
			}
			left := 1000 - int(b.ops.Load()+b.bytes.Load())
			if fair := 1000 / (stuck + 1); left < fair-stuck || held[0] < fair-stuck || held[0] > fair+stuck {
				t.Errorf("%d stuck shards hold %v and leave %d", stuck, held, left)
			}
			if !b.take(unit.ops*left, unit.bytes*left, 0, 0) {
				t.Errorf("what %d stuck shards leave is not there for another one", stuck)
			}
		}
	}
}

// oneStuck is two shards on one node, the first of which applies nothing for a
// while, and bounds that one shard alone could use up.
func oneStuck(t *testing.T, change func(*Options)) (stuck, other *Group, hanging *hang) {
	c := newTestCluster(t, 1)
	n := c.nodes[nodeID(1)]
	n.stop()
	n.listen()
	hanging = new(hang)
	n.opts = func(o *Options) {
		o.BeforeApply = func(shard shardmap.ShardID) {
			if shard == 2 {
				hanging.wait()
			}
		}
		o.MaxNodeQueuedOps, o.MaxNodeQueuedReads = 100, 100
		if change != nil {
			change(o)
		}
	}
	n.start()
	c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1), record(3, shardmap.Arc{From: 8000, To: shardmap.Slots}, 1))
	return c.leader(2), c.leader(3), hanging
}

// P8, P9: a shard that stands still gets its share of what a node queues and no
// more; the others write and read on, and afterwards nothing is left of it.
func TestP8_AStuckShardDoesNotTakeTheNodesQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, other, hang := oneStuck(t, nil)
		key := keyOf(stuck)
		mustPut(t, stuck, key, "v")
		hang.begin()
		var writes []<-chan error
		for range 200 {
			writes = append(writes, propose(stuck, key, "w"))
		}
		time.Sleep(50 * time.Millisecond) // they are committed, and reads wait for them
		reads := make(chan error, 200)
		for range 200 {
			stuck.Get(&Read{Keys: [][]byte{[]byte(key)}, Deadline: time.Now().Add(time.Minute),
				Done: func(_ []Value, _ uint64, err error) { reads <- err }})
		}
		time.Sleep(100 * time.Millisecond)
		if h := stuck.store.Held(); h.Writes != 50 || h.ReadKeys != 50 || h.Refused != 300 || h.WriteBytes < 50 {
			t.Errorf("held by a shard that stands still: %+v", h)
		}
		for range 20 {
			mustPut(t, other, keyOf(other), "v")
			mustGet(t, other, keyOf(other), "v")
		}
		hang.end()
		refused := 0
		for _, w := range writes {
			var e *kverr.Error
			switch err := <-w; {
			case err == nil:
			case errors.As(err, &e) && e.Kind == kverr.Overloaded && e.RetryAfter > 0:
				refused++
			default:
				t.Error(err)
			}
		}
		for range 200 {
			if err := <-reads; err != nil {
				if kverr.KindOf(err) != kverr.Overloaded {
					t.Error(err)
				}
				refused++
			}
		}
		synctest.Wait()
		if h := stuck.store.Held(); refused != 300 || h.Writes != 0 || h.WriteBytes != 0 || h.ReadKeys != 0 {
			t.Errorf("%d refused; left: %+v", refused, h)
		}
		mustPut(t, stuck, key, "x")
	})
}

// Bytes are bounded as the count is, and a shard with nothing queued may write what
// is allowed at all.
func TestP9_BytesOfANodesQueuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, other, hang := oneStuck(t, func(o *Options) { o.MaxNodeQueuedBytes = MaxWriteBytes })
		hang.begin()
		var writes []<-chan error
		for range 20 {
			writes = append(writes, propose(stuck, keyOf(stuck), strings.Repeat("x", 1<<20)))
		}
		synctest.Wait()
		if h := stuck.store.Held(); h.WriteBytes > MaxWriteBytes/2 || h.WriteBytes < MaxWriteBytes/2-2<<20 {
			t.Errorf("%d bytes are held", h.WriteBytes)
		}
		mustPut(t, other, keyOf(other), strings.Repeat("y", 4<<20))
		hang.end()
		for _, w := range writes {
			<-w
		}
	})
}

// What nobody waits for any more is not held by a shard that stands still.
func TestExpiredWritesLeaveTheAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck, _, hang := oneStuck(t, nil)
		hang.begin()
		answers := make(chan error, 30)
		for i := range 30 {
			stuck.Propose(&Write{
				Ops:      []state.Op{{Kind: state.OpPut, Key: []byte(keyOf(stuck)), Value: []byte(fmt.Sprint(i))}},
				Deadline: time.Now().Add(300 * time.Millisecond),
				Done:     func(_ []state.Result, _ uint64, err error) { answers <- err },
			})
			time.Sleep(time.Millisecond) // the first is in flight, the others wait
		}
		time.Sleep(100 * time.Millisecond)
		if h := stuck.store.Held(); h.Writes != 30 {
			t.Fatalf("held: %+v", h)
		}
		time.Sleep(400 * time.Millisecond)
		count := make(map[kverr.Kind]int)
		for range 30 {
			count[kverr.KindOf(<-answers)]++
		}
		// One entry is in flight; its writes may still be applied.
		held := int(stuck.store.Held().Writes)
		if held != 1 || count[kverr.OutcomeUnknown] != held || count[kverr.Deadline] != 30-held {
			t.Errorf("%d are held after %v", held, count)
		}
		hang.end()
		synctest.Wait()
		if h := stuck.store.Held(); h.Writes != 0 || h.WriteBytes != 0 {
			t.Errorf("left: %+v", h)
		}
	})
}

// A group that stops or is restarted gives back what it held.
func TestAStoppedGroupGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		c.isolate(g.store.opts.Self, true)
		var writes []<-chan error
		for i := range 50 {
			writes = append(writes, propose(g, fmt.Sprint("k", i), "v"))
		}
		synctest.Wait()
		if h := g.store.Held(); h.Writes != 50 {
			t.Fatalf("held: %+v", h)
		}
		if err := g.store.restart(g, "test"); err != nil {
			t.Fatal(err)
		}
		for _, w := range writes {
			<-w
		}
		if h := g.store.Held(); h.Writes != 0 || h.WriteBytes != 0 || h.ReadKeys != 0 {
			t.Errorf("left: %+v", h)
		}
	})
}
