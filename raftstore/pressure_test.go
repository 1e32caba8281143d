package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func TestNearAStallHasHysteresis(t *testing.T) {
	const mem = 1 << 20
	near := false
	for _, c := range []struct {
		memory uint64
		layers int32
		want   bool
	}{
		{0, 0, false}, {3*mem - 1, 31, false}, {3 * mem, 0, true}, {2 * mem, 0, true}, {2*mem - 1, 0, false},
		{0, 32, true}, {0, 24, true}, {0, 23, false}, {2*mem + 1, 23, false}, {4 * mem, 40, true},
	} {
		var m pebble.Metrics
		m.MemTable.Size, m.Levels[0].Sublevels = c.memory, c.layers
		if near = nearStall(&m, mem, near); near != c.want {
			t.Errorf("%d bytes, %d layers: near %t", c.memory, c.layers, near)
		}
	}
}

func del(g *Group, key string) <-chan error {
	ch := make(chan error, 1)
	g.Propose(&Write{
		Ops: []state.Op{{Kind: state.OpDelete, Key: []byte(key)}}, Deadline: time.Now().Add(time.Minute),
		Done: func(_ []state.Result, _ uint64, err error) { ch <- err },
	})
	return ch
}

// Puts are refused before Pebble stalls, which would stop every shard; deletes and
// reads go on, and so do puts when a flush has made room.
func TestPutsAreRefusedBeforeAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, g := moody(t)
		mustPut(t, g, "a", "1")
		fs.tables.begin()
		var refusal error
		for i := 0; i < 100 && refusal == nil; i++ {
			_, refusal = put(g, fmt.Sprint("k", i), strings.Repeat("x", 64<<10))
			time.Sleep(20 * time.Millisecond)
		}
		var e *kverr.Error
		if !errors.As(refusal, &e) || e.Kind != kverr.Overloaded || e.RetryAfter != pressureRetry || e.Shard != 2 {
			t.Fatalf("puts beside a state database that does not flush: %v", refusal)
		}
		if _, events := g.store.DatabaseEvents(); events.Stalls != 0 || !g.store.Held().Pressed {
			t.Errorf("refused, but not before the stall: %+v", events)
		}
		if err := g.Admits(state.OpPut); kverr.KindOf(err) != kverr.Overloaded {
			t.Errorf("admits a put: %v", err)
		}
		if err := <-del(g, "a"); err != nil {
			t.Errorf("a delete: %v", err)
		}
		if v, err := get(g, "a"); err != nil || v.Found {
			t.Errorf("a read: %+v, %v", v, err)
		}
		fs.tables.end()
		time.Sleep(2 * time.Second)
		if g.store.Held().Pressed {
			t.Error("there is room again, and it is not seen")
		}
		mustPut(t, g, "a", "2")
	})
}

// During a stall nothing is proposed that would wait for it, but for the system
// shard.
func TestAStallRefusesWritesOfAllKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		system := record(shardmap.SystemShard, shardmap.Arc{From: shardmap.SystemSlot, To: shardmap.SlotEnd}, 1)
		c.create(system, record(2, wholeRing, 1))
		g, sys := c.leader(2), c.leader(shardmap.SystemShard)
		for name, events := range map[string]interface {
			StallBegin()
			StallEnd() time.Duration
		}{"log": &g.store.events.log, "state": &g.store.events.state} {
			mustPut(t, g, "a", "1")
			events.StallBegin()
			if err := <-propose(g, "a", "2"); kverr.KindOf(err) != kverr.Overloaded {
				t.Errorf("%s: a put: %v", name, err)
			}
			if err := <-del(g, "a"); kverr.KindOf(err) != kverr.Overloaded {
				t.Errorf("%s: a delete: %v", name, err)
			}
			mustGet(t, g, "a", "1")
			mustPut(t, sys, "s", "1")
			events.StallEnd()
			mustPut(t, g, "a", "2")
		}
	})
}

// The state database is asked how it does about each second, and more often the more
// is applied, or while puts are refused: a stall must not come between two looks.
func TestTheStateIsAskedMoreOftenUnderLoad(t *testing.T) {
	s := &Store{opts: Options{MemTableBytes: 8000}, sampler: &sampler{kick: make(chan struct{}, 1)}}
	var f feeling
	asked := func(looks int, applied uint64) (times int) {
		for range looks {
			s.appliedBytes.Add(applied)
			f.feel(s)
			select {
			case <-s.sampler.kick:
				times++
			default:
			}
		}
		return times
	}
	// At every tenth look, and for each eighth of a memtable that was applied.
	for _, c := range []struct {
		applied uint64
		want    int
	}{{0, 10}, {10, 10}, {250, 30}, {999, 50}, {1000, 100}, {5000, 100}} {
		if got := asked(100, c.applied); got != c.want {
			t.Errorf("%d bytes between two looks: asked %d times in 100; want %d", c.applied, got, c.want)
		}
	}
	s.nearStall.Store(true)
	if got := asked(100, 0); got != 100 {
		t.Errorf("while puts are refused: asked %d times in 100", got)
	}
}

// What is applied is counted for that.
func TestAppliedBytesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		before := g.store.appliedBytes.Load()
		mustPut(t, g, "a", strings.Repeat("x", 5000))
		if got := g.store.appliedBytes.Load() - before; got < 5000 || got > 6000 {
			t.Errorf("%d bytes were counted for 5000", got)
		}
	})
}
