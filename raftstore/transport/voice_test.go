package transport

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

// D1: what a silent group may not send fails at once, what it has sent is given up,
// and it is made no candidate.
func TestD1_ASilentGroupSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t, 2, nil)
		defer l.close()
		a, b := l.nodes[0].group(7), l.nodes[1].group(7)
		target := raft.ServerAddress(b.self)
		type rpc struct {
			name string
			call func() error
		}
		term := uint64(3) // in one term an append waits when the one before has failed
		rpcs := []rpc{
			{"heartbeat", func() error {
				return a.AppendEntries("", target, &raft.AppendEntriesRequest{Term: term}, &raft.AppendEntriesResponse{})
			}},
			{"append", func() error {
				return a.AppendEntries("", target, &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 9, PrevLogTerm: 2},
					&raft.AppendEntriesResponse{})
			}},
			{"vote", func() error {
				return a.RequestVote("", target, &raft.RequestVoteRequest{Term: 3}, &raft.RequestVoteResponse{})
			}},
			{"pre-vote", func() error {
				return a.RequestPreVote("", target, &raft.RequestPreVoteRequest{Term: 3}, &raft.RequestPreVoteResponse{})
			}},
			{"timeout now", func() error {
				return a.TimeoutNow("", target, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
			}},
		}
		var waiting []<-chan error // nobody answers at b
		for _, r := range rpcs {
			ch := make(chan error, 1)
			go func() { ch <- r.call() }()
			waiting = append(waiting, ch)
		}
		synctest.Wait()
		if n := len(b.consumer); n != len(rpcs) {
			t.Fatalf("%d RPCs arrived; want %d", n, len(rpcs))
		}
		for range rpcs {
			<-b.consumer
		}
		start := time.Now()
		a.SetVoice(Farewell)
		a.SetVoice(Silent)
		for i, ch := range waiting {
			if err := <-ch; !errors.Is(err, kverr.Unavailable) {
				t.Errorf("a %s under way: %v; want unavailable", rpcs[i].name, err)
			}
		}
		term++
		for _, r := range rpcs {
			if err := r.call(); !errors.Is(err, kverr.Unavailable) {
				t.Errorf("a %s of a silent group: %v; want unavailable", r.name, err)
			}
		}
		a.Campaign()
		synctest.Wait()
		if took := time.Since(start); took > 0 {
			t.Errorf("refusals took %v", took)
		}
		if len(b.consumer) > 0 {
			t.Errorf("%T arrived from a silent group", (<-b.consumer).Command)
		}
		if len(a.consumer) > 0 {
			t.Error("a silent group campaigns")
		}
		if err := b.TimeoutNow("", raft.ServerAddress(a.self), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); !errors.Is(err, kverr.Overloaded) {
			t.Errorf("a leadership offered to a silent group: %v; want refused as busy", err)
		}

		a.SetVoice(Farewell)
		go func() { _ = rpcs[4].call() }()
		if err := rpcs[0].call(); !errors.Is(err, kverr.Unavailable) {
			t.Errorf("a heartbeat with the farewell: %v", err)
		}
		if _, ok := (<-b.consumer).Command.(*raft.TimeoutNowRequest); !ok {
			t.Error("the successor was not named")
		}
		a.SetVoice(Speaking)
		go func() { _ = rpcs[0].call() }()
		<-b.consumer
	})
}

// D1: a snapshot is the leader's voice too.
func TestD1_ASilentGroupSendsNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		s.a.SetVoice(Silent)
		wantKind(t, "begun in silence", <-s.sending(), kverr.Unavailable)
		synctest.Wait()
		if len(s.b.Consumer()) > 0 {
			t.Error("a silent group's snapshot arrived")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newShipment(t, nil)
		defer s.close()
		done := s.sending()
		time.Sleep(time.Second)
		s.a.SetVoice(Silent)
		wantKind(t, "under way", <-done, kverr.Unavailable)
		synctest.Wait()
		rpc := <-s.b.Consumer()
		_, err := io.ReadAll(rpc.Reader)
		rpc.Respond(&raft.InstallSnapshotResponse{}, err)
		if err == nil {
			t.Error("raft reads a snapshot whose leader fell silent")
		}
	})
}
