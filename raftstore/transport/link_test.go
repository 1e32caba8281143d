package transport

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func TestLink_BrokenStreamFailsItsCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		errs := make(chan error, 2)
		go func() { errs <- heartbeat(a, b) }()
		go func() { errs <- probe(a, b) }()
		synctest.Wait()
		start := time.Now()
		l.nodes[1].stopServer()
		for range 2 {
			wantKind(t, "broken", <-errs, kverr.Unavailable)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("took %s", d)
		}
	})
}

// TestLink_WaitingForAPeerThatIsDown: what waits how long, and that all of it
// goes out when the peer is back.
func TestLink_WaitingForAPeerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b)
		l.nodes[1].net.OnConfirm(func(qs []*peerv1.TermQuestion) Confirmation { return Confirmation{Same: make([]bool, len(qs))} })
		if heartbeat(a, b) != nil || probe(a, b) != nil {
			t.Fatal("not connected")
		}
		l.nodes[1].stopServer()
		synctest.Wait()
		for _, c := range []struct {
			what string
			call func() error
			wait time.Duration
		}{
			{"confirm", func() error { return (<-confirm(l.nodes[0].net, "n2", nil, time.Minute)).err }, 0},
			{"timeout now", func() error {
				return a.TimeoutNow("", b.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
			}, 0},
			{"heartbeat", func() error { return heartbeat(a, b) }, time.Second},
			{"vote", func() error {
				return a.RequestVote("", b.LocalAddr(), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
			}, time.Second},
			{"append", func() error { return probe(a, b) }, appendPatience + time.Second},
		} {
			start := time.Now()
			wantKind(t, c.what, c.call(), kverr.Unavailable)
			if d := time.Since(start); d != c.wait {
				t.Errorf("%s failed after %s, expected %s", c.what, d, c.wait)
			}
		}
		waiting := make(chan error)
		go func() { waiting <- probe(a, b) }() // held back until a heartbeat is answered
		go func() {
			for heartbeat(a, b) != nil {
			}
		}()
		time.Sleep(4 * time.Second)
		l.nodes[1].startServer()
		start := time.Now()
		if err := <-waiting; err != nil || time.Since(start) > 1200*time.Millisecond {
			t.Errorf("append went through %s after the peer came back: %v", time.Since(start), err)
		}
	})
}

// TestLink_HastyCallsMakeTheLinkTry: confirms fail at once while a peer is down,
// but they are reason enough to look whether it is back.
func TestLink_HastyCallsMakeTheLinkTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 2, nil)
		defer l.close()
		l.nodes[1].net.OnConfirm(func(qs []*peerv1.TermQuestion) Confirmation { return Confirmation{Same: make([]bool, len(qs))} })
		ask := func() error { return (<-confirm(l.nodes[0].net, "n2", nil, 2*time.Second)).err }
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		l.nodes[1].stopServer()
		time.Sleep(time.Minute) // nobody asks: the link sleeps
		wantKind(t, "down", ask(), kverr.Unavailable)
		l.nodes[1].startServer()
		eventually(t, 3*time.Second, "a confirm goes through", func() bool { return ask() == nil })
	})
}

func TestLink_NodeWithoutAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 1, nil)
		defer l.close()
		start := time.Now()
		wantKind(t, "no such node", (<-confirm(l.nodes[0].net, "n9", nil, time.Minute)).err, kverr.Unavailable)
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %s", d)
		}
	})
}

// TestLink_WrongCluster: whoever cares can tell why there is no stream.
func TestLink_WrongCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 2, func(i int, x *testNode) { x.cluster.Store(fmt.Sprint("c", i)) })
		defer l.close()
		err := (<-confirm(l.nodes[0].net, "n2", nil, time.Minute)).err
		wantKind(t, "other cluster", err, kverr.Unavailable)
		if !errors.Is(err, kverr.WrongCluster) {
			t.Errorf("got %v", err)
		}
	})
}

// TestLink_FrozenPeer: its kernel accepts, but it never says hello.
func TestLink_FrozenPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 2, nil)
		defer l.close()
		l.nodes[1].stopServer()
		l.nodes[1].startServerWith(func(s peerv1.Peer_ExchangeServer) error { <-s.Context().Done(); return nil })
		start := time.Now()
		wantKind(t, "frozen", (<-confirm(l.nodes[0].net, "n2", nil, time.Minute)).err, kverr.Unavailable)
		if d := time.Since(start); d != openTimeout {
			t.Errorf("found out after %s", d)
		}
	})
}

// TestLink_StalledStream: what waits for a peer that does not read is bounded,
// and what is given up makes room.
func TestLink_StalledStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		stalled := l.nodes[1]
		stalled.stopServer()
		stalled.startServerWith(func(s peerv1.Peer_ExchangeServer) error {
			first, err := s.Recv()
			if err != nil {
				return err
			}
			h, _ := stalled.net.hello("n1", first.GetHello().GetLane())
			if err := s.Send(&peerv1.Envelope{Hello: h}); err != nil {
				return err
			}
			<-s.Context().Done()
			return nil
		})
		data := make([]byte, 1<<20)
		send := func() error { // past the gate, which would hold all back after the first failure
			return a.append(b.LocalAddr(), route{lane: peerv1.Lane_LANE_LOG, limit: 2 * time.Second},
				appendToProto(&raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1,
					Entries: []*raft.Log{{Index: 2, Data: data}}}), &raft.AppendEntriesResponse{})
		}
		for round := range 2 {
			errs := make(chan error)
			for range 40 {
				go func() { errs <- send() }()
			}
			refused := 0
			for range 40 {
				if kverr.KindOf(<-errs) == kverr.Overloaded {
					refused++
				}
			}
			if refused < 40-logQueueBytes>>20-2 || refused > 40-logQueueBytes>>20+1 {
				t.Errorf("round %d: %d of 40 refused", round, refused)
			}
		}
		link, _ := a.net.link("n2", peerv1.Lane_LANE_LOG)
		if !link.out.empty() {
			t.Error("messages that nobody waits for are still queued")
		}
	})
}

// TestLanes: control messages never queue behind log data.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lanes = map[string]peerv1.Lane{}
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b)
		sent := func(lane peerv1.Lane) uint64 {
			link, _ := a.net.link("n2", lane)
			link.mu.Lock()
			defer link.mu.Unlock()
			return link.mu.lastRPC
		}
		note := func(what string, f func() error) {
			before := sent(peerv1.Lane_LANE_LOG)
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			lanes[what] = peerv1.Lane_LANE_CONTROL
			if sent(peerv1.Lane_LANE_LOG) > before {
				lanes[what] = peerv1.Lane_LANE_LOG
			}
		}
		appendReq := func(r raft.AppendEntriesRequest) func() error {
			return func() error { return a.AppendEntries("", b.LocalAddr(), &r, &raft.AppendEntriesResponse{}) }
		}
		note("heartbeat", appendReq(raft.AppendEntriesRequest{Term: 1}))
		note("commit tick", appendReq(raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 3, PrevLogTerm: 1, LeaderCommitIndex: 3}))
		note("first entry", appendReq(raft.AppendEntriesRequest{Term: 1, Entries: []*raft.Log{{Index: 1}}}))
		note("vote", func() error {
			return a.RequestVote("", b.LocalAddr(), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
		})
		note("pre-vote", func() error {
			return a.RequestPreVote("", b.LocalAddr(), &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
		})
		note("timeout now", func() error {
			return a.TimeoutNow("", b.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
		})
		want := fmt.Sprint(map[string]peerv1.Lane{
			"heartbeat": peerv1.Lane_LANE_CONTROL, "commit tick": peerv1.Lane_LANE_LOG, "first entry": peerv1.Lane_LANE_LOG,
			"vote": peerv1.Lane_LANE_CONTROL, "pre-vote": peerv1.Lane_LANE_CONTROL, "timeout now": peerv1.Lane_LANE_CONTROL,
		})
		if got := fmt.Sprint(lanes); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestSendAll_PacksWhatWaits: while one envelope is being written, the others'
// messages gather for the next.
func TestSendAll_PacksWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(100, 10*batchBytes)
		sizes := make(chan int, 10)
		gate := make(chan struct{})
		go func() {
			_ = sendAll(t.Context(), o, gatedSender{gate, sizes}, func([]*peerv1.Message) {})
		}()
		push := func(n, size int) {
			for range n {
				o.push(&peerv1.Message{}, size)
			}
			synctest.Wait()
		}
		push(1, 10)
		push(5, 10)
		push(3, batchBytes/2)
		push(1, 2*batchBytes)
		for i, want := range []int{1, 5 + 1, 2, 1} {
			gate <- struct{}{}
			if got := <-sizes; got != want {
				t.Errorf("envelope %d has %d messages, expected %d", i, got, want)
			}
		}
	})
}

type gatedSender struct {
	gate  chan struct{}
	sizes chan int
}

func (s gatedSender) Send(e *peerv1.Envelope) error {
	<-s.gate
	s.sizes <- len(e.GetMessages())
	return nil
}

// TestPause: attempts slow down to one a second, and pairs differ.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPause("n1", "n2", peerv1.Lane_LANE_LOG)
		for i := range 20 {
			start := time.Now()
			p.sleep(t.Context(), start)
			full := min(firstPause<<min(i, 10), maxPause)
			if d := time.Since(start); d < full/2 || d > full {
				t.Errorf("pause %d took %s, expected %s to %s", i, d, full/2, full)
			}
		}
		start := time.Now()
		time.Sleep(2 * maxPause)
		if again := time.Now(); !p.sleep(t.Context(), start) || time.Since(again) != 0 {
			t.Errorf("waited another %s after an attempt that took longer than the pause", time.Since(again))
		}
		seen := map[time.Duration]bool{}
		for i := range 10 {
			p := newPause("n1", shardmap.NodeID(fmt.Sprint("n", i)), peerv1.Lane_LANE_LOG)
			start := time.Now()
			p.sleep(t.Context(), start)
			seen[time.Since(start)] = true
		}
		if len(seen) < 9 {
			t.Errorf("10 pairs have only %d different pauses", len(seen))
		}
	})
}
