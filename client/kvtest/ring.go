package kvtest

import (
	"slices"
	"sort"
	"sync"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// ring remembers the newest changes of a shard, for those who watch.
//
// P6: between floor and last nothing is missing. Whoever is below floor is told so.
type ring struct {
	most int // sets

	mu struct {
		sync.Mutex
		sets  []set
		bytes int
		floor uint64        // changes up to this version are not remembered
		last  uint64        // all changes up to this version are here
		wake  chan struct{} // closed when there are more
	}
}

// set is the changes of one version. It is shared and never changed.
type set struct {
	version uint64
	changes []state.Change
}

// ringBytes bounds a ring beside its newest set, as a node's does by default.
const ringBytes = 4 << 20

const changeOverhead = 96

func newRing(most int) *ring {
	r := &ring{most: most}
	r.mu.wake = make(chan struct{})
	return r
}

func (s *set) bytes() (n int) {
	for i := range s.changes {
		n += changeOverhead + len(s.changes[i].Key) + len(s.changes[i].Value)
	}
	return n
}

// append adds what one entry did; last is the shard's last version after it.
func (r *ring) append(changes []state.Change, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes = slices.Clone(changes)
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && changes[n].Version == changes[0].Version {
			n++
		}
		s := set{changes[0].Version, changes[:n:n]}
		r.mu.sets, r.mu.bytes = append(r.mu.sets, s), r.mu.bytes+s.bytes()
		changes = changes[n:]
	}
	for len(r.mu.sets) > 1 && (len(r.mu.sets) > r.most || r.mu.bytes > ringBytes) {
		oldest := &r.mu.sets[0]
		r.mu.floor, r.mu.bytes = oldest.version, r.mu.bytes-oldest.bytes()
		*oldest = set{}
		r.mu.sets = r.mu.sets[1:]
	}
	r.mu.last = last
	close(r.mu.wake)
	r.mu.wake = make(chan struct{})
}

// take returns the sets after a version, about most bytes of them, and the version
// up to which they are complete. With none more is closed when there may be some.
func (r *ring) take(after uint64, most int) (sets []set, upTo uint64, more <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if after < r.mu.floor {
		return nil, 0, nil, kverr.New(kverr.Compacted,
			"changes after version %d are not remembered; those after %d are", after, r.mu.floor)
	}
	from := sort.Search(len(r.mu.sets), func(i int) bool { return r.mu.sets[i].version > after })
	upTo, bytes := max(after, r.mu.last), 0
	for i := from; i < len(r.mu.sets); i++ {
		if bytes >= most {
			upTo = sets[len(sets)-1].version
			break
		}
		sets, bytes = append(sets, r.mu.sets[i]), bytes+r.mu.sets[i].bytes()
	}
	return sets, upTo, r.mu.wake, nil
}
