package kvserver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// sent is what peers were asked to serve.
type sent struct {
	node shardmap.NodeID
	left time.Duration
}

// peers answers forwarded operations with the answers given, in turn, and
// repeats the last one.
func peers(log *[]sent, answers ...any) fakePeers {
	return func(_ context.Context, node shardmap.NodeID, op *kvv1.Operation) (*kvv1.Answer, error) {
		*log = append(*log, sent{node, time.Duration(op.TimeLeftUs) * time.Microsecond})
		answer := answers[min(len(*log), len(answers))-1]
		if err, ok := answer.(error); ok {
			return nil, err
		}
		a := proto.Clone(answer.(*kvv1.Answer)).(*kvv1.Answer)
		a.Id = op.Id
		return a, nil
	}
}

func notLeader(hint *kvv1.LeaderHint) *kvv1.Answer {
	return &kvv1.Answer{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_NOT_LEADER, Message: "not me"}, Leader: hint}
}

func hintTo(term uint64, node int) *kvv1.LeaderHint {
	return wire.HintToProto(shardmap.LeaderHint{Shard: 3, Term: term, Node: nodeID(node)})
}

// followedBy makes the upper group a follower of a node.
func (e *env) followedBy(node int) {
	e.upper.refuseAll(kverr.New(kverr.NotLeader, "not the leader"))
	e.upper.set(func() { e.upper.leader = shardmap.LeaderHint{Shard: 3, Term: 8, Node: nodeID(node)} })
}

func (e *env) put(key string, timeout time.Duration) (*kvv1.PutResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := e.client.Put(ctx, &kvv1.PutRequest{Key: []byte(key), Value: []byte("v")})
	return r, wire.ErrorFromStatus(err, wire.MaybeSent)
}

func TestUnary(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		ctx := context.Background()
		id := &kvv1.RequestId{ClientId: []byte("0123456789abcdef"), Number: 4, LowestOpen: 3, NotAfterUs: 2}
		var requests []uint64
		e.upper.onWrite = func(w *raftstore.Write) {
			requests = append(requests, w.Ops[0].Request.Number, w.Ops[0].Request.LowestOpen, w.Ops[0].Request.NotAfter)
			e.upper.apply(w)
		}
		p, err := e.client.Put(ctx, &kvv1.PutRequest{Key: []byte("foo"), Value: []byte("v"), RequestId: id})
		if err != nil || p.Version != 1 || p.ShardVersion != 1 || p.ServedBy != kvv1.ServedBy_SERVED_BY_LEADER {
			t.Errorf("put: %v, %v", p, err)
		}
		g, err := e.client.Get(ctx, &kvv1.GetRequest{Key: []byte("foo")})
		if err != nil || !g.Found || string(g.Value) != "v" || g.Version != 1 || g.ServedBy != kvv1.ServedBy_SERVED_BY_LEADER {
			t.Errorf("get: %v, %v", g, err)
		}
		d, err := e.client.Delete(ctx, &kvv1.DeleteRequest{Key: []byte("foo"), RequestId: id})
		if err != nil || d.Version != 2 {
			t.Errorf("delete: %v, %v", d, err)
		}
		if !cmp.Equal(requests, []uint64{4, 3, 2, 4, 3, 2}) {
			t.Errorf("request ids: %v", requests)
		}
		for name, req := range map[string]*kvv1.PutRequest{
			"empty key":  {},
			"large key":  {Key: make([]byte, 4097)},
			"large":      {Key: []byte("foo"), Value: make([]byte, 1<<20+1)},
			"no client":  {Key: []byte("foo"), RequestId: &kvv1.RequestId{Number: 1, NotAfterUs: 1}},
			"odd client": {Key: []byte("foo"), RequestId: &kvv1.RequestId{ClientId: []byte("x")}},
		} {
			_, err := e.client.Put(ctx, req)
			if err := wire.ErrorFromStatus(err, wire.MaybeSent); !errors.Is(err, kverr.Invalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := e.server.Counters(); got.Frames != 8 || got.Operations != 8 {
			t.Errorf("counters: %+v", got)
		}
	})
}

func TestUnaryNotInitialized(t *testing.T) {
	inBubble(t, func(o *Options) { o.ClusterID = func() string { return "" } }, func(e *env) {
		if _, err := e.put("foo", time.Second); !errors.Is(err, kverr.NotInitialized) {
			t.Error(err)
		}
	})
}

func TestK4_UnaryIsForwardedToTheLeader(t *testing.T) {
	var log []sent
	to := peers(&log, &kvv1.Answer{Version: 5, ShardVersion: 6})
	inBubble(t, func(o *Options) { o.Peers = to }, func(e *env) {
		e.followedBy(2)
		r, err := e.put("foo", 8*time.Second)
		if err != nil || r.Version != 5 || r.ShardVersion != 6 || r.ServedBy != kvv1.ServedBy_SERVED_BY_FORWARD {
			t.Errorf("put: %v, %v", r, err)
		}
		if !cmp.Equal(log, []sent{{nodeID(2), 8 * time.Second}}, cmp.AllowUnexported(sent{})) {
			t.Errorf("forwarded: %v", log)
		}
		if got := e.server.Counters().Forwarded; got != 1 {
			t.Errorf("counted %d", got)
		}
	})
}

// TestK4_ForwardedAtMostOnce: a forwarded operation that meets another
// not-leader is answered, and a hint that comes with it is only learned.
func TestK4_ForwardedAtMostOnce(t *testing.T) {
	var log []sent
	to := peers(&log, notLeader(hintTo(9, 3)))
	inBubble(t, func(o *Options) { o.Peers = to }, func(e *env) {
		e.followedBy(2)
		if _, err := e.put("foo", 8*time.Second); !errors.Is(err, kverr.NotLeader) {
			t.Errorf("put: %v", err)
		}
		if len(log) != 1 || log[0].node != nodeID(2) {
			t.Errorf("forwarded: %v", log)
		}
		e.put("foo", 8*time.Second)
		if len(log) != 2 || log[1].node != nodeID(3) {
			t.Errorf("the next one was forwarded: %v", log)
		}
	})
}

func TestK4_NeverForwarded(t *testing.T) {
	var log []sent
	to := peers(&log, &kvv1.Answer{})
	inBubble(t, func(o *Options) { o.Peers = to }, func(e *env) {
		e.followedBy(2)
		wantKind(t, e.open().do(put(1, "foo", ""))[1], kverr.NotLeader, "")
		a := e.server.ServeOperation(context.Background(), put(7, "foo", ""))
		wantKind(t, a, kverr.NotLeader, "")
		if a.Id != 7 || a.Leader.GetNodeId() != string(nodeID(2)) || a.Record.GetShard() != 3 {
			t.Errorf("answer to the peer: %v", a)
		}
		if len(log) != 0 {
			t.Errorf("forwarded: %v", log)
		}
	})
}

// TestK5_ForwardThatBroke: what may have arrived is in doubt, what never left is
// tried again until patience ends, and a read is only unavailable.
func TestK5_ForwardThatBroke(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error // nil: neither error nor answer
		write kverr.Kind
		read  kverr.Kind
		once  bool
	}{
		{"no kind", errors.New("connection reset"), kverr.OutcomeUnknown, kverr.Unavailable, true},
		{"context", context.DeadlineExceeded, kverr.OutcomeUnknown, kverr.Unavailable, true},
		{"outcome unknown", kverr.New(kverr.OutcomeUnknown, "broke"), kverr.OutcomeUnknown, kverr.Unavailable, true},
		{"refused", kverr.New(kverr.WrongCluster, "not ours"), kverr.WrongCluster, kverr.WrongCluster, true},
		{"no answer", nil, kverr.OutcomeUnknown, kverr.Unavailable, true},
		{"never sent", kverr.New(kverr.Unavailable, "dial"), kverr.Unavailable, kverr.Unavailable, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log []sent
			to := func(_ context.Context, node shardmap.NodeID, _ *kvv1.Operation) (*kvv1.Answer, error) {
				log = append(log, sent{node: node})
				return nil, tt.err
			}
			inBubble(t, func(o *Options) { o.Peers = fakePeers(to) }, func(e *env) {
				e.followedBy(2)
				start := time.Now()
				if _, err := e.put("foo", 2*time.Second); !errors.Is(err, tt.write) {
					t.Errorf("put: %v", err)
				}
				took := time.Since(start)
				if tt.once && (took != 0 || len(log) != 1) || !tt.once && (took != time.Second || len(log) < 2) {
					t.Errorf("%d attempts in %v", len(log), took)
				}
				_, err := e.client.Get(context.Background(), &kvv1.GetRequest{Key: []byte("foo")})
				if err := wire.ErrorFromStatus(err, wire.MaybeSent); !errors.Is(err, tt.read) {
					t.Errorf("get: %v", err)
				}
			})
		})
	}
}

// TestUnaryWaitsForALeader: an election in the caller's time is waited for.
func TestUnaryWaitsForALeader(t *testing.T) {
	for _, refusal := range []error{
		kverr.New(kverr.NotLeader, "somebody else"),
		kverr.New(kverr.Unavailable, "shard 3: no quorum since 12:00"),
	} {
		for name, elect := range map[string]func(*env){
			"a peer": func(e *env) {
				e.followedBy(2)
				e.server.PushLeader(shardmap.LeaderHint{Shard: 3, Term: 9, Node: nodeID(2)})
			},
			"this node": func(e *env) {
				e.upper.serveAll()
				e.server.PushLeader(shardmap.LeaderHint{Shard: 3, Term: 9, Node: self})
			},
		} {
			t.Run(fmt.Sprint(kverr.KindOf(refusal), "/", name), func(t *testing.T) {
				var log []sent
				to := peers(&log, &kvv1.Answer{Version: 5})
				inBubble(t, func(o *Options) { o.Peers = to }, func(e *env) {
					e.upper.refuseAll(refusal)
					e.upper.set(func() { e.upper.leader = shardmap.LeaderHint{} })
					start := time.Now()
					time.AfterFunc(1234*time.Millisecond, func() { elect(e) })
					if r, err := e.put("foo", 8*time.Second); err != nil {
						t.Errorf("put: %v, %v", r, err)
					}
					if took := time.Since(start); took != 1234*time.Millisecond {
						t.Errorf("took %v", took)
					}
				})
			})
		}
	}
}

// TestUnaryWithoutALeader fails within the caller's time and says why.
func TestUnaryWithoutALeader(t *testing.T) {
	for _, tt := range []struct {
		refusal error
		timeout time.Duration
		message string
		took    time.Duration
	}{
		{kverr.New(kverr.NotLeader, "somebody else"), 2 * time.Second, "shard 3 has no known leader", time.Second},
		{kverr.New(kverr.Unavailable, "no quorum since 12:00"), 2 * time.Second, "no quorum since 12:00", time.Second},
		{kverr.New(kverr.Unavailable, "no quorum since 12:00"), time.Hour, "no quorum since 12:00", 4 * time.Second},
	} {
		t.Run(tt.message+tt.timeout.String(), func(t *testing.T) {
			var log []sent
			inBubble(t, func(o *Options) { o.Peers = peers(&log, &kvv1.Answer{}) }, func(e *env) {
				e.upper.refuseAll(tt.refusal)
				e.upper.set(func() { e.upper.leader = shardmap.LeaderHint{} })
				start := time.Now()
				_, err := e.put("foo", tt.timeout)
				if !errors.Is(err, kverr.Unavailable) || err.Error() != tt.message {
					t.Errorf("put: %v", err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v", took)
				}
				if writes, _ := e.upper.calls(); len(writes) > 20 {
					t.Errorf("%d attempts", len(writes))
				}
			})
		})
	}
}

// TestK4_NodeWithoutReplicaAsks: it has no way to hear of leaders, so it asks a
// voter, and goes where that one points.
func TestK4_NodeWithoutReplicaAsks(t *testing.T) {
	ok := &kvv1.Answer{Version: 5}
	noQuorum := &kvv1.Answer{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE, Message: "no quorum"}}
	for _, tt := range []struct {
		name    string
		answers []any
		want    []int
		kind    kverr.Kind
	}{
		{"the voter leads", []any{ok}, []int{2}, kverr.None},
		{"the voter knows", []any{notLeader(hintTo(9, 3)), ok}, []int{2, 3}, kverr.None},
		{"the voter is wrong", []any{notLeader(hintTo(9, 3)), notLeader(hintTo(10, 2)), ok}, []int{2, 3}, kverr.NotLeader},
		{"the voter does not know yet", []any{notLeader(nil), ok}, []int{2, 3}, kverr.None},
		{"the voter has no quorum yet", []any{noQuorum, ok}, []int{2, 3}, kverr.None},
		{"the voter cannot be reached", []any{kverr.New(kverr.Unavailable, "dial"), ok}, []int{2, 3}, kverr.None},
		{"nobody knows yet", []any{notLeader(nil), notLeader(nil), ok}, []int{2, 3, 2}, kverr.None},
		{"the voter broke", []any{errors.New("reset"), ok}, []int{2}, kverr.OutcomeUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log []sent
			inBubble(t, func(o *Options) { o.Peers = peers(&log, tt.answers...) }, func(e *env) {
				e.drop(3)
				_, err := e.put("foo", 8*time.Second)
				if kverr.KindOf(err) != tt.kind {
					t.Errorf("put: %v", err)
				}
				var nodes []shardmap.NodeID
				for _, s := range log {
					nodes = append(nodes, s.node)
				}
				var want []shardmap.NodeID
				for _, n := range tt.want {
					want = append(want, nodeID(n))
				}
				if !cmp.Equal(nodes, want) {
					t.Errorf("asked %v, want %v", nodes, want)
				}
			})
		})
	}
}

// TestNodeWithoutReplicaForgetsADeadLeader: a leader it once heard of is gone or
// cut off, and the others are asked.
func TestNodeWithoutReplicaForgetsADeadLeader(t *testing.T) {
	for name, last := range map[string]any{
		"gone":    kverr.New(kverr.Unavailable, "dial"),
		"cut off": &kvv1.Answer{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE, Message: "no quorum"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log []sent
			// The leader that is gone, asked as such and as a voter; then the others.
			to := peers(&log, last, last, notLeader(hintTo(9, 3)), &kvv1.Answer{Version: 5})
			inBubble(t, func(o *Options) { o.Peers = to }, func(e *env) {
				e.drop(3)
				rec := upper
				rec.Replicas = []shardmap.Replica{
					{ID: 20, Node: nodeID(2), Role: shardmap.Voter}, {ID: 21, Node: nodeID(3), Role: shardmap.Voter},
				}
				e.setMap(testMap(t, 2, lower, rec))
				e.server.PushLeader(shardmap.LeaderHint{Shard: 3, Term: 8, Node: nodeID(2)})
				if _, err := e.put("foo", 8*time.Second); err != nil {
					t.Errorf("put: %v", err)
				}
				if len(log) != 4 || log[0].node != nodeID(2) || log[3].node != nodeID(3) {
					t.Errorf("asked %v", log)
				}
			})
		})
	}
}

// TestVoterWithoutQuorumIsQuoted: what the asked voter said is what the caller
// is told when patience ends.
func TestVoterWithoutQuorumIsQuoted(t *testing.T) {
	var log []sent
	noQuorum := &kvv1.Answer{Error: &kvv1.Error{Kind: kvv1.ErrorKind_ERROR_KIND_UNAVAILABLE, Message: "no quorum since 12:00"}}
	inBubble(t, func(o *Options) { o.Peers = peers(&log, noQuorum) }, func(e *env) {
		e.drop(3)
		start := time.Now()
		_, err := e.put("foo", 2*time.Second)
		if !errors.Is(err, kverr.Unavailable) || err.Error() != "no quorum since 12:00" || time.Since(start) != time.Second {
			t.Errorf("put: %v after %v", err, time.Since(start))
		}
	})
}

// TestK5_UnaryGivenUp: a write that was handed over and not answered in time is
// in doubt, a read is not; one refused in time says why.
func TestK5_UnaryGivenUp(t *testing.T) {
	inBubble(t, nil, func(e *env) {
		held := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		e.upper.onRead = func(r *raftstore.Read) {}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantKind(t, e.server.ServeOperation(ctx, put(1, "foo", "")), kverr.OutcomeUnknown, "time ran out")
		e.upper.apply(<-held)
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantKind(t, e.server.ServeOperation(ctx, get(1, "foo")), kverr.Deadline, "time ran out")

		// The group's deadline comes before the caller's, so that its refusal is told.
		e.upper.set(func() {
			e.upper.onWrite = func(w *raftstore.Write) {
				time.AfterFunc(time.Until(w.Deadline), func() { w.Done(nil, 0, kverr.New(kverr.Deadline, "queued too long")) })
			}
		})
		if _, err := e.put("foo", time.Second); !errors.Is(err, kverr.Deadline) || err.Error() != "queued too long" {
			t.Errorf("put: %v", err)
		}
	})
}

func TestMaxUnary(t *testing.T) {
	inBubble(t, func(o *Options) { o.Limits.MaxUnary = 1 }, func(e *env) {
		held := make(chan *raftstore.Write, 1)
		e.upper.onWrite = func(w *raftstore.Write) { held <- w }
		first := make(chan error, 1)
		go func() { _, err := e.put("foo", time.Second); first <- err }()
		synctest.Wait()
		if _, err := e.put("bar", time.Second); !errors.Is(err, kverr.Overloaded) {
			t.Errorf("second: %v", err)
		}
		wantKind(t, e.server.ServeOperation(context.Background(), put(1, "bar", "")), kverr.Overloaded, "calls in progress")
		e.upper.apply(<-held)
		if err := <-first; err != nil {
			t.Errorf("first: %v", err)
		}
		if _, err := e.put("bar", time.Second); err != nil {
			t.Errorf("third: %v", err)
		}
	})
}

func TestAuthorizeSeesEveryLeaf(t *testing.T) {
	var seen []string
	allow := func(_ context.Context, v Verb, key []byte) error {
		seen = append(seen, string(v)+" "+string(key))
		return nil
	}
	inBubble(t, func(o *Options) { o.Authorize = allow }, func(e *env) {
		e.open().do(put(1, "foo", ""), get(2, "bar"), del(3, "foo"))
		e.put("foo", time.Second)
		e.server.ServeOperation(context.Background(), get(1, "foo"))
		if want := []string{"put foo", "get bar", "delete foo", "put foo", "get foo"}; !cmp.Equal(seen, want) {
			t.Errorf("seen %v", seen)
		}
	})
}

// What is authorized is what is done: an operation that brings a transaction without
// being one would be asked about the transaction's keys, and done to its own.
func TestOnlyTransactionsBringTransactions(t *testing.T) {
	denied := func(_ context.Context, _ Verb, key []byte) error {
		if string(key) == "{foo}secret" {
			return kverr.New(kverr.Invalid, "not yours")
		}
		return nil
	}
	inBubble(t, func(o *Options) { o.Authorize = denied }, func(e *env) {
		e.upper.data["{foo}secret"] = raftstore.Value{Found: true, Version: 1, Data: []byte("v")}
		cover := &kvv1.Txn{Then: []*kvv1.Leaf{{Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: []byte("{foo}mine")}}}
		ops := []*kvv1.Operation{put(1, "{foo}secret", "mine"), get(2, "{foo}secret"), del(3, "{foo}secret"), get(4, "{foo}secret")}
		for _, op := range ops {
			op.Txn = cover
		}
		ops[3].Txn = new(kvv1.Txn)
		a := e.open().do(ops...)
		for id := range a {
			wantKind(t, a[id], kverr.Invalid, "no transaction")
		}
		if n := len(e.upper.writes) + len(e.upper.reads); n != 0 {
			t.Errorf("%d batches reached the shard", n)
		}
	})
}

// What a transaction brings back counts, and a call that finds no room for it loses
// that and no more: it was applied.
func TestACallIsChargedWithWhatItBringsBack(t *testing.T) {
	small := func(o *Options) { o.Limits.MaxHeldBytes, o.Limits.MaxInFlightBytes = 8*mib, 8*mib }
	inBubble(t, small, func(e *env) {
		e.upper.onWrite = func(w *raftstore.Write) {
			big := state.Value{Version: 1, Data: make([]byte, 5*mib)}
			w.Done([]state.Result{{Verdict: state.Applied, Version: 9, Detail: &state.Detail{
				Leaves: []state.Leaf{{Found: true, Value: big}, {Found: true, Value: big}}}}}, 9, nil)
		}
		leaf := &kvv1.Leaf{Kind: kvv1.OperationKind_OPERATION_KIND_GET, Key: []byte("foo")}
		r, err := e.client.Txn(context.Background(), &kvv1.TxnRequest{Txn: &kvv1.Txn{Then: []*kvv1.Leaf{leaf, leaf}}})
		if err != nil || !r.DetailDropped || len(r.Leaves) != 0 || r.Version != 9 {
			t.Errorf("%d leaves of version %d, dropped %t, %v", len(r.GetLeaves()), r.GetVersion(), r.GetDetailDropped(), err)
		}
		if held := e.server.HeldBytes(); held != 0 {
			t.Errorf("%d bytes are held by nobody", held)
		}
	})
}
