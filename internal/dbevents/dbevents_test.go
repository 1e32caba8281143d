package dbevents

import (
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestStalledTimeGrowsWhileAStallLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Counter
		want := func(stalls uint64, stalled time.Duration, stalling bool) {
			t.Helper()
			if e := c.Events(); e.Stalls != stalls || e.Stalled != stalled || e.Stalling != stalling || c.Stalling() != stalling {
				t.Errorf("%+v; want %d stalls of %v, stalling %t", e, stalls, stalled, stalling)
			}
		}
		c.StallEnd() // without a beginning
		want(0, 0, false)
		c.StallBegin()
		time.Sleep(time.Second)
		want(1, time.Second, true)
		c.StallBegin() // within the first
		time.Sleep(time.Second)
		c.StallEnd()
		want(2, 2*time.Second, true)
		if took := c.StallEnd(); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(time.Second)
		want(2, 2*time.Second, false)
	})
}
