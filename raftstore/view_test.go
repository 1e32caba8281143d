package raftstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/raftstore/state/scan"
	"github.com/ringfort/ringfort/shardmap"
)

// list is all keys and values of a view.
func (v *View) list(order scan.Order) (string, error) {
	out := ""
	err := v.Use(func(at scan.Cursor) error {
		s := scan.New(scan.Spec{Shard: v.Record.Shard, Slots: v.Record.Arc, Order: order, Now: v.ShardTime}, at)
		for {
			p, err := s.Page(scan.Bounds{Items: 1000, Bytes: 1 << 20, Steps: 1 << 20})
			if err != nil {
				return err
			}
			for _, i := range p.Items {
				out += fmt.Sprintf("%s=%s ", i.Key, i.Value)
			}
			if p.Done {
				return nil
			}
		}
	})
	return out, err
}

func mustList(t *testing.T, v *View, want string) {
	t.Helper()
	if got, err := v.list(scan.ByKey); err != nil || got != want {
		t.Errorf("the view shows %q, %v; want %q", got, err, want)
	}
}

func mustView(t *testing.T, g *Group, spec ReadSpec) *View {
	t.Helper()
	v, err := g.View(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func TestAViewIsOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		at := mustPut(t, g, "b", "1")
		v := mustView(t, g, ReadSpec{})
		if v.Version != at || v.Served != ByLeader || v.Record.Shard != 2 || v.ShardTime == 0 {
			t.Errorf("the view is at version %d, shard time %d, served %d; the last write was %d", v.Version, v.ShardTime, v.Served, at)
		}
		mustPut(t, g, "a", "2")
		mustPut(t, g, "c", "2")
		if err := g.store.flushWithin(context.Background()); err != nil {
			t.Fatal(err)
		}
		mustList(t, v, "a=1 b=1 ")
		mustList(t, mustView(t, g, ReadSpec{}), "a=2 b=1 c=2 ")
		c.agree(2)
		f := mustView(t, c.follower(2), ReadSpec{Level: Any})
		mustList(t, f, "a=2 b=1 c=2 ")
		if f.Served != ByReplica {
			t.Errorf("served %d", f.Served)
		}
		if _, err := c.follower(2).View(context.Background(), ReadSpec{}); kverr.KindOf(err) != kverr.NotLeader {
			t.Errorf("a linearizable view of a follower that may not ask: %v", err)
		}
	})
}

// What takes keys out of the database does not take them out of an open view.
func TestAViewOutlivesAnExcise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		for _, flush := range []bool{true, false} {
			mustPut(t, g, "a", "1")
			if flush {
				if err := g.store.flushWithin(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			v := mustView(t, g, ReadSpec{})
			mustList(t, v, "a=1 ")
			if err := g.store.excise(context.Background(), shardmap.Arc{From: shardmap.SlotOf([]byte("a")), To: shardmap.SlotOf([]byte("a")) + 1}); err != nil {
				t.Fatal(err)
			}
			mustList(t, v, "a=1 ")
			if _, closer, err := g.store.state.Get(dataKey("a")); err == nil {
				closer.Close()
				t.Fatal("the excise took nothing")
			} else if err != pebble.ErrNotFound {
				t.Fatal(err)
			}
		}
	})
}

func dataKey(key string) []byte {
	return state.DataKey(nil, shardmap.SlotOf([]byte(key)), []byte(key))
}

// A view that is opened while keys are being taken out may show a mix of before and
// after, so there is none.
func TestNoViewIsOpenedDuringAnExcision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		g.excisions.Add(1)
		if v, err := g.View(context.Background(), ReadSpec{}); kverr.KindOf(err) != kverr.Unavailable {
			t.Errorf("a view of a replica that is being replaced: %v, %v", v, err)
		}
		g.excisions.Add(1)
		mustList(t, mustView(t, g, ReadSpec{}), "a=1 ")
		if n := g.store.views.count(); n != 1 {
			t.Errorf("%d views count as open", n)
		}
	})
}

// P9: views are counted, given up when nobody uses them, and closed with the group
// and with the store.
func TestP9_ViewsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		n.stop()
		n.opts = func(o *Options) { o.MaxViews = 3 }
		n.listen()
		n.start()
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		var open []*View
		for range 3 {
			open = append(open, mustView(t, g, ReadSpec{}))
		}
		_, err := g.View(context.Background(), ReadSpec{Level: Any})
		if kverr.KindOf(err) != kverr.Overloaded {
			t.Errorf("a fourth view: %v", err)
		}
		open[0].Close()
		open[0].Close()
		again := mustView(t, g, ReadSpec{})
		for range 4 {
			time.Sleep(viewIdle * 3 / 4)
			mustList(t, again, "a=1 ")
		}
		for _, v := range open[1:] {
			if _, err := v.list(scan.BySlot); kverr.KindOf(err) != kverr.Unavailable {
				t.Errorf("a view that lay unused: %v", err)
			}
		}
		if _, err := open[0].list(scan.BySlot); kverr.KindOf(err) != kverr.Closed {
			t.Errorf("a closed view: %v", err)
		}
		for time.Since(again.opened) < viewAge+time.Second {
			time.Sleep(time.Second)
			_, err = again.list(scan.BySlot)
		}
		if kverr.KindOf(err) != kverr.Unavailable || n.store.views.count() != 0 {
			t.Errorf("a view used for %s: %v; %d are open", viewAge, err, n.store.views.count())
		}

		last := mustView(t, g, ReadSpec{})
		if err := n.store.restart(g, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := last.list(scan.BySlot); kverr.KindOf(err) != kverr.Unavailable {
			t.Errorf("a view of a group that was restarted: %v", err)
		}
		last = mustView(t, c.leader(2), ReadSpec{})
		store := n.store
		n.stop()
		if err := store.views.admit(last); kverr.KindOf(err) != kverr.Closed { // one that was on its way then
			t.Errorf("a view of a stopped store was admitted: %v", err)
		}
		if _, err := last.list(scan.BySlot); kverr.KindOf(err) == kverr.None {
			t.Errorf("a view of a stopped store: %v", err)
		}
	})
}

// Opening, using and closing views meets stops, writes and sweeps anywhere.
func TestViewsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		var users sync.WaitGroup
		for i := range 8 {
			users.Go(func() {
				for {
					v, err := g.View(context.Background(), ReadSpec{Level: ReadLevel(i % 4)})
					if kind := kverr.KindOf(err); kind == kverr.Closed || kind == kverr.NotLeader || kind == kverr.Unavailable {
						return
					} else if err != nil {
						t.Errorf("view: %v", err)
						return
					}
					if got, err := v.list(scan.Order(i % 2)); err == nil && got != "a=1 " {
						t.Errorf("a view shows %q", got)
					}
					if i%3 != 0 {
						v.Close()
					}
					time.Sleep(time.Duration(i+1) * 100 * time.Millisecond)
				}
			})
		}
		time.Sleep(3 * time.Second)
		c.nodes[nodeID(1)].stop()
		users.Wait()
	})
}
