package transport

import (
	"io"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// install hands the descriptor to raft and waits for its answer.
func (in *incoming) install() *peerv1.SnapshotAnswer {
	data := &handover{bytes: in.to.Descriptor(), check: in.to.Check}
	s := in.wait(data)
	switch r, _ := s.response.Response.(*raft.InstallSnapshotResponse); {
	case s.refusal == peerv1.Refusal_REFUSAL_CLOSED && !data.revoke():
		// Raft may be ingesting. What is left of it is found when the group starts.
		return &peerv1.SnapshotAnswer{Refusal: s.refusal}
	case s.refusal != peerv1.Refusal_REFUSAL_NONE:
		in.to.Abort()
		return &peerv1.SnapshotAnswer{Refusal: s.refusal, Detail: s.detail}
	case s.response.Error != nil:
		in.to.Abort()
		return &peerv1.SnapshotAnswer{Refusal: peerv1.Refusal_REFUSAL_FAILED, Detail: s.response.Error.Error()}
	case r == nil:
		in.to.Abort()
		return &peerv1.SnapshotAnswer{Refusal: peerv1.Refusal_REFUSAL_FAILED, Detail: "raft gave no answer that can be sent"}
	default:
		if !r.Success {
			in.to.Abort()
		}
		return &peerv1.SnapshotAnswer{Result: &peerv1.InstallSnapshotResult{
			Protocol: uint32(r.ProtocolVersion), Term: r.Term, Success: r.Success,
		}}
	}
}

// queueAgain is how long to wait before raft's full queue is tried again. Who
// takes from it is raft, which tells nobody.
const queueAgain = 50 * time.Millisecond

// wait gives the descriptor to raft. Until raft has begun to read it, it is taken
// back when that takes too long or when the sender is gone; then only raft's
// answer or the end of the group counts, and the sender is told meanwhile that
// somebody works on it.
func (in *incoming) wait(data *handover) settled {
	command := &raft.InstallSnapshotRequest{
		RPCHeader:       in.header(),
		SnapshotVersion: raft.SnapshotVersion(min(in.offer.GetSnapshotVersion(), math.MaxInt16)),
		Term:            in.offer.GetTerm(),
		Leader:          in.header().Addr,
		LastLogIndex:    in.offer.GetLastIndex(), LastLogTerm: in.offer.GetLastTerm(),
		Configuration: in.offer.GetConfiguration(), ConfigurationIndex: in.offer.GetConfigurationIndex(),
		Size: int64(len(data.bytes)),
	}
	busy := settled{refusal: peerv1.Refusal_REFUSAL_BUSY, detail: "raft takes no snapshot"}
	patience := time.NewTimer(raftPatience)
	defer patience.Stop()
	again := time.NewTicker(queueAgain)
	defer again.Stop()
	alive := time.NewTicker(in.net.opts.SnapshotStall / 4)
	defer alive.Stop()
	gone := in.stream.Context().Done()
	for queued := false; ; {
		if !queued {
			switch refusal := in.group.accept(in, question{}, command, data); refusal {
			case peerv1.Refusal_REFUSAL_NONE:
				queued = true
				again.Stop()
			case peerv1.Refusal_REFUSAL_BUSY:
			default:
				return settled{refusal: refusal}
			}
		}
		select {
		case s := <-in.settled:
			return s
		case <-again.C:
			continue
		case <-alive.C:
			_ = in.stream.Send(&peerv1.SnapshotAnswer{}) // at work; who does not hear it gives up
			continue
		case <-gone:
			gone = nil
		case <-patience.C:
		}
		if data.revoke() {
			return busy
		}
	}
}

func (in *incoming) header() raft.RPCHeader {
	from := []byte(ServerID(in.node, shardmap.ReplicaID(in.offer.GetFrom())))
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersion(min(in.offer.GetProtocol(), math.MaxInt16)), ID: from, Addr: from,
	}
}

// settle implements asker.
func (in *incoming) settle(_ question, r raft.RPCResponse) { in.settled <- settled{response: r} }

// refuse implements asker.
func (in *incoming) refuse(_ question, why peerv1.Refusal, detail string) {
	in.settled <- settled{refusal: why, detail: detail}
}

// handover is a descriptor on its way into raft. It can be taken back until raft
// begins to read it.
type handover struct {
	check func() error

	mu      sync.Mutex
	taken   bool
	revoked bool
	err     error // of the check
	bytes   []byte
}

// Read implements io.Reader, for raft's main loop.
func (h *handover) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.revoked {
		return 0, kverr.New(kverr.Closed, "the snapshot was withdrawn: raft took too long to take it")
	}
	if !h.taken {
		h.taken = true
		h.err = h.check() // L4
	}
	if h.err != nil {
		return 0, h.err
	}
	if len(h.bytes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, h.bytes)
	h.bytes = h.bytes[n:]
	return n, nil
}

// revoke takes the descriptor back. It answers false when raft has begun to read it.
func (h *handover) revoke() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revoked = !h.taken
	return h.revoked
}
