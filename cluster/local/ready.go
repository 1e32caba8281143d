package local

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// askTimeout bounds one status call, so that a hung node cannot hide the
	// news from the others.
	askTimeout = 2 * time.Second
	// initTimeout bounds one Init call; a failed one is repeated.
	initTimeout = 30 * time.Second
	// phaseServing is what a node says that is a member and knows the map.
	phaseServing = "serving"
)

// NotReadyError says what was still missing when the caller's time ran out. The
// nodes go on running.
type NotReadyError struct {
	What string
	Err  error // why the wait ended
}

func (e *NotReadyError) Error() string { return "the cluster is not ready: " + e.What }

// Unwrap returns the cause of the caller's context.
func (e *NotReadyError) Unwrap() error { return e.Err }

// dial makes a connection that tries again quickly: the other end is a process
// on this machine that is just starting.
func dial(address string) (admin adminv1.AdminClient, closeConn func(), err error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return adminv1.NewAdminClient(conn), func() { conn.Close() }, nil
}

func nodeStatus(ctx context.Context, admin adminv1.AdminClient) (*adminv1.NodeStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return admin.NodeStatus(ctx, &adminv1.NodeStatusRequest{})
}

// form makes a cluster of the nodes unless they are one. An interrupted attempt
// is finished: Init may be repeated. The caller holds the directory's lock and
// all nodes have answered.
func (c *Cluster) form(ctx context.Context, st *state) (formed bool, err error) {
	if st.ClusterID != "" {
		return false, nil
	}
	first := st.Nodes[0]
	admin, closeConn, err := dial(first.Listen)
	if err != nil {
		return false, err
	}
	defer closeConn()
	if err := c.awaitGossip(ctx, st, first, admin); err != nil {
		return false, err
	}
	request := &adminv1.InitRequest{Shards: uint32(st.Shards), ReplicationFactor: uint32(st.Factor)}
	var refusal error
	err = poll(ctx, func() (bool, error) {
		if err := c.deaths(st); err != nil {
			return false, err
		}
		ctx, cancel := context.WithTimeout(ctx, initTimeout)
		defer cancel()
		answer, err := admin.Init(ctx, request)
		refusal = wire.ErrorFromStatus(err, wire.MaybeSent)
		switch kverr.KindOf(refusal) {
		case kverr.None:
			formed, st.ClusterID, st.Shards = true, answer.GetClusterId(), int(answer.GetShards())
			return true, nil
		case kverr.Conflict:
			// Formed before: by a caller that died before it could write that
			// down, or by hand.
			own, err := nodeStatus(ctx, admin)
			st.ClusterID = own.GetClusterId()
			return err == nil && st.ClusterID != "", nil
		case kverr.Unavailable, kverr.Overloaded, kverr.Deadline, kverr.OutcomeUnknown:
			return false, nil
		}
		return false, fmt.Errorf("form the cluster: %w", refusal)
	})
	if err != nil && ctx.Err() != nil {
		return false, &NotReadyError{What: fmt.Sprintf("it could not be formed (%v)", refusal), Err: err}
	}
	if err != nil {
		return false, err
	}
	return formed, c.save(st)
}

// awaitGossip waits until the node that will form the cluster sees all others,
// since Init places the shards over the nodes that it sees.
func (c *Cluster) awaitGossip(ctx context.Context, st *state, first *nodeState, admin adminv1.AdminClient) error {
	var unseen []string
	err := poll(ctx, func() (bool, error) {
		if err := c.deaths(st); err != nil {
			return false, err
		}
		answer, err := nodeStatus(ctx, admin)
		if err != nil {
			return false, nil
		}
		unseen = nil
		for _, n := range st.Nodes {
			sees := func(m *adminv1.GossipMember) bool { return m.GetName() == n.Name && m.GetAlive() }
			if n != first && !slices.ContainsFunc(answer.GetMembers(), sees) {
				unseen = append(unseen, n.Name)
			}
		}
		return len(unseen) == 0, nil
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err != nil {
		return &NotReadyError{What: fmt.Sprintf("%s does not see %s by gossip", first.Name, strings.Join(unseen, ", ")), Err: err}
	}
	return nil
}

// awaitLeaders waits until every slot has a leader that serves and every node
// is reachable at the address it was started with.
func (c *Cluster) awaitLeaders(ctx context.Context, st *state) (shards int, err error) {
	missing := "no node answers"
	asked, silent := 0, 0
	var conns []adminv1.AdminClient
	for _, n := range st.Nodes {
		admin, closeConn, err := dial(n.Listen)
		if err != nil {
			return 0, err
		}
		defer closeConn()
		conns = append(conns, admin)
	}
	err = poll(ctx, func() (bool, error) {
		if err := c.deaths(st); err != nil {
			return false, err
		}
		callCtx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		// A node that hangs must not be the only one that is asked.
		next := asked % len(conns)
		answer, err := conns[next].ClusterStatus(callCtx, &adminv1.ClusterStatusRequest{})
		asked++
		if err != nil {
			// What was said before is worth more, until all have failed in turn and one
			// of them again: the very last call may fail only for want of time.
			if silent++; silent > len(conns) {
				missing = fmt.Sprintf("%s says: %v", st.Nodes[next].Name, wire.ErrorFromStatus(err, wire.Unsent))
			}
			return false, nil
		}
		silent = 0
		shards, missing = judge(answer, st)
		return missing == "", nil
	})
	if err != nil && ctx.Err() == nil {
		return 0, err
	}
	if err != nil {
		return 0, &NotReadyError{What: missing, Err: err}
	}
	return shards, nil
}

// awaitMembers waits until every node serves in this cluster: one that joins
// answers and is seen by the others before it is a member.
func (c *Cluster) awaitMembers(ctx context.Context, st *state) error {
	for _, n := range st.Nodes {
		admin, closeConn, err := dial(n.Listen)
		if err != nil {
			return err
		}
		err = poll(ctx, func() (bool, error) {
			if err := c.deaths(st); err != nil {
				return false, err
			}
			answer, err := nodeStatus(ctx, admin)
			if own := answer.GetClusterId(); err == nil && own != "" && own != st.ClusterID {
				return false, kverr.New(kverr.WrongCluster, "%s belongs to cluster %s by its data directory %s, and this is cluster %s",
					n.Name, own, c.DataDir(n.Name), st.ClusterID)
			}
			return err == nil && answer.GetClusterId() != "" && answer.GetPhase() == phaseServing, nil
		})
		closeConn()
		if err != nil && ctx.Err() != nil {
			return &NotReadyError{What: n.Name + " is not a member of the cluster yet", Err: err}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// judge counts the data shards and says in words what keeps the cluster from
// serving every key; empty if nothing does.
func judge(answer *adminv1.ClusterStatusResponse, st *state) (shards int, missing string) {
	var leaderless, unreachable []string
	slots, system := 0, false
	for _, s := range answer.GetShards() {
		record := s.GetRecord()
		if record.GetShard() == uint64(shardmap.SystemShard) {
			system = true
		} else {
			shards++
			slots += int(record.GetArc().GetTo()) - int(record.GetArc().GetFrom())
		}
		if s.GetLeaderNode() == "" || !s.GetReady() {
			leaderless = append(leaderless, fmt.Sprint(record.GetShard()))
		}
	}
	for _, n := range st.Nodes {
		reaches := func(m *adminv1.NodeSummary) bool { return m.GetNode().GetAddress() == n.Listen && m.GetReachable() }
		if !slices.ContainsFunc(answer.GetNodes(), reaches) {
			unreachable = append(unreachable, n.Name)
		}
	}
	var parts []string
	switch {
	case !system || slots != shardmap.Slots:
		parts = append(parts, fmt.Sprintf("%d of %d slots have a shard", slots, shardmap.Slots))
	case len(leaderless) > 0:
		parts = append(parts, fmt.Sprintf("no leader serves shard %s", strings.Join(leaderless, ", ")))
	}
	if len(unreachable) > 0 {
		parts = append(parts, fmt.Sprintf("%s not reachable", strings.Join(unreachable, ", ")))
	}
	return shards, strings.Join(parts, "; ")
}
