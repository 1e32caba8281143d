package transport

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// entriesUpTo is an append of one entry by the leader of a term.
func entriesUpTo(term, index, commit uint64) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{Term: term, PrevLogEntry: index - 1, PrevLogTerm: 1, LeaderCommitIndex: commit,
		Entries: []*raft.Log{{Index: index, Term: term}}}
}

func (g *Group) send(to *Group, r *raft.AppendEntriesRequest) error {
	return g.AppendEntries("", to.LocalAddr(), r, &raft.AppendEntriesResponse{})
}

func TestPeerProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeather(1)
		l, a, b := pair(t, w.over)
		defer l.close()
		go answerAll(b)
		id := raft.ServerID(b.LocalAddr())
		if _, known := a.PeerProgress(id); known {
			t.Error("a follower that was never sent anything is known")
		}
		if err := a.send(b, entriesUpTo(3, 7, 9)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		p, known := a.PeerProgress(id)
		want := Progress{Term: 3, Acked: 7, Committed: 7, Moved: start, Contact: start, Asked: start}
		if !known || p != want {
			t.Errorf("after an append: %+v, expected %+v", p, want)
		}
		time.Sleep(time.Second)
		if err := a.send(b, &raft.AppendEntriesRequest{Term: 3}); err != nil { // a heartbeat
			t.Fatal(err)
		}
		want.Contact = time.Now()
		if p, _ = a.PeerProgress(id); p != want {
			t.Errorf("after a heartbeat: %+v, expected %+v", p, want)
		}
		w.cut(nodeName(0), nodeName(1))
		asked := time.Now()
		failed := make(chan error)
		go func() { failed <- a.send(b, entriesUpTo(3, 8, 9)) }()
		synctest.Wait()
		want.Asked, want.Waiting = asked, true
		if p, _ = a.PeerProgress(id); p != want {
			t.Errorf("with an append in the air: %+v, expected %+v", p, want)
		}
		wantKind(t, "lost append", <-failed, kverr.Unavailable)
		want.Waiting, want.Failures = false, 1
		if p, _ = a.PeerProgress(id); p != want {
			t.Errorf("after a lost append: %+v, expected %+v", p, want)
		}
		w.heal()
		if err := a.send(b, entriesUpTo(4, 9, 0)); err != nil { // a new term, so nothing is held back
			t.Fatal(err)
		}
		if p, _ = a.PeerProgress(id); p.Term != 4 || p.Acked != 9 || p.Failures != 0 {
			t.Errorf("in the next term: %+v", p)
		}
	})
}

// TestLive_Backoff_AppendsWaitForAHeartbeat: one failure per outage. Were it one
// per attempt, raft would be asleep for seconds when the peer is back.
func TestLive_Backoff_AppendsWaitForAHeartbeat(t *testing.T) {
	for _, outage := range []struct {
		what       string
		start, end func(l *lan, w *weather, b *Group)
	}{
		{"hangs", func(_ *lan, w *weather, _ *Group) { w.isolate(nodeName(1)) },
			func(_ *lan, w *weather, _ *Group) { w.heal() }},
		{"refuses connections", func(l *lan, _ *weather, _ *Group) { l.nodes[1].stopServer() },
			func(l *lan, _ *weather, _ *Group) { l.nodes[1].startServer() }},
		{"lacks the replica", func(_ *lan, _ *weather, b *Group) { _ = b.Close() },
			func(l *lan, _ *weather, _ *Group) { go answerAll(l.nodes[1].group(testGroup)) }},
	} {
		t.Run(outage.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeather(1)
				l, a, b := pair(t, w.over)
				defer l.close()
				go answerAll(b)
				if err := a.send(b, entriesUpTo(1, 7, 7)); err != nil {
					t.Fatal(err)
				}
				outage.start(l, w, b)
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() { // as raft's heartbeat goroutine does
					defer close(stopped)
					for {
						_ = heartbeat(a, b)
						select {
						case <-stop:
							return
						case <-time.After(100 * time.Millisecond):
						}
					}
				}()
				sent := make(chan time.Time)
				failures := 0
				entry := entriesUpTo(1, 8, 8)
				raftSleeps := func() time.Duration { return 10 * time.Millisecond << max(min(failures, 12)-2, 0) }
				go func() { // as raft's replicator does
					for a.send(b, entry) != nil {
						failures++
						time.Sleep(raftSleeps())
					}
					sent <- time.Now()
				}()
				time.Sleep(10 * time.Minute)
				outage.end(l, w, b)
				back := time.Now()
				if late := (<-sent).Sub(back); late > 2200*time.Millisecond {
					t.Errorf("the entry arrived %v after the peer was back", late)
				}
				if entry.Entries != nil {
					t.Error("a held append keeps its entries in memory")
				}
				if failures > 3 {
					t.Errorf("raft saw %d failures in one outage and would sleep %v", failures, raftSleeps())
				}
				close(stop)
				<-stopped
			})
		})
	}
}

// TestGroup_HeldAppendsEnd: whatever holds an append back, these end it.
func TestGroup_HeldAppendsEnd(t *testing.T) {
	id := func(b *Group) raft.ServerID { return raft.ServerID(b.LocalAddr()) }
	for _, c := range []struct {
		what  string
		end   func(a, b *Group)
		kind  kverr.Kind
		final bool // for good: the next append of the term fails at once too
	}{
		{"interrupted", func(a, b *Group) { a.Interrupt(id(b)) }, kverr.Unavailable, false},
		{"withdrawn", func(a, _ *Group) { a.Withdraw(1) }, kverr.NotLeader, true},
		{"a later term", func(a, b *Group) { _, _ = a.follower(id(b), 2) }, kverr.NotLeader, true},
		{"a candidature", func(a, b *Group) {
			go func() {
				_ = a.RequestVote("", b.LocalAddr(), &raft.RequestVoteRequest{Term: 2}, &raft.RequestVoteResponse{})
			}()
		}, kverr.NotLeader, true},
		{"removed", func(a, _ *Group) { a.Retain(func(raft.ServerID) bool { return false }) }, kverr.Closed, false},
		{"closed", func(a, _ *Group) { _ = a.Close() }, kverr.Closed, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeather(1)
				l, a, b := pair(t, w.over)
				defer l.close()
				w.isolate(nodeName(1))
				wantKind(t, "the first append", a.send(b, entriesUpTo(1, 7, 7)), kverr.Unavailable)
				held := make(chan error, 1)
				go func() { held <- a.send(b, entriesUpTo(1, 7, 7)) }()
				time.Sleep(time.Minute)
				select {
				case err := <-held:
					t.Fatalf("it was not held back: %v", err)
				default:
				}
				start := time.Now()
				c.end(a, b)
				synctest.Wait()
				select {
				case err := <-held:
					wantKind(t, "the held append", err, c.kind)
				default:
					t.Fatal("it did not end")
				}
				if c.final {
					wantKind(t, "a later append of the term", a.send(b, entriesUpTo(1, 7, 7)), c.kind)
					wantKind(t, "a later heartbeat of the term", heartbeat(a, b), c.kind)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("that took %v", took)
				}
			})
		})
	}
}

// TestWithdraw_EndsCallsInTheAir: a heartbeat of a deposed leader that waits for
// its link must not arrive when the link is up.
func TestWithdraw_EndsCallsInTheAir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWeather(1)
		l, a, b := pair(t, w.over)
		defer l.close()
		w.isolate(nodeName(1))
		errs := make(chan error)
		go func() { errs <- heartbeat(a, b) }()
		synctest.Wait()
		start := time.Now()
		a.Withdraw(1)
		if err := <-errs; err == nil || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if err := a.send(b, &raft.AppendEntriesRequest{Term: 2}); errors.Is(err, kverr.NotLeader) {
			t.Errorf("a leadership that is not over was stopped: %v", err)
		}
	})
}

func TestHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []*peerv1.AppendEntries
		l, a, b := pair(t, func(i int, x *testNode) {
			x.opts.Tamper = func(_ shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
				if m.GetAppend() != nil {
					kept = append(kept, m.GetAppend())
				}
				send(m)
			}
		})
		defer l.close()
		go answerAll(b)
		if err := heartbeat(a, b); err != nil {
			t.Fatal(err)
		}
		if h := b.Heard(); h != (Heard{}) {
			t.Errorf("a sender that does not say was heard: %+v", h)
		}
		commit := uint64(40)
		a.SetCommitIndex(func() uint64 { return commit })
		if err := heartbeat(a, b); err != nil {
			t.Fatal(err)
		}
		if h := b.Heard(); h != (Heard{Term: 1, Commit: 40, At: time.Now()}) {
			t.Errorf("heard %+v", h)
		}
		// Raft must never see it: it would commit its own last index (S2).
		if last := kept[len(kept)-1]; last.GetLeaderCommit() != 0 || last.GetKnownCommit() != 40 {
			t.Errorf("a heartbeat with %v", last)
		}
		commit = 30
		_ = heartbeat(a, b) // overtaken
		if h := b.Heard(); h.Commit != 40 {
			t.Errorf("the index fell to %d within a term", h.Commit)
		}
		_ = a.send(b, &raft.AppendEntriesRequest{Term: 2})
		if h := b.Heard(); h.Term != 2 || h.Commit != 30 {
			t.Errorf("a new leader's word: %+v", h)
		}
	})
}
