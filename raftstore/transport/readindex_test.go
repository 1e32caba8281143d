package transport

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

type indexes struct {
	of  []uint64
	err error
}

func readIndex(n *Network, to shardmap.NodeID, groups []uint64, d time.Duration) <-chan indexes {
	done := make(chan indexes, 2)
	n.ReadIndex(to, groups, d, func(of []uint64, err error) { done <- indexes{of, err} })
	return done
}

// An index is asked for and answered whenever its owner likes, once, and not to
// somebody else.
func TestReadIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _ := pair(t, nil)
		defer l.close()
		n1 := l.nodes[0].net
		wantKind(t, "nobody to answer", (<-readIndex(n1, "n2", []uint64{7}, time.Second)).err, kverr.Overloaded)

		var answers []func(...uint64)
		l.nodes[1].net.OnReadIndex(func(groups []uint64, answer func([]uint64)) {
			if fmt.Sprint(groups) != "[7 9]" {
				t.Errorf("asked for %v", groups)
			}
			answers = append(answers, func(of ...uint64) { answer(of) })
		})
		first := readIndex(n1, "n2", []uint64{7, 9}, time.Second)
		second := readIndex(n1, "n2", []uint64{7, 9}, 2*time.Second)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait() // the race detector knows of it, not of the sleep
		answers[1](0, 20)
		if got := <-second; got.err != nil || fmt.Sprint(got.of) != "[0 20]" {
			t.Errorf("the second question: %+v", got)
		}
		wantKind(t, "first", (<-first).err, kverr.Unavailable)
		answers[0](1, 2) // too late
		third := readIndex(n1, "n2", []uint64{7, 9}, time.Second)
		synctest.Wait()
		if len(third) != 0 {
			t.Errorf("a late answer came to another question: %+v", <-third)
		}
		answers[2](5)
		wantKind(t, "an answer missing", (<-third).err, kverr.Internal)
		wantKind(t, "itself", (<-readIndex(n1, "n1", []uint64{7}, time.Second)).err, kverr.Invalid)
		last := readIndex(n1, "n2", []uint64{7, 9}, time.Second)
		synctest.Wait()
		n1.Close()
		wantKind(t, "closed", (<-last).err, kverr.Closed)
		answers[3](1, 2)
		if len(first)+len(second)+len(third)+len(last) != 0 {
			t.Error("a question was answered twice")
		}
	})
}
