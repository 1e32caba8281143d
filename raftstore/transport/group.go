package transport

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// Group is the transport of one replica of one Raft group: what raft calls to
// reach its peers (this file) and where their RPCs arrive (inbox.go). Safe for
// concurrent use.
type Group struct {
	net     *Network
	id      uint64
	replica shardmap.ReplicaID
	self    raft.ServerID

	consumer  chan raft.RPC  // never closed: raft reads until it shuts down
	unsettled chan unsettled // in the order of consumer; room for all of it and more
	closed    chan struct{}
	responded chan struct{}   // closed when respond has returned
	ctx       context.Context // of snapshots being sent; ends with Close
	cancel    context.CancelCauseFunc

	out         reign
	commitIndex atomic.Pointer[func() uint64] // see SetCommitIndex
	declined    atomic.Int64                  // when entries were last declined for want of space, in ns

	mu struct { // guards adding to consumer and unsettled; nothing blocks under it
		sync.Mutex
		closed    bool
		voice     Voice
		hushed    chan struct{}                    // closed unless voice is Speaking
		receiving bool                             // a snapshot is being received or installed
		sending   map[raft.ServerAddress]*outgoing // the latest snapshot for each target
		heard     Heard
	}
}

var (
	_ raft.Transport   = (*Group)(nil)
	_ raft.WithPreVote = (*Group)(nil)
	_ raft.WithClose   = (*Group)(nil)
)

func newGroup(n *Network, id uint64, replica shardmap.ReplicaID) *Group {
	g := &Group{
		net:       n,
		id:        id,
		replica:   replica,
		self:      ServerID(n.opts.Self, replica),
		consumer:  make(chan raft.RPC, consumerDepth),
		unsettled: make(chan unsettled, 2*consumerDepth),
		closed:    make(chan struct{}),
		responded: make(chan struct{}),
	}
	g.mu.hushed = make(chan struct{})
	g.ctx, g.cancel = context.WithCancelCause(n.ctx)
	g.mu.sending = make(map[raft.ServerAddress]*outgoing)
	return g
}

// Close takes the group off the network: its own RPCs and those that wait for it
// here fail at once, later ones too. Close it before raft is shut down, which
// otherwise waits for the deadline of every RPC in the air. It may be called
// twice.
func (g *Group) Close() error {
	g.mu.Lock()
	first := !g.mu.closed
	g.mu.closed = true
	g.mu.Unlock()
	if first {
		g.net.unregister(g)
		g.cancel(errGroupClosed(g.id))
		close(g.closed)
	}
	<-g.responded
	return nil
}

// Consumer implements raft.Transport. It holds 16 RPCs; further ones are refused
// as busy to their sender.
func (g *Group) Consumer() <-chan raft.RPC { return g.consumer }

// LocalAddr implements raft.Transport.
func (g *Group) LocalAddr() raft.ServerAddress { return raft.ServerAddress(g.self) }

// EncodePeer implements raft.Transport.
func (g *Group) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (g *Group) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport by doing nothing (S1). The
// handler would run raft's append path beside its main loop: a leader that is
// deposed by it stamps its next entry with the new leader's term, and two logs
// differ where they claim to agree. Heartbeats go through Consumer like all else.
func (g *Group) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline implements raft.Transport. There is none; doc.go says
// why nothing is lost.
func (g *Group) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport. It may shorten args.Entries; raft
// goes on with the rest. An append other than a heartbeat waits up to 10 s for a
// peer that is down, and after one that failed until the peer answers heartbeats
// again (see peer). What belongs to a leadership that is over fails at once.
func (g *Group) AppendEntries(_ raft.ServerID, target raft.ServerAddress,
	args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	p, err := g.follower(raft.ServerID(target), args.Term)
	if err != nil {
		return err
	}
	if isHeartbeat(args) {
		return g.heartbeat(p, target, args, resp)
	}
	if err := g.appendWhenRoom(p, target, args, resp); err != nil {
		p.failed()
		return err
	}
	p.answered(resp.Term, resp.Success, args.PrevLogEntry+uint64(len(args.Entries)), verifiedCommit(args))
	return nil
}

func (g *Group) heartbeat(p *peer, target raft.ServerAddress,
	args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	stop, _, err := p.ready()
	if err != nil {
		return err
	}
	r := g.controlRoute()
	r.stop = stop
	m := appendToProto(args)
	if commit := g.commitIndex.Load(); commit != nil {
		m.KnownCommit = (*commit)()
	}
	if err := g.append(target, r, m, resp); err != nil {
		return err
	}
	p.alive(resp)
	return nil
}

// append asks and takes the answer apart.
func (g *Group) append(target raft.ServerAddress, r route, m *peerv1.AppendEntries, resp *raft.AppendEntriesResponse) error {
	answer, err := g.ask(target, r, &peerv1.Message{Append: m})
	if err != nil {
		return err
	}
	a := answer.GetAppendResult()
	if a == nil {
		return errMismatch(g.nodeOf(target))
	}
	*resp = raft.AppendEntriesResponse{
		RPCHeader: headerOf(target, a.GetProtocol()), Term: a.GetTerm(), LastLog: a.GetLastLog(),
		Success: a.GetSuccess(), NoRetryBackoff: a.GetNoRetryBackoff(),
	}
	return nil
}

// RequestVote implements raft.Transport.
func (g *Group) RequestVote(_ raft.ServerID, target raft.ServerAddress,
	args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if args.Term > 0 { // a candidate leads no earlier term
		g.Withdraw(args.Term - 1)
	}
	answer, err := g.ask(target, g.controlRoute(), &peerv1.Message{Vote: &peerv1.Vote{
		Protocol: uint32(args.ProtocolVersion), Term: args.Term,
		LastLogIndex: args.LastLogIndex, LastLogTerm: args.LastLogTerm, LeadershipTransfer: args.LeadershipTransfer,
	}})
	if err != nil {
		return err
	}
	v := answer.GetVoteResult()
	if v == nil {
		return errMismatch(g.nodeOf(target))
	}
	*resp = raft.RequestVoteResponse{
		RPCHeader: headerOf(target, v.GetProtocol()), Term: v.GetTerm(), Granted: v.GetGranted(),
	}
	return nil
}

// RequestPreVote implements raft.WithPreVote.
func (g *Group) RequestPreVote(_ raft.ServerID, target raft.ServerAddress,
	args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	answer, err := g.ask(target, g.controlRoute(), &peerv1.Message{PreVote: &peerv1.Vote{
		Protocol: uint32(args.ProtocolVersion), Term: args.Term,
		LastLogIndex: args.LastLogIndex, LastLogTerm: args.LastLogTerm,
	}})
	if err != nil {
		return err
	}
	v := answer.GetPreVoteResult()
	if v == nil {
		return errMismatch(g.nodeOf(target))
	}
	*resp = raft.RequestPreVoteResponse{
		RPCHeader: headerOf(target, v.GetProtocol()), Term: v.GetTerm(), Granted: v.GetGranted(),
	}
	return nil
}

// TimeoutNow implements raft.Transport. It does not wait for a peer that is
// down: raft refuses writes until it returns. That the target is a voter is the
// caller's business; raft would make a learner campaign too.
func (g *Group) TimeoutNow(_ raft.ServerID, target raft.ServerAddress,
	args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	r := g.controlRoute()
	r.hasty = true
	answer, err := g.ask(target, r, &peerv1.Message{
		TimeoutNow: &peerv1.TimeoutNow{Protocol: uint32(args.ProtocolVersion)},
	})
	if err != nil {
		g.lost(raft.ServerID(target))
		return err
	}
	t := answer.GetTimeoutNowResult()
	if t == nil {
		return errMismatch(g.nodeOf(target))
	}
	*resp = raft.TimeoutNowResponse{RPCHeader: headerOf(target, t.GetProtocol())}
	return nil
}

// route is how an RPC travels.
type route struct {
	lane  peerv1.Lane
	limit time.Duration // for the answer
	// patience is how much longer it may wait for a peer that is down. Within
	// limit every call waits for it, unless it is hasty.
	patience time.Duration
	hasty    bool
	stop     <-chan struct{} // ends the call early; nil never does
}

func (g *Group) controlRoute() route {
	return route{lane: peerv1.Lane_LANE_CONTROL, limit: g.net.opts.HeartbeatTimeout}
}

// transferTime allows for a slow line: 1 MiB in a second.
func transferTime(bytes int) time.Duration {
	return time.Duration(bytes) * time.Second >> 20
}

// ask sends a request and waits for its answer, until the route's limit or until
// the group is closed or falls silent.
func (g *Group) ask(target raft.ServerAddress, r route, m *peerv1.Message) (*peerv1.Message, error) {
	node, replica, err := ParseServerID(string(target))
	if err != nil {
		return nil, err
	}
	l, err := g.net.link(node, r.lane)
	if err != nil {
		return nil, err
	}
	type outcome struct {
		answer *peerv1.Message
		err    error
	}
	done := make(chan outcome, 1)
	c := &call{patient: !r.hasty, finish: func(m *peerv1.Message, err error) { done <- outcome{m, err} }}
	m.Group, m.From, m.To = g.id, uint64(g.replica), uint64(replica)
	select {
	case <-g.closed: // send nothing on behalf of a raft that is going away
		return nil, errGroupClosed(g.id)
	default:
	}
	hushed, err := g.speak(m)
	if err != nil {
		return nil, err
	}
	connected, err := l.submit(m, c)
	if err != nil {
		return nil, err
	}
	limit := r.limit
	if connected != nil {
		limit += r.patience
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case o := <-done:
			if o.err == nil && (o.answer.GetGroup() != g.id || o.answer.GetFrom() != uint64(replica)) {
				o.err = errMismatch(node)
			}
			return o.answer, o.err
		case <-connected: // from now on the RPC's own limit counts
			connected = nil
			if r.patience > 0 {
				timer.Reset(r.limit)
			}
		case <-timer.C:
			l.forget(c)
			return nil, errLate(node, limit)
		case <-hushed:
			l.forget(c)
			return nil, errSilent(g.id)
		case <-r.stop:
			l.forget(c)
			return nil, errInterrupted()
		case <-g.closed:
			l.forget(c)
			return nil, errGroupClosed(g.id)
		}
	}
}

func (g *Group) nodeOf(target raft.ServerAddress) shardmap.NodeID {
	node, _, _ := ParseServerID(string(target)) // ask has parsed it before
	return node
}

func headerOf(peer raft.ServerAddress, protocol uint32) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(protocol), ID: []byte(peer), Addr: []byte(peer)}
}
