package transport

import (
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// ConfirmFunc answers, for each question in order, whether the replica's term
// is still the one asked about, and this node's wall clock in microseconds
// (rule T1). It is called from the goroutine that reads a stream and must not
// block.
type ConfirmFunc func(qs []*peerv1.TermQuestion) (same []bool, wallMicros uint64)

// OnConfirm sets who answers the confirms of other nodes. Call it before there
// is traffic; until then they are refused as busy.
func (n *Network) OnConfirm(f func(qs []*peerv1.TermQuestion) (same []bool, wallMicros uint64)) {
	answer := ConfirmFunc(f)
	n.confirm.Store(&answer)
}

// Confirm puts term questions to another node, in one message. A node that is
// known to be down fails at once. qs must not be changed afterwards. done is called exactly once, with one answer
// per question or with an error; it may be called before Confirm returns, and
// otherwise from the goroutine that reads the stream, so it must not block.
//
// Every answer was given after Confirm was called: a round whose readers are
// fixed before it calls (rule R3) may trust the answers for all of them.
func (n *Network) Confirm(node shardmap.NodeID, qs []*peerv1.TermQuestion, deadline time.Duration,
	done func(same []bool, wallMicros uint64, err error)) {
	l, err := n.link(node, peerv1.Lane_LANE_CONTROL)
	if err == nil {
		_, err = l.submit(&peerv1.Message{Confirm: &peerv1.Confirm{Questions: qs}}, &call{
			expire: max(deadline, 1), // 0 would mean for ever
			finish: func(m *peerv1.Message, err error) {
				r := m.GetConfirmResult()
				if err == nil && len(r.GetSameTerm()) != len(qs) {
					err = errMismatch(node)
				}
				if err != nil {
					done(nil, 0, err)
					return
				}
				done(r.GetSameTerm(), r.GetWallUs(), nil)
			},
		})
	}
	if err != nil {
		done(nil, 0, err)
	}
}

// answerConfirm answers at once: a confirm asks about memory only, and waiting
// behind a raft main loop that waits for a disk would make every read as slow.
func (in *inbound) answerConfirm(m *peerv1.Message) {
	answer := in.net.confirm.Load()
	if answer == nil {
		in.refuse(questionOf(m), peerv1.Refusal_REFUSAL_BUSY, "")
		return
	}
	same, wall := (*answer)(m.GetConfirm().GetQuestions())
	in.answer(questionOf(m), &peerv1.Message{ConfirmResult: &peerv1.ConfirmResult{SameTerm: same, WallUs: wall}})
}
