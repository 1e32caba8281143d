package transport

import (
	"io"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
)

// asker is told what became of an RPC that raft was given, once and without
// being waited for.
type asker interface {
	settle(q question, r raft.RPCResponse)
	refuse(q question, why peerv1.Refusal, detail string)
}

// unsettled is an RPC that was handed to raft and not answered yet.
type unsettled struct {
	in    asker
	q     question
	reply <-chan raft.RPCResponse
}

// accept hands a command, and for a snapshot its data, to raft, or says why not. It never blocks: one group
// whose disk hangs must not stop the stream that all groups share.
func (g *Group) accept(in asker, q question, command any, data io.Reader) peerv1.Refusal {
	reply := make(chan raft.RPCResponse, 1) // raft's main loop never waits for us
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.mu.closed:
		return peerv1.Refusal_REFUSAL_CLOSED
	case g.forbidsLocked(command):
		return peerv1.Refusal_REFUSAL_BUSY
	case len(g.consumer) == cap(g.consumer) || len(g.unsettled) == cap(g.unsettled):
		return peerv1.Refusal_REFUSAL_BUSY
	}
	// There is room in both: nobody adds without the lock.
	g.consumer <- raft.RPC{Command: command, Reader: data, RespChan: reply}
	g.unsettled <- unsettled{in, q, reply}
	return peerv1.Refusal_REFUSAL_NONE
}

// Campaign makes this replica stand for election now instead of after the
// election timeout. It does nothing when the group is closed, may not speak, or has
// a full queue: then there is either no raft or enough to make it act.
func (g *Group) Campaign() {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.self), Addr: []byte(g.self)}
	rpc := raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: header},
		RespChan: make(chan raft.RPCResponse, 1), // takes the answer that nobody needs
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed || g.forbidsLocked(rpc.Command) {
		return
	}
	select {
	case g.consumer <- rpc:
	default:
	}
}

// respond returns raft's answers to those who asked. Raft answers RPCs in the
// order it takes them, one at a time on its main loop (S1 leaves no other path),
// so waiting for the oldest delays none.
func (g *Group) respond() {
	defer close(g.responded)
	for {
		select {
		case u := <-g.unsettled:
			select {
			case r := <-u.reply:
				u.in.settle(u.q, r)
			case <-g.closed:
				u.in.refuse(u.q, peerv1.Refusal_REFUSAL_CLOSED, "")
			}
		case <-g.closed:
			g.refuseUnsettled()
			return
		}
	}
}

// refuseUnsettled answers what is left once the group is closed, when nothing is
// added any more.
func (g *Group) refuseUnsettled() {
	for {
		select {
		case u := <-g.unsettled:
			u.in.refuse(u.q, peerv1.Refusal_REFUSAL_CLOSED, "")
		default:
			return
		}
	}
}
