package transport

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestS1_HeartbeatsGoThroughTheConsumer: the handler that raft offers for
// heartbeats is never called.
func TestS1_HeartbeatsGoThroughTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		b.SetHeartbeatHandler(func(rpc raft.RPC) {
			t.Error("the heartbeat handler was called")
			answer(rpc)
		})
		done := make(chan error, 1)
		go func() { done <- heartbeat(a, b) }()
		synctest.Wait()
		select {
		case rpc := <-b.Consumer():
			answer(rpc)
		default:
			t.Error("the heartbeat is not in the consumer")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fastPath is what a transport would be that calls the heartbeat handler, as
// raft's own network transport does.
type fastPath struct {
	*Group
	consumer chan raft.RPC

	mu      sync.Mutex
	handler func(raft.RPC)
}

func newFastPath(g *Group) *fastPath {
	f := &fastPath{Group: g, consumer: make(chan raft.RPC, consumerDepth)}
	go f.sort()
	return f
}

func (f *fastPath) Consumer() <-chan raft.RPC { return f.consumer }

func (f *fastPath) SetHeartbeatHandler(h func(raft.RPC)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handler = h
}

func (f *fastPath) sort() {
	for {
		select {
		case rpc := <-f.Group.Consumer():
			if r, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && isHeartbeat(r) {
				f.mu.Lock()
				handle := f.handler
				f.mu.Unlock()
				handle(rpc)
				continue
			}
			select {
			case f.consumer <- rpc:
			case <-f.closed:
				return
			}
		case <-f.closed:
			return
		}
	}
}

// TestS1_DeposedLeaderStampsNoForeignTerm is hashicorp/raft#695 in one step: a
// heartbeat of a newer term reaches a leader that waits for work, then it is
// given some. Whatever becomes of the entry, the old leader must not write it
// under the new leader's term: the new leader may have another one there.
func TestS1_DeposedLeaderStampsNoForeignTerm(t *testing.T) {
	for _, c := range []struct {
		name    string
		wrap    func(int, *Group) raft.Transport
		diverge bool
	}{
		{"this transport", nil, false},
		{"with the fast path", func(_ int, g *Group) raft.Transport { return newFastPath(g) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := deposeAndApply(t, c.wrap); got != c.diverge {
					t.Errorf("entry under a foreign term: %t, expected %t", got, c.diverge)
				}
			})
		})
	}
}

func deposeAndApply(t *testing.T, wrap func(int, *Group) raft.Transport) (foreign bool) {
	l := newLAN(t, 4, nil)
	defer l.close()
	usurper := l.nodes[3].group(testGroup) // no raft behind it
	rg := startRaft(l.nodes[:3], testGroup, nil, wrap)
	defer rg.stop()
	leader := rg.leader(nil)
	rg.put("base")
	synctest.Wait()
	term := leader.raft.CurrentTerm()
	before := leader.raft.LastIndex()
	err := usurper.AppendEntries("", leader.group.LocalAddr(), &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3}, Term: term + 1}, &raft.AppendEntriesResponse{})
	if err != nil {
		t.Fatal(err)
	}
	leader.raft.Apply([]byte("bogus"), 0)
	synctest.Wait()
	var entry raft.Log
	return leader.store.GetLog(before+1, &entry) == nil && entry.Term == term+1 && string(entry.Data) == "bogus"
}

// TestS1_HealedLeaderDoesNotDiverge plays the same defect through a whole
// cluster: a leader with a long lease is cut off, another is elected and
// writes, the cut heals, and the first thing the old one hears is a heartbeat
// while a write waits for it.
func TestS1_HealedLeaderDoesNotDiverge(t *testing.T) {
	const runs = 6
	for _, c := range []struct {
		name string
		wrap func(int, *Group) raft.Transport
		ok   func(diverged int) bool
	}{
		{"this transport", nil, func(n int) bool { return n == 0 }},
		{"with the fast path", func(_ int, g *Group) raft.Transport { return newFastPath(g) },
			func(n int) bool { return n > 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			diverged := 0
			for range runs {
				synctest.Test(t, func(t *testing.T) {
					if cutOffAndHeal(t, c.wrap) {
						diverged++
					}
				})
			}
			t.Logf("%d of %d runs diverged", diverged, runs)
			if !c.ok(diverged) {
				t.Errorf("%d of %d runs diverged", diverged, runs)
			}
		})
	}
}

func cutOffAndHeal(t *testing.T, wrap func(int, *Group) raft.Transport) (diverged bool) {
	w := newWeather(1)
	l := newLAN(t, 3, w.over)
	defer l.close()
	rg := l.startRaft(testGroup, func(i int, c *raft.Config) {
		if i == 0 { // outlives the others' election timeout
			c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Second, 20*time.Second, 20*time.Second
		}
	}, wrap)
	defer rg.stop()
	old := rg.members[0]
	for rg.leader(nil) != old {
		_ = rg.leader(nil).raft.LeadershipTransferToServer(ServerID("n1", 101), "n1/r101").Error()
		time.Sleep(300 * time.Millisecond)
	}
	rg.put("base")
	time.Sleep(500 * time.Millisecond)
	w.isolate("n1")
	fresh := rg.leader(func(m *raftMember) bool { return m != old })
	if err := fresh.apply("y"); err != nil {
		t.Fatal(err)
	}
	term := old.raft.CurrentTerm()
	w.slowAppends(30 * time.Millisecond)
	w.heal()
	// With the fast path the newer term shows while the main loop still waits.
	eventually(t, 5*time.Second, "the old leader hears of the new term", func() bool { return old.raft.CurrentTerm() > term })
	_ = old.raft.Apply([]byte("x"), 100*time.Millisecond).Error()
	time.Sleep(3 * time.Second)
	_ = fresh.apply("z")
	time.Sleep(2 * time.Second)
	for _, m := range rg.members {
		if conflict(fresh.fsm.lines(), m.fsm.lines()) {
			diverged = true
		}
	}
	return diverged
}
