package transport

import (
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// ReadIndexFunc answers up to where replicas of groups must have applied to show
// what was acknowledged before the call, one index per group in order and 0 where
// this node cannot say. It is called from the goroutine that reads a stream and must
// not block; answer is called once, then or later, from any goroutine.
type ReadIndexFunc func(groups []uint64, answer func(indexes []uint64))

// OnReadIndex sets who answers other nodes' questions for indexes. Call it before
// there is traffic; until then they are refused as busy.
func (n *Network) OnReadIndex(f ReadIndexFunc) { n.readIndex.Store(&f) }

// ReadIndex asks another node for the indexes of groups, in one message. A node that
// is known to be down fails at once. groups must not be changed afterwards. done is
// called exactly once, with one index per group or with an error; it may be called
// before ReadIndex returns, and must not block.
//
// Every index was found after ReadIndex was called: reads that were handed over
// before may trust it (rule R3).
func (n *Network) ReadIndex(node shardmap.NodeID, groups []uint64, deadline time.Duration, done func(indexes []uint64, err error)) {
	l, err := n.link(node, peerv1.Lane_LANE_CONTROL)
	if err == nil {
		_, err = l.submit(&peerv1.Message{ReadIndex: &peerv1.ReadIndex{Groups: groups}}, &call{
			expire: max(deadline, 1), // 0 would mean for ever
			finish: func(m *peerv1.Message, err error) {
				r := m.GetReadIndexResult()
				if err == nil && len(r.GetIndexes()) != len(groups) {
					err = errMismatch(node)
				}
				if err != nil {
					done(nil, err)
					return
				}
				done(r.GetIndexes(), nil)
			},
		})
	}
	if err != nil {
		done(nil, err)
	}
}

// answerReadIndex answers when the owner does. A question whose stream is gone by
// then is answered to nobody.
func (in *inbound) answerReadIndex(m *peerv1.Message) {
	q := questionOf(m)
	f := in.net.readIndex.Load()
	if f == nil {
		in.refuse(q, peerv1.Refusal_REFUSAL_BUSY, "")
		return
	}
	(*f)(m.GetReadIndex().GetGroups(), func(indexes []uint64) {
		in.answer(q, &peerv1.Message{ReadIndexResult: &peerv1.ReadIndexResult{Indexes: indexes}})
	})
}
