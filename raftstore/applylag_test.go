package raftstore

import (
	"testing"
	"time"
)

// lagAfter looks n times at the same place and returns the last age.
func lagAfter(l *applyLag, now *time.Duration, n int, p progress) time.Duration {
	var age time.Duration
	for range n {
		*now += gateEvery
		age = l.look(p, *now, gateEvery)
	}
	return age
}

func TestD1_WhatCountsAsNotApplied(t *testing.T) {
	const many = 30
	cases := []struct {
		name string
		p    progress
		in   bool // the apply loop is inside a step
		lag  bool
	}{
		{"all is applied", progress{handedOver: 9, commit: 9, applied: 9, ready: true}, false, false},
		{"a leader's state machine is behind", progress{handedOver: 9, commit: 9, applied: 8, ready: true}, false, true},
		{"a no-op was handed over and is invisible", progress{handedOver: 9, commit: 9, applied: 8}, false, false},
		{"raft hands nothing over", progress{handedOver: 7, commit: 9, applied: 7}, false, true},
		{"a step does not end", progress{handedOver: 9, commit: 9, applied: 9}, true, true},
	}
	for _, c := range cases {
		var l applyLag
		var now time.Duration
		if c.in {
			l.begin()
		}
		age := lagAfter(&l, &now, many, c.p)
		if (age > 0) != c.lag || c.lag && age < (many-1)*gateEvery {
			t.Errorf("%s: after %v the age is %v", c.name, many*gateEvery, age)
		}
		if c.in {
			l.end()
		}
		if age := lagAfter(&l, &now, 1, progress{handedOver: 9, commit: 9, applied: 9, ready: true}); age > 0 {
			t.Errorf("%s: the age is %v when all is applied", c.name, age)
		}
	}
}

// Steps that end make a long replay no hang, and a follower's lag is none.
func TestD1_AReplayIsNoHang(t *testing.T) {
	var l applyLag
	var now time.Duration
	for i := uint64(1); i <= 300; i++ {
		l.begin()
		if age := lagAfter(&l, &now, 2, progress{handedOver: i, commit: 1000, applied: i / 2}); age > gateEvery {
			t.Fatalf("look %d: a replay that moves is %v old", i, age)
		}
		l.end()
	}
}

// On a leader the oldest entry counts, however fast it moves on behind.
func TestD1_ALeadersLagIsItsOldestEntry(t *testing.T) {
	var l applyLag
	var now, age time.Duration
	for i := range uint64(200) {
		age = lagAfter(&l, &now, 1, progress{handedOver: 100 + i, commit: 100 + i, applied: 80 + i, ready: true})
	}
	if age < 19*gateEvery || age > 21*gateEvery {
		t.Errorf("a leader 20 looks behind has an age of %v", age)
	}
}

func TestD1_MarksAreBounded(t *testing.T) {
	var l applyLag
	var now, age time.Duration
	for i := range uint64(2 * maxLagMarks) {
		age = lagAfter(&l, &now, 1, progress{handedOver: 100 + i, commit: 100 + i, applied: 80, ready: true})
	}
	if len(l.marks) > maxLagMarks {
		t.Errorf("%d marks are kept", len(l.marks))
	}
	if want := (2*maxLagMarks - 1) * gateEvery; age != want {
		t.Errorf("the age is %v; want %v", age, want)
	}
}
