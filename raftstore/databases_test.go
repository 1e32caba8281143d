package raftstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/shardmap"
)

// A disk that hangs holds up nobody who asks for figures, and not for longer than
// they are willing to wait.
func TestSamplerDoesNotWaitForAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang chan struct{}
		reads := 0
		p := newSampler(func() Databases {
			at := time.Now()
			if hang != nil {
				<-hang
			}
			reads++
			return Databases{At: at, Log: &pebble.Metrics{}}
		})
		defer p.close()
		first := p.get(time.Second)
		if again := p.get(time.Second); again.At != first.At || reads != 1 {
			t.Fatalf("a fresh sample was taken again: %d reads", reads)
		}
		time.Sleep(2 * sampleAge)
		second := p.get(time.Second)
		if !second.At.After(first.At) || reads != 2 {
			t.Fatalf("an old sample was not replaced: %d reads", reads)
		}

		hang = make(chan struct{})
		time.Sleep(2 * sampleAge)
		began := time.Now()
		stale := p.get(100 * time.Millisecond)
		if took := time.Since(began); took != 100*time.Millisecond || stale.At != second.At {
			t.Fatalf("with a hung disk: after %s the sample of %s", took, stale.At)
		}
		close(hang)
		synctest.Wait()
		if now := p.get(0); !now.At.After(second.At) {
			t.Fatal("the sample of a disk that is back was dropped")
		}
	})
}

// Figures can be had of a store that lives, that has a failed disk, and that
// stops meanwhile.
func TestDatabasesAreMeasuredToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 1)
		c.create(record(2, shardmap.Arc{From: 0, To: 100}, 1))
		c.leader(2)
		s := c.nodes[nodeID(1)].store
		if d := s.Databases(time.Second); d.LogBytes() == 0 || d.StateBytes() == 0 {
			t.Fatalf("log %d, state %d bytes", d.LogBytes(), d.StateBytes())
		}
		stop := make(chan struct{})
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			for {
				select {
				case <-stop:
					return
				case <-time.After(sampleAge + 1):
					s.Databases(time.Millisecond)
				}
			}
		}()
		time.Sleep(5 * time.Second)
		c.stop()
		time.Sleep(5 * time.Second)
		close(stop)
		<-asked
	})
}

// Elections, terms and restarts are counted where they happen.
func TestCountersOfLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCluster(t, 3)
		c.create(record(2, wholeRing, 1, 2, 3))
		g := c.leader(2)
		before := g.store.Counters()
		if before.ElectionsWon != 1 || before.GroupRestarts != 0 || before.SyncTimes.Count == 0 {
			t.Errorf("%+v", before)
		}
		if err := g.TransferLeadership(t.Context(), nodeID(3)); err != nil {
			t.Fatal(err)
		}
		c.leader(2)
		time.Sleep(2 * reconcileEvery)
		after := g.store.Counters()
		if after.TermChanges <= before.TermChanges || after.ElectionsWon != 1 {
			t.Errorf("after a transfer: %+v, before %+v", after, before)
		}
		if other := c.nodes[nodeID(3)].store.Counters(); other.ElectionsWon != 1 {
			t.Errorf("the new leader: %+v", other)
		}
		if err := g.store.restart(g, "test"); err != nil {
			t.Fatal(err)
		}
		if got := g.store.Counters().GroupRestarts; got != 1 {
			t.Errorf("%d restarts", got)
		}
	})
}
