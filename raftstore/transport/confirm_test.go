package transport

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func termQuestion(g *Group, term uint64) *peerv1.TermQuestion {
	return &peerv1.TermQuestion{Group: g.id, Replica: uint64(g.replica), Term: term}
}

type confirmation struct {
	Confirmation
	err error
}

func confirm(n *Network, to shardmap.NodeID, qs []*peerv1.TermQuestion, d time.Duration) <-chan confirmation {
	done := make(chan confirmation, 2)
	n.Confirm(to, qs, d, func(c Confirmation, err error) { done <- confirmation{c, err} })
	return done
}

func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, b := pair(t, nil)
		defer l.close()
		n1 := l.nodes[0].net
		qs := []*peerv1.TermQuestion{termQuestion(b, 1), termQuestion(b, 2)}
		wantKind(t, "nobody to answer", (<-confirm(n1, "n2", qs, time.Second)).err, kverr.Overloaded)

		answers, times := []bool{true, false}, []uint64{7, 0}
		l.nodes[1].net.OnConfirm(func(got []*peerv1.TermQuestion) Confirmation {
			if len(got) != 2 || got[1].GetTerm() != 2 || got[1].GetReplica() != 102 || got[1].GetGroup() != testGroup {
				t.Errorf("questions %v", got)
			}
			return Confirmation{Same: answers, WallMicros: 123456, Times: times}
		})
		c := <-confirm(n1, "n2", qs, time.Second)
		if c.err != nil || c.WallMicros != 123456 || len(c.Same) != 2 || !c.Same[0] || c.Same[1] || !slices.Equal(c.Times, times) {
			t.Errorf("got %+v", c)
		}
		times = times[:1]
		wantKind(t, "a time missing", (<-confirm(n1, "n2", qs, time.Second)).err, kverr.Internal)
		answers, times = answers[:1], nil
		wantKind(t, "an answer missing", (<-confirm(n1, "n2", qs, time.Second)).err, kverr.Internal)
		wantKind(t, "itself", (<-confirm(n1, "n1", qs, time.Second)).err, kverr.Invalid)
		n1.Close()
		wantKind(t, "closed", (<-confirm(n1, "n2", qs, time.Second)).err, kverr.Closed)
	})
}

// TestConfirm_DeadlineAndExactlyOnce: an answer after the deadline is dropped.
func TestConfirm_DeadlineAndExactlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(_ shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
			time.AfterFunc(70*time.Millisecond, func() { send(m) })
		}
		l, _, b := pair(t, func(_ int, x *testNode) { x.opts.Tamper = slow })
		defer l.close()
		l.nodes[1].net.OnConfirm(func([]*peerv1.TermQuestion) Confirmation { return Confirmation{Same: []bool{true}, WallMicros: 1} })
		for _, c := range []struct {
			deadline time.Duration
			kind     kverr.Kind
		}{{100 * time.Millisecond, kverr.Unavailable}, {200 * time.Millisecond, kverr.None}, {0, kverr.Unavailable}} {
			done := confirm(l.nodes[0].net, "n2", []*peerv1.TermQuestion{termQuestion(b, 1)}, c.deadline)
			wantKind(t, c.deadline.String(), (<-done).err, c.kind)
			time.Sleep(time.Second)
			if len(done) != 0 {
				t.Error("done was called twice")
			}
		}
	})
}

// TestR3_LateAnswerCountsForNoLaterRound: the answer to an earlier confirm never
// answers a later one, however late or often it arrives.
func TestR3_LateAnswerCountsForNoLaterRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers []func()
		l, _, b := pair(t, func(i int, x *testNode) {
			if i == 1 {
				x.opts.Tamper = func(_ shardmap.NodeID, m *peerv1.Message, send func(*peerv1.Message)) {
					answers = append(answers, func() { send(m) })
				}
			}
		})
		defer l.close()
		round := uint64(0)
		l.nodes[1].net.OnConfirm(func([]*peerv1.TermQuestion) Confirmation {
			round++
			return Confirmation{Same: []bool{round == 1}, WallMicros: round}
		})
		qs := []*peerv1.TermQuestion{termQuestion(b, 1)}
		first := confirm(l.nodes[0].net, "n2", qs, time.Second)
		wantKind(t, "first", (<-first).err, kverr.Unavailable)
		second := confirm(l.nodes[0].net, "n2", qs, time.Second)
		synctest.Wait()
		answers[0]() // said yes, before the second was asked
		answers[0]()
		synctest.Wait()
		if len(second) != 0 {
			t.Fatalf("answered by %+v", <-second)
		}
		answers[1]()
		if c := <-second; c.err != nil || c.Same[0] || c.WallMicros != 2 {
			t.Errorf("got %+v", c)
		}
	})
}
