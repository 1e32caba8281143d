package raftstore

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// ring remembers the newest changes of one replica, for those who watch. The apply
// loop appends and never waits for anybody; readers take what they have not had and
// are told when it is gone.
//
// A place in it is one log entry with changes, so what one version did stays
// together. Keys and values are those of the entry: nobody reuses their memory (the
// proposer makes it anew, a follower's comes out of its own message, and the log
// store shares what it caches and copies what it reads), so a place keeps its
// entry's data and is charged with it.
//
// P6: between floor and last nothing is missing. Whoever is below floor is told so.
type ring struct {
	share *atomic.Int64 // bytes that a ring may hold beside its newest place

	mu struct {
		sync.Mutex
		places []place
		first  uint64 // number of places[0]; numbers rise by one and are not used again
		bytes  int64
		floor  uint64        // changes up to this version are not remembered
		last   uint64        // all changes up to this version have been appended
		why    error         // nothing more will come
		wake   chan struct{} // closed when something does; nil while nobody waits
	}
}

// place is the changes of one entry, in the order of their versions, and shared by
// all who read it.
type place struct {
	changes []state.Change
	bytes   int64
}

const placeOverhead = 64

// newPlace keeps an entry's changes. data is the entry's.
func newPlace(changes []state.Change, data []byte) place {
	held := 0
	for i := range changes {
		held += len(changes[i].Key) + len(changes[i].Value)
	}
	size := int64(max(held, len(data))) + int64(len(changes))*int64(unsafe.Sizeof(state.Change{})) + placeOverhead
	return place{slices.Clone(changes), size}
}

func (p *place) last() uint64 { return p.changes[len(p.changes)-1].Version }

// newRing remembers what comes after version floor.
func newRing(share *atomic.Int64, floor uint64) *ring {
	r := &ring{share: share}
	r.mu.floor, r.mu.last = floor, floor
	return r
}

// append adds what a batch of entries did; last is the shard's last version after it.
func (r *ring) append(places []place, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why != nil {
		return
	}
	for _, p := range places {
		r.mu.places = append(r.mu.places, p)
		r.mu.bytes += p.bytes
	}
	r.mu.last = max(r.mu.last, last)
	r.trimLocked()
	r.wakeLocked()
}

// trim makes the ring keep to a share that has fallen.
func (r *ring) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trimLocked()
}

// trimLocked forgets the oldest places. The newest stays, whatever its size: one
// that a watcher could never get would cut all of them off.
func (r *ring) trimLocked() {
	n := 0
	for share := r.share.Load(); r.mu.bytes > share && n < len(r.mu.places)-1; n++ {
		p := &r.mu.places[n]
		r.mu.bytes -= p.bytes
		r.mu.floor = p.last()
		*p = place{}
	}
	r.mu.first += uint64(n)
	r.mu.places = r.mu.places[n:]
}

// reset forgets everything: the state was replaced, and what led to it is not known.
func (r *ring) reset(last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.first += uint64(len(r.mu.places)) + 1 // no place that anybody has is the next one
	r.mu.places, r.mu.bytes = nil, 0
	r.mu.floor, r.mu.last = last, last
	r.wakeLocked()
}

// end tells all readers, now and later, why nothing more will come.
func (r *ring) end(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why == nil {
		r.mu.why = why
	}
	r.mu.places, r.mu.bytes = nil, 0
	r.wakeLocked()
}

func (r *ring) wakeLocked() {
	if r.mu.wake != nil {
		close(r.mu.wake)
		r.mu.wake = nil
	}
}

func (r *ring) size() (bytes int64, floor, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.bytes, r.mu.floor, r.mu.last
}

// reader is somebody's position in a ring. One goroutine at a time uses it.
type reader struct {
	ring *ring
	next uint64 // number of the place to read next
	upTo uint64 // every change up to this version was given out, or not asked for
}

// reader begins after a version, or after the last one.
func (r *ring) reader(after uint64, now bool) (*reader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now {
		after = r.mu.last
	}
	rd := &reader{ring: r, upTo: after}
	return rd, rd.seekLocked()
}

// seekLocked finds the first place with changes that were not given out.
func (rd *reader) seekLocked() error {
	r := rd.ring
	if r.mu.why != nil {
		return r.mu.why
	}
	if rd.upTo < r.mu.floor {
		return kverr.New(kverr.Compacted, "changes after version %d are not remembered here; those after %d are", rd.upTo, r.mu.floor)
	}
	n := sort.Search(len(r.mu.places), func(i int) bool { return r.mu.places[i].last() > rd.upTo })
	rd.next = r.mu.first + uint64(n)
	return nil
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// ready is closed when there may be something to take that was not there before.
func (rd *reader) ready() <-chan struct{} {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why != nil {
		return closedChan
	}
	if r.mu.wake == nil {
		r.mu.wake = make(chan struct{})
	}
	return r.mu.wake
}

// take gives out what follows, about most bytes at a time, whole entries each; none
// when there is nothing. All of it is shared and read-only.
func (rd *reader) take(most int64) ([][]state.Change, error) {
	r := rd.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.why != nil || rd.next < r.mu.first {
		if err := rd.seekLocked(); err != nil {
			return nil, err
		}
	}
	var taken [][]state.Change
	for size := int64(0); size < most && rd.next < r.mu.first+uint64(len(r.mu.places)); rd.next++ {
		p := &r.mu.places[rd.next-r.mu.first]
		changes := p.changes
		for len(changes) > 0 && changes[0].Version <= rd.upTo { // what the reader began behind
			changes = changes[1:]
		}
		if len(changes) > 0 {
			size += p.bytes
			taken = append(taken, changes)
			rd.upTo = p.last()
		}
	}
	if rd.next == r.mu.first+uint64(len(r.mu.places)) {
		rd.upTo = max(rd.upTo, r.mu.last)
	}
	return taken, nil
}
