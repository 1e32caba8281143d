package raftstore

import (
	"testing"
	"time"
)

func micros(d time.Duration) uint64 { return uint64(d / time.Microsecond) }

func TestT1_NoStampBeforeARound(t *testing.T) {
	var c shardClock
	if _, ok := c.stamp(micros(time.Hour), time.Second); ok {
		t.Fatal("stamped before any clock round of the term")
	}
	c.step(0, []uint64{micros(time.Hour), micros(time.Hour)}, 3, micros(time.Hour), time.Second)
	got, ok := c.stamp(micros(time.Hour+time.Minute), time.Second+time.Minute)
	if want := micros(time.Hour + time.Minute); !ok || got != want {
		t.Fatalf("stamp = %d, %t; want %d", got, ok, want)
	}
}

func TestT1_DriftAsksForARound(t *testing.T) {
	const start = time.Hour
	for _, jump := range []time.Duration{time.Hour, -time.Hour, maxClockDrift, -maxClockDrift} {
		var c shardClock
		c.step(0, []uint64{micros(start), micros(start)}, 3, micros(start), 0)
		if _, ok := c.stamp(micros(start+time.Second+jump), time.Second); ok {
			t.Errorf("stamped although wall and monotonic clock drifted apart by %v", jump)
		}
	}
	var c shardClock
	c.step(0, []uint64{micros(start), micros(start)}, 3, micros(start), 0)
	if _, ok := c.stamp(micros(start+time.Second+maxClockDrift/2), time.Second); !ok {
		t.Error("a small drift must not cost a round")
	}
}

func TestT1_NeverBack(t *testing.T) {
	var c shardClock
	c.step(micros(2*time.Hour), []uint64{micros(time.Hour), micros(time.Hour)}, 3, micros(time.Hour), 0)
	first, _ := c.stamp(micros(time.Hour), 0)
	if first != micros(2*time.Hour) {
		t.Fatalf("stamp %d is below the shard time last applied", first)
	}
	// All wall clocks step back: the monotonic clock carries on.
	c.step(micros(2*time.Hour), []uint64{0, 0}, 3, 0, time.Minute)
	if got, _ := c.stamp(0, time.Minute); got < first+micros(time.Minute) {
		t.Fatalf("stamp went from %d to %d although a minute passed", first, got)
	}
}

func TestT1_OneWrongClockDecidesNothing(t *testing.T) {
	const right, far = 1_000_000, 1 << 50
	cases := []struct {
		name   string
		clocks []uint64
		voters int
		want   uint64
		ok     bool
	}{
		{"three voters, one ahead", []uint64{right, far, right - 1}, 3, right, true},
		{"three voters, one behind", []uint64{right, 0, right - 1}, 3, right - 1, true},
		{"one silent, one ahead", []uint64{right, far}, 3, right, true},
		{"one silent, one behind", []uint64{right, 0}, 3, 0, true},
		{"two silent", []uint64{far}, 3, 0, false},
		{"five voters, two ahead", []uint64{right, far, far, right - 1, right - 2}, 5, right, true},
		{"five voters, two silent", []uint64{right, far, right - 1}, 5, right - 1, true},
		{"four voters", []uint64{far, right, right - 1, right - 2}, 4, right, true},
		{"single voter", []uint64{right}, 1, right, true},
	}
	for _, c := range cases {
		got, ok := agreedClock(c.clocks, c.voters)
		if got != c.want || ok != c.ok {
			t.Errorf("%s: agreedClock = %d, %t; want %d, %t", c.name, got, ok, c.want, c.ok)
		}
	}
}
