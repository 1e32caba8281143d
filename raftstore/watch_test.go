package raftstore

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func mustWatch(t *testing.T, g *Group, after uint64, now bool) *Watch {
	t.Helper()
	w, err := g.Watch(context.Background(), after, now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// all takes what there is.
func (w *Watch) all(t *testing.T) string {
	t.Helper()
	out := ""
	for {
		parts, err := w.Take(1)
		if err != nil {
			t.Fatal(err)
		}
		if len(parts) == 0 {
			return out
		}
		for _, p := range parts {
			for _, c := range p {
				out += fmt.Sprintf("%s=%s ", c.Key, c.Value)
			}
		}
	}
}

func TestWatchShowsWhatIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		first := mustPut(t, g, "a", "1")
		mustPut(t, g, "b", "2")
		w := mustWatch(t, g, first, false)
		all, now := mustWatch(t, g, 0, false), mustWatch(t, g, 0, true)
		last := mustPut(t, g, "c", "3")
		for name, tc := range map[string]struct {
			w    *Watch
			want string
		}{
			"from a version": {w, "b=2 c=3 "}, "from the beginning": {all, "a=1 b=2 c=3 "}, "from now": {now, "c=3 "},
		} {
			if got := tc.w.all(t); got != tc.want || tc.w.UpTo() != last {
				t.Errorf("%s: %q up to %d; want %q up to %d", name, got, tc.w.UpTo(), tc.want, last)
			}
		}
		c.agree(2)
		if got := mustWatch(t, c.follower(2), first, false).all(t); got != "b=2 c=3 " {
			t.Errorf("on a follower: %q", got)
		}
		if _, err := g.Watch(context.Background(), last+1, false); kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("a version that was never given out: %v", err)
		}
		ready := w.Ready()
		select {
		case <-ready:
			t.Error("ready without a change")
		default:
		}
		mustPut(t, g, "d", "4")
		<-ready
		if err := <-w.Confirm(0, time.Second); err != nil {
			t.Errorf("a leader does not know how far it is: %v", err)
		}
	})
}

// A replica remembers from its start on, from a restart in place on, and from an
// installed snapshot on; whoever needs more is told so, and so is who watched.
func TestWatchFloors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		before := mustPut(t, g, "a", "1")
		mustPut(t, g, "b", "1")
		w := mustWatch(t, g, before, false)
		if err := n.store.restart(g, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Take(1); kverr.KindOf(err) != kverr.Unavailable {
			t.Errorf("a watch of a group that was restarted: %v", err)
		}
		g = c.leader(2)
		if _, err := g.Watch(context.Background(), before, false); kverr.KindOf(err) != kverr.Compacted {
			t.Errorf("after a restart in place: %v", err)
		}
		last := mustPut(t, g, "c", "1")
		mustWatch(t, g, last, false)
		n.stop()
		n.listen()
		n.start()
		g = c.leader(2)
		if _, err := g.Watch(context.Background(), before, false); kverr.KindOf(err) != kverr.Compacted {
			t.Errorf("after a restart: %v", err)
		}
		if got := mustWatch(t, g, last, false).all(t); got != "" {
			t.Errorf("after the last version before a restart there is %q", got)
		}

		w = mustWatch(t, g, last, false)
		g.changes.reset(last + 100) // as reload does
		if _, err := w.Take(1); kverr.KindOf(err) != kverr.Compacted {
			t.Errorf("a watch across an installed snapshot: %v", err)
		}
	})
}

// P9: a ring keeps to its share of the node's bound, which falls when there are more.
func TestP9_RingsShareTheNodesBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		n := c.nodes[nodeID(1)]
		n.stop()
		n.opts = func(o *Options) { o.MaxWatchBytes, o.WatchBytesPerShard = 20000, 15000 }
		n.listen()
		n.start()
		c.create(record(2, shardmap.Arc{From: 0, To: 8000}, 1))
		g := c.leader(2)
		key := keyIn(g.Record().Arc)
		for range 100 {
			mustPut(t, g, key, string(make([]byte, 500)))
		}
		held := func() int64 { b, _, _ := g.changes.size(); return b }
		if held() > 16000 || held() < 13000 {
			t.Errorf("a ring of 15000 bytes holds %d", held())
		}
		c.create(record(3, shardmap.Arc{From: 8000, To: 16000}, 1))
		if held() > 11000 || held() < 8000 {
			t.Errorf("half of 20000 bytes are %d", held())
		}
	})
}

func TestP6_AnInstalledSnapshotIsAGapThatIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		tinyLogs(c)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		last := mustPut(t, g, "a", "1")
		c.agree(2)
		behind := c.nodes[nodeID(3)]
		w := mustWatch(t, behind.group(2), last, false)
		c.isolate(behind.id, true)
		fill(t, g, "k", 400)
		cutLogs(c, g, 100)
		c.isolate(behind.id, false)
		c.await("the snapshot is told", time.Minute, func() bool { _, err := w.Take(1); return kverr.KindOf(err) == kverr.Compacted })
		c.agree(2)
		if c.leader(2).store.opts.Network.Stats().SnapshotsSent == 0 {
			t.Error("it caught up without a snapshot: the test shows nothing")
		}
		_, floor, _ := behind.group(2).changes.size()
		if floor <= last {
			t.Errorf("after the snapshot it remembers from %d on; it was at %d before", floor, last)
		}
		again := mustWatch(t, behind.group(2), floor, false)
		again.all(t)
		mustPut(t, c.leader(2), "b", "2")
		c.agree(2)
		if got := again.all(t); got != "b=2 " {
			t.Errorf("after the snapshot a watch shows %q", got)
		}
	})
}
