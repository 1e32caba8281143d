package transport

import (
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Confirmation is a node's answer to a confirm.
type Confirmation struct {
	Same       []bool   // for each question in order: the replica's term is still the one asked about
	WallMicros uint64   // the node's wall clock (rule T1)
	Times      []uint64 // for each question, what it is known of the shard's time, in µs; or none at all
}

// ConfirmFunc answers questions. It is called from the goroutine that reads a
// stream and must not block.
type ConfirmFunc func(qs []*peerv1.TermQuestion) Confirmation

// OnConfirm sets who answers the confirms of other nodes. Call it before there
// is traffic; until then they are refused as busy.
func (n *Network) OnConfirm(f ConfirmFunc) {
	n.confirm.Store(&f)
}

// Confirm puts term questions to another node, in one message. A node that is
// known to be down fails at once. qs must not be changed afterwards. done is called exactly once, with one answer
// per question or with an error; it may be called before Confirm returns, and
// otherwise from the goroutine that reads the stream, so it must not block.
//
// Every answer was given after Confirm was called: a round whose readers are
// fixed before it calls (rule R3) may trust the answers for all of them.
func (n *Network) Confirm(node shardmap.NodeID, qs []*peerv1.TermQuestion, deadline time.Duration,
	done func(Confirmation, error)) {
	l, err := n.link(node, peerv1.Lane_LANE_CONTROL)
	if err == nil {
		_, err = l.submit(&peerv1.Message{Confirm: &peerv1.Confirm{Questions: qs}}, &call{
			expire: max(deadline, 1), // 0 would mean for ever
			finish: func(m *peerv1.Message, err error) {
				r := m.GetConfirmResult()
				times := r.GetShardTimeUs()
				if err == nil && (len(r.GetSameTerm()) != len(qs) || len(times) != 0 && len(times) != len(qs)) {
					err = errMismatch(node)
				}
				if err != nil {
					done(Confirmation{}, err)
					return
				}
				done(Confirmation{r.GetSameTerm(), r.GetWallUs(), times}, nil)
			},
		})
	}
	if err != nil {
		done(Confirmation{}, err)
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
	c := (*answer)(m.GetConfirm().GetQuestions())
	in.answer(questionOf(m), &peerv1.Message{ConfirmResult: &peerv1.ConfirmResult{
		SameTerm: c.Same, WallUs: c.WallMicros, ShardTimeUs: c.Times,
	}})
}
