package transport

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRaft_BadWeather drives groups through lost, late, doubled, overtaking and
// held messages and through broken connections. Nothing may diverge meanwhile,
// and when the weather clears everybody must agree soon.
func TestRaft_BadWeather(t *testing.T) {
	const seeds, groups = 8, 2
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { badWeather(t, seed, groups) })
		})
	}
}

func badWeather(t *testing.T, seed uint64, groups int) {
	w := newWeather(seed)
	l := newLAN(t, 3, w.over)
	defer l.close()
	var all []*raftGroup
	for id := range groups {
		rg := l.startRaft(uint64(id+1), nil, nil)
		defer rg.stop()
		all = append(all, rg)
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	accepted := make([]int, groups)
	for i, rg := range all {
		writers.Go(func() { accepted[i] = rg.keepWriting(stop) })
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	for range 12 {
		a, b := nodeName(rng.IntN(3)), nodeName(rng.IntN(3))
		switch rng.IntN(7) {
		case 0:
			w.isolate(a)
		case 1:
			w.cut(a, b) // one way
		case 2:
			w.hold(a, b)
			w.hold(b, a)
		case 3:
			w.noise(0.1, 0.1, 50*time.Millisecond)
		case 4:
			w.noise(0, 0, 400*time.Millisecond)
		case 5:
			x := l.node(a)
			x.stopServer()
			time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
			x.startServer()
		case 6:
			w.heal()
		}
		time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
	}
	w.noise(0, 0, 0)
	w.heal()
	close(stop)
	writers.Wait()
	for i, rg := range all {
		rg.settle(30 * time.Second)
		if accepted[i] == 0 { // without load there would be nothing to see
			t.Errorf("group %d: no write was accepted", i)
		}
	}
	t.Logf("accepted %v; dropped %d, doubled %d, delayed %d, held %d", accepted, w.dropped, w.doubled, w.delayed, w.heldBack)
	if w.dropped+w.doubled+w.delayed+w.heldBack == 0 {
		t.Error("no message met any weather")
	}
}

// keepWriting offers a write to every member, whoever may lead, until stopped;
// it answers how many were accepted.
func (rg *raftGroup) keepWriting(stop <-chan struct{}) (accepted int) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return accepted
		default:
		}
		for _, m := range rg.members {
			if m.apply(fmt.Sprint(m.node.id, " ", i)) == nil {
				accepted++
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}
