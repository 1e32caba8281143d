package raftstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// ringModel is all that was ever appended, and how far back a ring must remember.
type ringModel struct {
	versions []uint64 // of all changes, in order; equal ones are one group
	last     uint64
}

// groupsAfter is what a reader that began after a version must have been given.
func (m *ringModel) groupsAfter(after, upTo uint64) (out []uint64) {
	for _, v := range m.versions {
		if v > after && v <= upTo {
			out = append(out, v)
		}
	}
	return out
}

func versionsOf(parts [][]state.Change) (out []uint64) {
	for _, p := range parts {
		for _, c := range p {
			out = append(out, c.Version)
		}
	}
	return out
}

func newShare(bytes int64) *atomic.Int64 {
	share := new(atomic.Int64)
	share.Store(bytes)
	return share
}

// P6: whatever is appended, forgotten and read in whatever order, a reader gets
// every change after its version once and in order, groups whole, or Compacted; and
// Compacted exactly if something that it was to get is gone.
func TestP6_RingSkipsAndRepeatsNothing(t *testing.T) {
	type client struct {
		*reader
		began uint64
		got   []uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		share := newShare(rapid.Int64Range(0, 3000).Draw(t, "share"))
		floor := rapid.Uint64Range(0, 3).Draw(t, "floor")
		r := newRing(share, floor)
		m := ringModel{last: floor}
		var clients []*client
		begin := func(after uint64, now bool) {
			_, remembered, last := r.size()
			rd, err := r.reader(after, now)
			if now {
				after = last
			}
			if (err == nil) != (after >= remembered) || err != nil && kverr.KindOf(err) != kverr.Compacted {
				t.Fatalf("a reader after %d of a ring after %d: %v", after, remembered, err)
			}
			if err == nil {
				clients = append(clients, &client{reader: rd, began: after})
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3: // a batch of entries
				var places []place
				for range rapid.IntRange(0, 3).Draw(t, "entries") {
					var changes []state.Change
					for range rapid.IntRange(1, 3).Draw(t, "groups") {
						m.last += rapid.Uint64Range(1, 3).Draw(t, "gap")
						for range rapid.IntRange(1, 3).Draw(t, "keys") {
							changes = append(changes, state.Change{Version: m.last, Value: make([]byte, rapid.IntRange(0, 200).Draw(t, "bytes"))})
							m.versions = append(m.versions, m.last)
						}
					}
					places = append(places, newPlace(changes, nil))
				}
				m.last += rapid.Uint64Range(0, 2).Draw(t, "versions without changes")
				r.append(places, m.last)
			case 4:
				share.Store(rapid.Int64Range(0, 3000).Draw(t, "share"))
				r.trim()
			case 5:
				begin(rapid.Uint64Range(0, m.last+2).Draw(t, "after"), false)
			case 6:
				begin(0, true)
			case 7:
				if rapid.IntRange(0, 5).Draw(t, "reset") == 0 { // a snapshot that jumps ahead
					m.last += 10
					m.versions = append(m.versions, m.last) // what it jumped over was something
					r.reset(m.last)
				}
			default:
				if len(clients) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(clients)-1).Draw(t, "reader")
				c := clients[i]
				_, remembered, last := r.size()
				before := c.upTo
				parts, err := c.take(rapid.Int64Range(1, 2000).Draw(t, "most"))
				if (err == nil) != (before >= remembered) || err != nil && kverr.KindOf(err) != kverr.Compacted {
					t.Fatalf("at %d, of a ring after %d: %v", before, remembered, err)
				}
				if err != nil {
					clients = slices.Delete(clients, i, i+1)
					continue
				}
				if len(parts) == 0 && c.upTo < last {
					t.Fatalf("nothing was given out, up to %d, and the ring is at %d", c.upTo, last)
				}
				c.got = append(c.got, versionsOf(parts)...)
				if want := m.groupsAfter(c.began, c.upTo); !slices.Equal(c.got, want) {
					t.Fatalf("after %d up to %d: got %v, want %v", c.began, c.upTo, c.got, want)
				}
			}
			bytes, _, _ := r.size()
			largest := int64(0)
			for _, p := range r.mu.places {
				largest = max(largest, p.bytes)
			}
			if bytes > share.Load()+largest {
				t.Fatalf("%d bytes are held, the share is %d and the largest place %d", bytes, share.Load(), largest)
			}
		}
	})
}

// The same with everybody at once, for the race detector; and readers are woken.
func TestP6_RingUnderConcurrency(t *testing.T) {
	if complete, compacted := ringUnderConcurrency(t, 1<<30); complete != 8 {
		t.Errorf("%d readers of a ring with room for all had all, %d did not", complete, compacted)
	}
	if complete, compacted := ringUnderConcurrency(t, 1<<16); complete+compacted != 8 {
		t.Errorf("%d readers of a small ring had all, %d were too slow, of 8", complete, compacted)
	}
}

func ringUnderConcurrency(t *testing.T, share int64) (complete, compacted int64) {
	const total = 5000
	r := newRing(newShare(share), 0)
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := make([]int, total)
	for i := range sizes {
		sizes[i] = rng.IntN(64)
	}
	var readers sync.WaitGroup
	var late, done atomic.Int64
	for id := range 8 {
		slow := id%2 == 1
		rd, err := r.reader(0, false)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			next := uint64(1)
			for next <= total {
				ready := rd.ready()
				parts, err := rd.take(1 << 12)
				if kverr.KindOf(err) == kverr.Compacted {
					late.Add(1)
					return
				} else if err != nil {
					t.Error(err)
					return
				}
				for _, v := range versionsOf(parts) {
					if v != next {
						t.Errorf("version %d came where %d was due", v, next)
						return
					}
					next++
				}
				if slow && len(parts) > 0 {
					for range 50 {
						_ = fmt.Sprint(next)
					}
				}
				if len(parts) == 0 {
					<-ready
				}
			}
			done.Add(1)
		})
	}
	for v := uint64(1); v <= total; v++ {
		c := state.Change{Version: v, Key: []byte("k"), Value: make([]byte, sizes[v-1])}
		r.append([]place{newPlace([]state.Change{c}, nil)}, v)
	}
	readers.Wait()
	return done.Load(), late.Load()
}

func TestRingEnds(t *testing.T) {
	r := newRing(newShare(1000), 5)
	rd, err := r.reader(5, false)
	if err != nil {
		t.Fatal(err)
	}
	ready := rd.ready()
	r.end(kverr.New(kverr.Unavailable, "it stops"))
	r.end(kverr.New(kverr.Internal, "the first reason counts"))
	<-ready
	<-rd.ready()
	if _, err := rd.take(1); kverr.KindOf(err) != kverr.Unavailable {
		t.Errorf("a reader of an ended ring: %v", err)
	}
	if _, err := r.reader(0, true); kverr.KindOf(err) != kverr.Unavailable {
		t.Errorf("a new reader of an ended ring: %v", err)
	}
	r.append([]place{newPlace([]state.Change{{Version: 6}}, nil)}, 6)
	if bytes, _, _ := r.size(); bytes != 0 {
		t.Errorf("an ended ring holds %d bytes", bytes)
	}
}
