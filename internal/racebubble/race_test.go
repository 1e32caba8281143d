//go:build race

package racebubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheProcessHasOneP(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("GOMAXPROCS is %d, want 1: bubbles corrupt the race detector", n)
	}
}

// Without the one P this kills the process, unless the machine is so busy that it
// has no second core to give.
func TestGoroutinesOfABubbleRunDueTimers(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var looking sync.WaitGroup
		for range 8 {
			looking.Go(func() {
				for range 100_000 {
					select {
					case <-time.NewTimer(0).C:
					default:
						t.Error("a timer that is due does not fire")
					}
				}
			})
		}
		looking.Wait()
	})
}
