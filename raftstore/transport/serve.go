package transport

import (
	"io"
	"time"

	"github.com/hashicorp/raft"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// inbound is one stream that a peer opened to this node.
type inbound struct {
	net  *Network
	node shardmap.NodeID // whose hello was accepted
	out  *outbox
}

// question is what an answer needs of the message it answers.
type question struct{ rpc, group, from, to uint64 }

func questionOf(m *peerv1.Message) question {
	return question{m.GetRpc(), m.GetGroup(), m.GetFrom(), m.GetTo()}
}

// Serve takes part in a stream that a peer opened, until it breaks or the
// Network closes. Its error is a gRPC status; one that refuses the hello carries
// the kind, WrongCluster or Format or another, in its details.
func (n *Network) Serve(stream peerv1.Peer_ExchangeServer) error {
	if !n.begin() {
		return wire.StatusFromError(errNetworkClosed())
	}
	defer n.workers.Done()
	in := &inbound{net: n, out: newOutbox(answerQueue, answerQueueBytes)}
	defer in.out.close()

	// Receive and Send end only with the stream, and on this side the stream ends
	// only when Serve returns. So they have goroutines of their own.
	hello := make(chan error, 1)
	n.workers.Go(func() { hello <- in.welcome(stream) })
	late := time.NewTimer(openTimeout)
	defer late.Stop()
	select {
	case err := <-hello:
		if err != nil {
			return wire.StatusFromError(err)
		}
	case <-late.C:
		return wire.StatusFromError(errNoHello())
	case <-n.ctx.Done():
		return wire.StatusFromError(errNetworkClosed())
	}
	broken := make(chan error, 2)
	n.workers.Go(func() { broken <- in.receive(stream) })
	n.workers.Go(func() { broken <- sendAll(stream.Context(), in.out, stream, func([]*peerv1.Message) {}) })
	select {
	case err := <-broken:
		if err == io.EOF { // the peer has closed its side
			return nil
		}
		return err
	case <-n.ctx.Done():
		return wire.StatusFromError(errNetworkClosed())
	}
}

func errNoHello() error {
	return kverr.New(kverr.Unavailable, "no hello within %s", openTimeout)
}

// welcome exchanges hellos.
func (in *inbound) welcome(stream peerv1.Peer_ExchangeServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHello()
	in.node = shardmap.NodeID(h.GetFromNode())
	if err := in.net.checkHello(h, in.node, peerv1.Lane_LANE_CONTROL, peerv1.Lane_LANE_LOG); err != nil {
		return err
	}
	ours, err := in.net.hello(in.node, h.GetLane())
	if err != nil {
		return err
	}
	return stream.Send(&peerv1.Envelope{Hello: ours})
}

func (in *inbound) receive(stream peerv1.Peer_ExchangeServer) error {
	for {
		env, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, m := range env.GetMessages() {
			in.dispatch(m)
		}
	}
}

// dispatch hands one message to whom it is for. It never blocks.
func (in *inbound) dispatch(m *peerv1.Message) {
	if m.GetConfirm() != nil {
		in.answerConfirm(m)
		return
	}
	if m.GetReadIndex() != nil {
		in.answerReadIndex(m)
		return
	}
	q := questionOf(m)
	g := in.net.receiver(q.group, shardmap.ReplicaID(q.to))
	if g == nil {
		in.refuse(q, peerv1.Refusal_REFUSAL_UNKNOWN_REPLICA, "")
		return
	}
	if in.net.declines(m.GetAppend()) {
		g.declined.Store(time.Now().UnixNano())
		in.refuse(q, peerv1.Refusal_REFUSAL_NO_SPACE, "")
		return
	}
	command, err := requestFromProto(ServerID(in.node, shardmap.ReplicaID(q.from)), m)
	if err != nil {
		in.refuse(q, peerv1.Refusal_REFUSAL_FAILED, err.Error())
		return
	}
	g.hear(m.GetAppend())
	if refusal := g.accept(in, q, command, nil); refusal != peerv1.Refusal_REFUSAL_NONE {
		in.refuse(q, refusal, "")
	}
}

// settle sends raft's answer back.
func (in *inbound) settle(q question, r raft.RPCResponse) {
	if r.Error != nil {
		in.refuse(q, peerv1.Refusal_REFUSAL_FAILED, r.Error.Error())
		return
	}
	body := answerToProto(r.Response)
	if body == nil {
		in.refuse(q, peerv1.Refusal_REFUSAL_FAILED, "raft gave no answer that can be sent")
		return
	}
	in.answer(q, body)
}

func (in *inbound) refuse(q question, why peerv1.Refusal, detail string) {
	in.answer(q, &peerv1.Message{Refusal: why, Detail: detail})
}

// answer sends a body back to who asked. When too many answers wait it is lost,
// and the question runs into its deadline.
func (in *inbound) answer(q question, body *peerv1.Message) {
	body.Rpc, body.Group, body.From, body.To = q.rpc, q.group, q.to, q.from
	if tamper := in.net.opts.Tamper; tamper != nil {
		tamper(in.node, body, in.inject)
		return
	}
	in.inject(body)
}

func (in *inbound) inject(m *peerv1.Message) { in.out.push(m, sizeOf(m)) }
