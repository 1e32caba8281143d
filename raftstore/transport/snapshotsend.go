package transport

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// InstallSnapshot implements raft.Transport: it streams a view, and answers what
// the raft at the other end said. It waits for its turn as long as it takes, and
// up to 10 s for a peer that is down or busy: raft would sleep twice as long after
// each failure. It ends soon after its group is closed, when the connection
// breaks, or after SnapshotStall without progress.
func (g *Group) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress,
	args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	view, ok := data.(SnapshotView)
	if !ok {
		return &kverr.Error{Kind: kverr.Internal, Shard: g.id, Message: "raft sends a snapshot that is no view of a shard"}
	}
	node, replica, err := ParseServerID(string(target))
	if err != nil {
		return err
	}
	if node == g.net.opts.Self {
		return errSelf(node)
	}
	o := &outgoing{g: g, node: node, view: view, offer: &peerv1.SnapshotOffer{
		Group: g.id, From: uint64(g.replica), To: uint64(replica),
		Protocol: uint32(args.ProtocolVersion), SnapshotVersion: uint32(args.SnapshotVersion), Term: args.Term,
		LastIndex: args.LastLogIndex, LastTerm: args.LastLogTerm,
		Configuration: args.Configuration, ConfigurationIndex: args.ConfigurationIndex,
		ArcFrom: uint32(view.Arc().From), ArcTo: uint32(view.Arc().To),
		EstimatedBytes: view.EstimatedBytes(), TableFormat: view.TableFormat(),
	}}
	p, err := g.follower(raft.ServerID(target), args.Term)
	if err != nil {
		return err
	}
	g.net.counts.sending.Add(1)
	defer g.net.counts.sending.Add(-1)
	stop, err := g.admit(p, func() {})
	var result *peerv1.InstallSnapshotResult
	if err == nil {
		p.snapshot(true)
		result, err = o.send(target, stop)
		p.snapshot(false)
	}
	if err != nil {
		p.failed()
		g.net.counts.sendsFailed.Add(1)
		return err
	}
	p.answered(result.GetTerm(), result.GetSuccess(), args.LastLogIndex, args.LastLogIndex)
	if result.GetSuccess() {
		g.net.counts.sent.Add(1)
	} else {
		g.net.counts.sendsFailed.Add(1)
	}
	*resp = raft.InstallSnapshotResponse{
		RPCHeader: headerOf(target, result.GetProtocol()), Term: result.GetTerm(), Success: result.GetSuccess(),
	}
	return nil
}

// firstOfferPause is how soon an offer is made again at first.
const firstOfferPause = 100 * time.Millisecond

// outgoing is one snapshot on its way to one replica.
type outgoing struct {
	g      *Group
	node   shardmap.NodeID
	view   SnapshotView
	offer  *peerv1.SnapshotOffer
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// send offers the snapshot until it is admitted, and streams it once, unless stop
// is closed before or the group falls silent.
func (o *outgoing) send(target raft.ServerAddress, stop <-chan struct{}) (*peerv1.InstallSnapshotResult, error) {
	hushed, err := o.g.speak(nil)
	if err != nil {
		return nil, err
	}
	o.ctx, o.cancel = context.WithCancelCause(o.g.ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-stop:
			o.cancel(errInterrupted())
		case <-hushed:
			o.cancel(errSilent(o.g.id))
		case <-o.ctx.Done():
		}
	}()
	defer func() {
		o.cancel(nil)
		<-watched
	}()
	o.enter(target)
	defer o.leave(target)
	// Waiting for a turn costs no patience: it ends without anybody's help.
	start, inTurn := time.Now(), time.Duration(0)
	for pause := firstOfferPause; ; pause = min(2*pause, maxPause) {
		left := offerPatience - (time.Since(start) - inTurn)
		conn, err := o.connect(left)
		if err != nil {
			return nil, err
		}
		queued := time.Now()
		select {
		case o.g.net.turns <- struct{}{}:
		case <-o.ctx.Done():
			return nil, context.Cause(o.ctx)
		}
		inTurn += time.Since(queued)
		t := newTransfer(o, conn)
		result, err := t.run()
		<-o.g.net.turns
		if err == nil || t.wasAdmitted() || !worthRepeating(err) || time.Since(start)-inTurn > offerPatience {
			return result, err
		}
		if !o.sleep(pause) {
			return nil, context.Cause(o.ctx)
		}
	}
}

// connect waits for a connection that is up. It needs no turn: otherwise one node
// that is down would keep all others waiting.
func (o *outgoing) connect(limit time.Duration) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeoutCause(o.ctx, limit, errLate(o.node, offerPatience))
	defer cancel()
	for pause := firstOfferPause; ; pause = min(2*pause, maxPause) {
		conn, err := o.g.net.opts.Dial(ctx, o.node)
		if err == nil {
			for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
				conn.Connect()
				if !conn.WaitForStateChange(ctx, state) {
					return nil, errDown(o.node, context.Cause(ctx))
				}
			}
			return conn, nil
		}
		// Its address may be about to be learnt.
		if ctx.Err() != nil || !o.sleep(pause) {
			return nil, errDown(o.node, err)
		}
	}
}

// sleep answers false when the snapshot is not to be sent any more.
func (o *outgoing) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-o.ctx.Done():
		return false
	}
}

// worthRepeating reports whether an offer may be admitted if it is made again
// soon: the peer was busy, or nothing was heard of it.
func worthRepeating(err error) bool {
	kind := kverr.KindOf(err)
	return kind == kverr.Overloaded || kind == kverr.Unavailable && !errors.Is(err, errRefused)
}

// errRefused marks what the peer itself said no to.
var errRefused = errors.New("the peer refused")

// enter makes this the group's one snapshot for the target. An earlier one, of a
// tenure that has ended, would only keep the receiver busy.
func (o *outgoing) enter(target raft.ServerAddress) {
	g := o.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if earlier := g.mu.sending[target]; earlier != nil {
		earlier.cancel(&kverr.Error{Kind: kverr.Closed, Shard: g.id, Message: "raft began to send a newer snapshot"})
	}
	g.mu.sending[target] = o
}

func (o *outgoing) leave(target raft.ServerAddress) {
	g := o.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.sending[target] == o {
		delete(g.mu.sending, target)
	}
}
