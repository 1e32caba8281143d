package transport

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// pair is two nodes with a replica of one group each. Nobody reads their
// consumers unless the test does.
func pair(t *testing.T, change func(i int, x *testNode)) (l *lan, a, b *Group) {
	l = newLAN(t, 2, change)
	return l, l.nodes[0].group(testGroup), l.nodes[1].group(testGroup)
}

// answerAll is a raft that agrees to everything until its group is closed.
func answerAll(g *Group) {
	for {
		select {
		case rpc := <-g.Consumer():
			answer(rpc)
		case <-g.closed:
			return
		}
	}
}

func answer(rpc raft.RPC) {
	switch r := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		rpc.Respond(&raft.AppendEntriesResponse{Term: r.Term, LastLog: r.PrevLogEntry + uint64(len(r.Entries)), Success: true}, nil)
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{Term: r.Term, Granted: true}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{Term: r.Term, Granted: true}, nil)
	case *raft.TimeoutNowRequest:
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}
}

func heartbeat(from, to *Group) error {
	return from.AppendEntries("", to.LocalAddr(), &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{})
}

func probe(from, to *Group) error {
	return from.AppendEntries("", to.LocalAddr(), &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, PrevLogTerm: 1},
		&raft.AppendEntriesResponse{})
}

func wantKind(t *testing.T, what string, err error, kind kverr.Kind) {
	t.Helper()
	if kverr.KindOf(err) != kind {
		t.Errorf("%s: error %v, expected %s", what, err, kind)
	}
}

func TestGroup_AllRequestsArriveAndAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b)
		header := raft.RPCHeader{ProtocolVersion: 3}
		var ar raft.AppendEntriesResponse
		err := a.AppendEntries("", b.LocalAddr(), &raft.AppendEntriesRequest{RPCHeader: header, Term: 4, PrevLogEntry: 9,
			Entries: []*raft.Log{{Index: 10, Data: []byte("x")}}}, &ar)
		if err != nil || !ar.Success || ar.LastLog != 10 || ar.Term != 4 || string(ar.ID) != string(b.LocalAddr()) {
			t.Errorf("append: %+v %v", ar, err)
		}
		var vr raft.RequestVoteResponse
		err = a.RequestVote("", b.LocalAddr(), &raft.RequestVoteRequest{Term: 5}, &vr)
		if err != nil || !vr.Granted || vr.Term != 5 {
			t.Errorf("vote: %+v %v", vr, err)
		}
		var pr raft.RequestPreVoteResponse
		err = a.RequestPreVote("", b.LocalAddr(), &raft.RequestPreVoteRequest{Term: 6}, &pr)
		if err != nil || !pr.Granted || pr.Term != 6 {
			t.Errorf("pre-vote: %+v %v", pr, err)
		}
		if err := a.TimeoutNow("", b.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err != nil {
			t.Errorf("timeout now: %v", err)
		}
	})
}

func TestGroup_HeaderNamesTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go func() {
			_ = a.RequestVote("", b.LocalAddr(), &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3}}, new(raft.RequestVoteResponse))
		}()
		rpc := <-b.Consumer()
		h := rpc.Command.(raft.WithRPCHeader).GetRPCHeader()
		if h.ProtocolVersion != 3 || string(h.ID) != "n1/r101" || string(h.Addr) != "n1/r101" {
			t.Errorf("header %+v", h)
		}
		answer(rpc)
	})
}

func TestGroup_Refusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b) // who answers shows that a message got through
		err := a.AppendEntries("", raft.ServerAddress(ServerID("n2", 999)), &raft.AppendEntriesRequest{}, &raft.AppendEntriesResponse{})
		wantKind(t, "other replica", err, kverr.Unavailable)
		wantKind(t, "itself", heartbeat(a, a), kverr.Invalid)
		err = a.AppendEntries("", "127.0.0.1:80", &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{})
		wantKind(t, "address", err, kverr.Invalid)

		if _, err := l.nodes[1].net.Group(testGroup, 999); kverr.KindOf(err) != kverr.Conflict {
			t.Errorf("second replica of a group: %v", err)
		}
		l.nodes[1].net.Retire(testGroup, b.replica)
		wantKind(t, "retired", heartbeat(a, b), kverr.Unavailable)
		_ = b.Close()
		if _, err := l.nodes[1].net.Group(testGroup, b.replica); kverr.KindOf(err) != kverr.Conflict {
			t.Errorf("a retired replica came back: %v", err)
		}
	})
}

// TestGroup_BusyNeverBlocksTheStream: a raft that does not read fills its own
// queue; other groups on the stream do not notice.
func TestGroup_BusyNeverBlocksTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		other1, other2 := l.nodes[0].group(8), l.nodes[1].group(8)
		go answerAll(other2)
		busy := make(chan error)
		for range consumerDepth + 5 {
			go func() { busy <- heartbeat(a, b) }()
		}
		start := time.Now()
		for range 5 {
			wantKind(t, "full queue", <-busy, kverr.Overloaded)
		}
		if err := heartbeat(other1, other2); err != nil {
			t.Errorf("another group: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("took %s", d)
		}
		for range consumerDepth {
			wantKind(t, "no answer", <-busy, kverr.Unavailable)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("heartbeats ended after %s, not after the heartbeat timeout", d)
		}
	})
}

func TestGroup_CloseFailsEverythingAtOnce(t *testing.T) {
	for _, side := range []string{"asking", "asked", "asking network", "asked network"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, a, b := pair(t, nil)
				defer l.close()
				errs := make(chan error, 2)
				go func() { errs <- heartbeat(a, b) }()
				go func() { errs <- probe(a, b) }()
				synctest.Wait()
				start := time.Now()
				want := kverr.Closed
				switch side {
				case "asking":
					_ = a.Close()
				case "asked":
					_ = b.Close()
					want = kverr.Unavailable
				case "asking network":
					l.nodes[0].net.Close()
				case "asked network":
					l.nodes[1].net.Close()
					want = kverr.Unavailable
				}
				for range 2 {
					wantKind(t, side, <-errs, want)
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("took %s", d)
				}
			})
		})
	}
}

func TestGroup_AfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		_ = b.Close()
		_ = b.Close() // twice is fine
		b.Campaign()
		wantKind(t, "from a closed group", heartbeat(b, a), kverr.Closed)
		wantKind(t, "to a closed group", heartbeat(a, b), kverr.Unavailable)
		again, err := l.nodes[1].net.Group(testGroup, b.replica)
		if err != nil {
			t.Fatalf("restart in place: %v", err)
		}
		go answerAll(again)
		if err := heartbeat(a, again); err != nil {
			t.Errorf("to the restarted group: %v", err)
		}
		l.nodes[1].net.Close()
		if _, err := l.nodes[1].net.Group(9, 1); kverr.KindOf(err) != kverr.Closed {
			t.Errorf("group on a closed network: %v", err)
		}
	})
}

// TestGroup_DetailOfFailure: raft compares one error text that a peer's raft
// gives to a pre-vote, so it must arrive.
func TestGroup_DetailOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go func() { (<-b.Consumer()).RespChan <- raft.RPCResponse{Error: errors.New("unexpected command")} }()
		err := a.RequestPreVote("", b.LocalAddr(), &raft.RequestPreVoteRequest{}, &raft.RequestPreVoteResponse{})
		if err == nil || !strings.Contains(err.Error(), "unexpected command") {
			t.Errorf("error %v", err)
		}
		go func() { (<-b.Consumer()).RespChan <- raft.RPCResponse{} }()
		wantKind(t, "empty answer", heartbeat(a, b), kverr.Internal)
		go func() { (<-b.Consumer()).RespChan <- raft.RPCResponse{Response: &raft.RequestVoteResponse{}} }()
		wantKind(t, "answer to something else", heartbeat(a, b), kverr.Internal)
	})
}

func TestGroup_Campaign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, _ := pair(t, nil)
		defer l.close()
		for range consumerDepth + 3 {
			a.Campaign() // never blocks
		}
		rpc := <-a.Consumer()
		if _, ok := rpc.Command.(*raft.TimeoutNowRequest); !ok {
			t.Fatalf("got %T", rpc.Command)
		}
		answer(rpc) // nobody waits for it, and still it does not block
	})
}

func TestGroup_RefusesForeignSnapshotsAndPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		data := strings.NewReader("snapshot")
		err := a.InstallSnapshot("", b.LocalAddr(), &raft.InstallSnapshotRequest{}, &raft.InstallSnapshotResponse{}, data)
		wantKind(t, "snapshot", err, kverr.Internal)
		if _, err := a.AppendEntriesPipeline("", b.LocalAddr()); err != raft.ErrPipelineReplicationNotSupported {
			t.Errorf("raft compares this error by value, got %v", err)
		}
	})
}

func TestGroup_TooLargeIsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		go answerAll(b)
		send := func(size int) error {
			return a.AppendEntries("", b.LocalAddr(), &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1,
				Entries: []*raft.Log{{Index: 2, Data: make([]byte, size)}}}, &raft.AppendEntriesResponse{})
		}
		wantKind(t, "too large", send(MaxEnvelopeBytes), kverr.Invalid)
		if err := heartbeat(a, b); err != nil { // lets the next append go
			t.Fatal(err)
		}
		if err := send(MaxEnvelopeBytes - 1024); err != nil {
			t.Errorf("the largest that fits: %v", err)
		}
	})
}

// TestTamper_SendAfterClose: a message that was held back is let go when nobody
// is there any more.
func TestTamper_SendAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []func()
		l, a, b := pair(t, func(i int, x *testNode) {
			x.opts.Tamper = func(_ shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
				held = append(held, func() { send(m) })
			}
		})
		defer l.close()
		go answerAll(b)
		done := make(chan error, 1)
		go func() { done <- heartbeat(a, b) }()
		synctest.Wait()
		held[0]() // the request passes, the answer is held
		synctest.Wait()
		if len(held) != 2 {
			t.Fatalf("%d messages, expected a request and its answer", len(held))
		}
		l.nodes[1].net.Close()
		held[1]()
		wantKind(t, "the stream ended before the answer", <-done, kverr.Unavailable)
		l.nodes[0].net.Close()
		held[0]()
		wantKind(t, "closed", heartbeat(a, b), kverr.Closed)
	})
}
