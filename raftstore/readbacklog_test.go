package raftstore

import (
	"testing"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
)

// P9: a replica that does not get on keeps nothing of the reads that have given up on
// it, however many come.
func TestP9_ReadsThatGaveUpAreNotKept(t *testing.T) {
	b := newReadBacklog(100)
	start := time.Unix(1000, 0)
	answered := 0
	for i := range 1000 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		c := &readCall{Read: &Read{Keys: [][]byte{{1}}, Deadline: now.Add(10 * time.Millisecond),
			Done: func([]Value, uint64, error) { answered++ }}}
		if err := b.admit(c); err != nil {
			t.Fatal(err)
		}
		b.park(7, []*readCall{c})
		b.expire(now, func() error { return kverr.New(kverr.Unavailable, "it does not get on") })
	}
	if n := len(b.mu.parked); n > 100 || answered < 900 {
		t.Errorf("%d reads are kept, %d are answered", n, answered)
	}
	if calls := b.reached(7, 0); len(calls) < len(b.mu.open) {
		t.Errorf("%d of %d reads go on when it does", len(calls), len(b.mu.open))
	}
}
