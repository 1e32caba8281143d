package client

import (
	"sync"
	"sync/atomic"
)

// laneSpan is how far the oldest open number of a lane may lag behind its
// newest. The shards remember answers from the oldest open number on, so this
// bounds what one client makes them keep.
const laneSpan = 1 << 14

// numbers gives out the request numbers of a client's writes (promise P3).
//
// A write gets its number when it is first put into a frame, keeps it for all
// attempts, and closes it when its caller has the final answer. (To number it
// anew after a refusal would free the shards earlier, but a copy of the refused
// attempt, made by some network, could then be applied beside the new one.) A
// lane is a client id with its own row of numbers; when one write stays open
// while thousands pass it, new writes go to a fresh lane instead of waiting for
// it or making the shards remember for ever.
type numbers struct {
	random  *random
	mu      sync.Mutex
	current *lane
}

// lane is one client id and the numbers given out under it.
type lane struct {
	id [16]byte
	// lowest open number: every one below is closed. Written under numbers.mu.
	lowest atomic.Uint64
	next   uint64                // next number to give out; guarded by numbers.mu
	closed [laneSpan / 64]uint64 // ring of the closed ones in [lowest, next); guarded by numbers.mu
}

// ticket is an open number; the zero ticket is none.
type ticket struct {
	lane   *lane
	number uint64
}

func newNumbers(r *random) *numbers {
	s := &numbers{random: r}
	s.current = s.newLane()
	return s
}

func (s *numbers) newLane() *lane {
	l := &lane{id: s.random.clientID(), next: 1}
	l.lowest.Store(1)
	return l
}

// lane returns the lane that new numbers come from.
func (s *numbers) lane() *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// openLocked opens a number. REQUIRES: s.mu is held.
func (s *numbers) openLocked() ticket {
	l := s.current
	if l.next-l.lowest.Load() >= laneSpan {
		l = s.newLane()
		s.current = l
	}
	l.next++
	return ticket{lane: l, number: l.next - 1}
}

// close closes an open number. Closing the zero ticket does nothing.
func (s *numbers) close(t ticket) {
	if t.lane == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.lane.closeLocked(t.number)
}

func (l *lane) closeLocked(number uint64) {
	word, bit := l.bit(number)
	l.closed[word] |= bit
	lowest := l.lowest.Load()
	if number != lowest {
		return
	}
	for ; lowest < l.next; lowest++ {
		word, bit := l.bit(lowest)
		if l.closed[word]&bit == 0 {
			break
		}
		l.closed[word] &^= bit
	}
	l.lowest.Store(lowest)
}

func (l *lane) bit(number uint64) (word, bit uint64) {
	return number % laneSpan / 64, 1 << (number % 64)
}
