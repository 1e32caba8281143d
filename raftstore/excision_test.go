package raftstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A read that begins while keys are being taken out of the database, with a view from
// before that, must not answer that they never were: the view loses them too.
func TestAReadThatBeganDuringAnExcisionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, wholeRing, 1))
		g := c.leader(2)
		mustPut(t, g, "a", "1")
		read := func(done func()) (call *readCall, err *error, found *bool) {
			err, found = new(error), new(bool)
			call = &readCall{Read: &Read{Keys: [][]byte{[]byte("a")}, Deadline: time.Now().Add(time.Minute),
				Done: func(values []Value, _ uint64, e error) {
					*err, *found = e, len(values) == 1 && values[0].Found
					done()
				}}}
			return call, err, found
		}
		g.excisions.Add(1) // as Retire does, before it flushes and excises
		first, _, _ := read(func() {
			if err := g.store.excise(context.Background(), wholeRing); err != nil {
				t.Error(err)
			}
		})
		second, err, found := read(func() {})
		g.execute([]*readCall{first, second}) // from one view
		if kverr.KindOf(*err) != kverr.Unavailable {
			t.Errorf("the read of an excised key: found %t, error %v", *found, *err)
		}
	})
}
