package transport

import (
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
)

// noSpacePause is how soon entries are offered again to a follower without room.
const noSpacePause = 500 * time.Millisecond

// EntriesFunc answers whether this node's disk takes entries with so many bytes of
// data. It is called from the goroutine that reads a stream and must not block.
type EntriesFunc func(bytes int) bool

// OnEntries sets who decides whether appends with entries are let in; until then
// all are. What is declined is refused to its sender, who offers it again until
// there is room. Appends without entries, heartbeats among them, always pass.
func (n *Network) OnEntries(f EntriesFunc) { n.entries.Store(&f) }

// declines reports whether an append, or nil, is refused for want of space.
func (n *Network) declines(m *peerv1.AppendEntries) bool {
	if len(m.GetEntries()) == 0 {
		return false
	}
	takes := n.entries.Load()
	if takes == nil {
		return false
	}
	bytes := 0
	for _, e := range m.GetEntries() {
		bytes += len(e.GetData())
	}
	return !(*takes)(bytes)
}

// Declining reports whether this replica refuses entries for want of space: it
// did so when they were last offered.
func (g *Group) Declining() bool {
	return time.Since(time.Unix(0, g.declined.Load())) < 4*noSpacePause
}

// appendWhenRoom sends an append that is no heartbeat, again and again while the
// follower has no room for it. To raft each refusal would be a failure, and after
// some of them it sleeps for up to 10.24 s; so the follower would wait that long
// after it has room again.
func (g *Group) appendWhenRoom(p *peer, target raft.ServerAddress,
	args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	// What waits for an outage to end must not keep megabytes of entries: to raft
	// an append without them is one that had none to send, and it goes on from there.
	stop, err := g.admit(p, func() { args.Entries = nil })
	if err != nil {
		return err
	}
	r := route{lane: peerv1.Lane_LANE_LOG, patience: appendPatience, stop: stop,
		limit: g.net.opts.HeartbeatTimeout + transferTime(trimEntries(args))}
	for {
		err := g.append(target, r, appendToProto(args), resp)
		if kverr.KindOf(err) != kverr.NoSpace {
			p.full(false)
			return err
		}
		p.full(true)
		if len(args.Entries) > 1 { // one may find room where all do not
			args.Entries = args.Entries[:1]
		}
		pause := time.NewTimer(noSpacePause)
		select {
		case <-pause.C:
		case <-stop:
			pause.Stop()
			return errInterrupted()
		case <-g.closed:
			pause.Stop()
			return errGroupClosed(g.id)
		}
	}
}
