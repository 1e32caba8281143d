package logstore

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// wantBoundary checks what stands for a boundary whose entry is not stored.
func wantBoundary(t testing.TB, g *Group, index, term uint64) {
	t.Helper()
	var l raft.Log
	must(t, g.GetLog(index, &l))
	if l.Index != index || l.Term != term || l.Type != LogBoundary || l.Data != nil {
		t.Errorf("boundary %d of term %d answers %+v", index, term, l)
	}
}

// Receivers refuse what is none of raft's types; a raft that applies it panics.
func TestL1_ABoundaryIsNoEntryOfRafts(t *testing.T) {
	for known := raft.LogCommand; known <= raft.LogConfiguration; known++ {
		if known == LogBoundary {
			t.Errorf("boundaries look like entries of type %s", known)
		}
	}
}

func TestL2_IngestReplacesTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		index, term uint64
		left        []*raft.Log
	}{
		"past the end":        {50, 7, nil},
		"at the end":          {30, 7, nil},
		"inside, a tail left": {20, 7, entries(21, 10, 5)},
		"just above boundary": {11, 5, entries(12, 19, 5)},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			d := openDisk(t, fs)
			g := born(t, d, 7)
			must(t, g.StoreLogs(entries(11, 20, 5))) // all of them cached
			must(t, castVote(g, 5, "a"))
			must(t, d.MarkIngest(7, c.index, c.term))
			must(t, d.MarkIngest(7, c.index, c.term))
			marked := openDisk(t, crashed(fs))
			wantEntries(t, marked.Group(7), 10, entries(11, 20, 5))
			if m := marked.Info(7).Ingest; m == nil || *m != (Marker{c.index, c.term}) {
				t.Errorf("marker after a crash: %v", m)
			}
			must(t, g.Truncate(20)) // waits until it is clear what becomes of the log
			must(t, g.DeleteRange(first(t, g), 20))
			wantEntries(t, g, 10, entries(11, 20, 5))

			must(t, d.FinishIngest(7))
			check := func(d *DB) {
				t.Helper()
				g := d.Group(7)
				wantEntries(t, g, c.index, c.left)
				wantBoundary(t, g, c.index, c.term)
				for index := uint64(10); index < c.index; index++ {
					if err := g.GetLog(index, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
						t.Errorf("entry %d under the boundary: %v", index, err)
					}
				}
				if term, vote := lastVote(t, g); term != 5 || vote != "a" || currentTerm(t, g) != 5 || d.Info(7).Replica != 1 {
					t.Error("votes or replica changed")
				}
				if info := d.Info(7); info.Ingest != nil || info.BoundaryTerm != c.term {
					t.Errorf("%+v", info)
				}
			}
			check(d)
			if c.left == nil && g.Bytes() != 0 || g.Bytes() > int64(len(c.left)*100) {
				t.Errorf("%d bytes of log", g.Bytes())
			}
			check(openDisk(t, crashed(fs)))

			next := last(t, g) + 1
			must(t, g.StoreLogs(entries(next, 3, 8))) // the log goes on
			want := append(c.left[:len(c.left):len(c.left)], entries(next, 3, 8)...)
			wantEntries(t, g, c.index, want)
			wantEntries(t, openDisk(t, crashed(fs)).Group(7), c.index, want)
			must(t, g.StoreLogs(entries(c.index+1, 1, 9))) // what is left dies by conflict
			wantEntries(t, g, c.index, entries(c.index+1, 1, 9))
			again := openDisk(t, crashed(fs))
			wantEntries(t, again.Group(7), c.index, entries(c.index+1, 1, 9))
			wantBoundary(t, again.Group(7), c.index, c.term)
			must(t, g.Truncate(c.index+1))
			wantEntries(t, g, c.index+1, entries(c.index+1, 1, 9))
		})
	}
}

func TestL2_DroppedIngestLeavesTheLog(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 20, 5)))
	must(t, d.MarkIngest(7, 50, 7))
	must(t, d.DropIngest(7))
	must(t, d.DropIngest(7))
	again := openDisk(t, crashed(fs))
	for _, d := range []*DB{d, again} {
		wantEntries(t, d.Group(7), 10, entries(11, 20, 5))
		if d.Info(7).Ingest != nil {
			t.Error("the marker is still there")
		}
	}
	must(t, g.Truncate(20))
	must(t, d.MarkIngest(7, 21, 7)) // another one may come
	must(t, d.FinishIngest(7))
	wantEntries(t, g, 21, entries(22, 9, 5))
}

func TestL2_IngestRefusals(t *testing.T) {
	d := openDisk(t, vfs.NewMem())
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 20, 5)))
	must(t, g.Truncate(15))
	born(t, d, 8)
	must(t, d.MarkIngest(8, 20, 5))
	for name, c := range map[string]struct {
		err  error
		want kverr.Kind
	}{
		"unborn":              {d.MarkIngest(9, 20, 5), kverr.Conflict},
		"at the boundary":     {d.MarkIngest(7, 15, 5), kverr.Conflict},
		"below the boundary":  {d.MarkIngest(7, 12, 5), kverr.Conflict},
		"another under way":   {d.MarkIngest(8, 21, 5), kverr.Conflict},
		"no index":            {d.MarkIngest(7, 0, 5), kverr.Invalid},
		"no term":             {d.MarkIngest(7, 20, 0), kverr.Invalid},
		"nothing to finish":   {d.FinishIngest(7), kverr.Conflict},
		"unknown to finish":   {d.FinishIngest(10), kverr.Conflict},
		"nothing to drop":     {d.DropIngest(7), kverr.None},
		"unknown group, drop": {d.DropIngest(11), kverr.None},
	} {
		if kverr.KindOf(c.err) != c.want {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	wantEntries(t, g, 15, entries(15, 16, 5))
}

func TestL5_IngestEndsOlderPins(t *testing.T) {
	d := openDisk(t, vfs.NewMem())
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 40, 5)))
	release := g.Pin(20)
	g.Pin(45)
	must(t, d.MarkIngest(7, 30, 6))
	must(t, d.FinishIngest(7))
	must(t, g.Truncate(50))
	wantEntries(t, g, 44, entries(44, 7, 5))
	release()
	must(t, g.Truncate(50))
	wantEntries(t, g, 44, entries(44, 7, 5))
}

// Readers run beside ingests: what they find missing must be gone by then, or it
// would be taken for damage and stop the node. The readers here are held after
// they have looked at the log's ends and before they read.
func TestL2_ReadersMeetIngests(t *testing.T) {
	for name, index := range map[string]uint64{"tail left": 20, "past the end": 50} {
		t.Run(name, func(t *testing.T) {
			o := options(t, vfs.NewMem())
			o.LogCacheBytes = -1
			d := mustOpen(t, o)
			defer mustClose(t, d)
			g := born(t, d, 7)
			must(t, g.StoreLogs(entries(11, 20, 5)))
			must(t, d.MarkIngest(7, index, 6))
			r := &request{op: &finishIngestOp{group: g}, group: g, at: time.Now(), done: make(chan error, 1)}
			var wg sync.WaitGroup
			d.mu.Lock() // readers and callers pass it to get in
			for range 100 {
				wg.Go(func() {
					var l raft.Log
					if err := g.GetLog(12, &l); !errors.Is(err, raft.ErrLogNotFound) {
						t.Errorf("read %+v: %v", l, err)
					}
				})
				runtime.Gosched()
			}
			d.queue <- r
			must(t, <-r.done)
			d.mu.Unlock()
			wg.Wait()
		})
	}
}

// Until an ingest's end is durable, readers see neither what goes nor what comes.
func TestLS2_IngestIsShownWhenItIsDurable(t *testing.T) {
	o := options(t, vfs.NewMem())
	var ending atomic.Pointer[Group]
	checked := 0
	o.BeforeSync = func() {
		g := ending.Load()
		if g == nil {
			return
		}
		if v := g.view(); v.ingest == (Marker{}) || v.boundary == 10 {
			return // a probe of the idle disk
		}
		checked++
		if last(t, g) != 30 || !errors.Is(g.GetLog(50, &raft.Log{}), raft.ErrLogNotFound) {
			t.Errorf("the log ends at %d already", last(t, g))
		}
		if err := g.GetLog(20, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry 20 can still be read: %v", err)
		}
	}
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 20, 5)))
	must(t, d.MarkIngest(7, 50, 6))
	ending.Store(g)
	must(t, d.FinishIngest(7))
	wantEntries(t, g, 50, nil)
	if checked != 1 {
		t.Errorf("looked %d times", checked)
	}
}
