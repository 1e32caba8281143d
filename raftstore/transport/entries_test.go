package transport

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A follower without room declines entries, not heartbeats, and gets them soon
// after it has room: raft has not heard of a failure.
func TestEntriesWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b)
		var room atomic.Bool
		var largest atomic.Int64
		l.nodes[1].net.OnEntries(func(bytes int) bool {
			largest.Store(int64(bytes))
			return room.Load()
		})
		r := entriesUpTo(3, 7, 9)
		r.Entries[0].Data = make([]byte, 1000)
		start := time.Now()
		done := make(chan error, 1)
		go func() { done <- a.send(b, r) }()
		time.Sleep(20 * time.Second)
		if err := a.send(b, &raft.AppendEntriesRequest{Term: 3}); err != nil {
			t.Errorf("a heartbeat: %v", err)
		}
		select {
		case err := <-done:
			t.Fatalf("the append ended without room: %v", err)
		default:
		}
		if largest.Load() != 1000 {
			t.Errorf("asked for %d bytes; want 1000", largest.Load())
		}
		if p, _ := a.PeerProgress(raft.ServerID(b.LocalAddr())); p.Failures > 0 {
			t.Errorf("%d failures were counted", p.Failures)
		}
		room.Store(true)
		healed := time.Now()
		if err := <-done; err != nil {
			t.Errorf("the append: %v", err)
		}
		if took := time.Since(healed); took > noSpacePause+100*time.Millisecond {
			t.Errorf("%v after %v without room the entries were still not there", took, healed.Sub(start))
		}
	})
}

// Who waits for a follower's room can be called back.
func TestEntriesThatWaitForRoomCanBeInterrupted(t *testing.T) {
	for name, end := range map[string]func(a, b *Group){
		"interrupted": func(a, b *Group) { a.Interrupt(raft.ServerID(b.LocalAddr())) },
		"deposed":     func(a, _ *Group) { a.Withdraw(3) },
		"silent":      func(a, _ *Group) { a.SetVoice(Silent) },
		"closed":      func(a, _ *Group) { _ = a.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a, b := pair(t, nil)
				defer l.close()
				go answerAll(b)
				l.nodes[1].net.OnEntries(func(int) bool { return false })
				done := make(chan error, 1)
				go func() { done <- a.send(b, entriesUpTo(3, 7, 9)) }()
				time.Sleep(10*time.Second + noSpacePause/3) // in the middle of a pause
				start := time.Now()
				end(a, b)
				err := <-done
				if err == nil || errors.Is(err, kverr.NoSpace) {
					t.Errorf("it ended with %v", err)
				}
				most := time.Duration(0)
				if name == "silent" { // the next try finds out
					most = noSpacePause
				}
				if took := time.Since(start); took > most {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
