package formation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// attempts bounds how often a coordinator that was overtaken looks again.
	attempts = 4
	// callsAtOnce bounds how many nodes are spoken to at the same time.
	callsAtOnce = 16
)

// Peers reaches nodes, the own one among them. Calls return errors with a kind.
type Peers interface {
	// Live returns the nodes that gossip sees alive and in no other cluster.
	Live() []shardmap.Node
	Held(ctx context.Context, node shardmap.Node) (Held, error)
	Accept(ctx context.Context, node shardmap.Node, plan *peerv1.Plan) (held *peerv1.Plan, err error)
	Start(ctx context.Context, node shardmap.Node, cluster string) error
}

// Outcome says what Form did.
type Outcome struct {
	Plan *peerv1.Plan
	// Resumed: the plan was found, not made.
	Resumed bool
	// Nothing: there was nothing to do, all live nodes of the plan had started.
	Nothing bool
}

// Form forms a cluster of the live nodes or finishes a formation that was begun.
// When it returns without error every node of the plan has started. newID draws
// the cluster's id.
//
// Errors: Invalid (the request), Unavailable (too few nodes, or a node of the
// plan is missing: they are named), Conflict (nodes hold different plans or
// belong to a cluster that was not formed here).
func Form(ctx context.Context, r Request, peers Peers, newID func() (string, error)) (Outcome, error) {
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		return Outcome{}, err
	}
	for range attempts {
		out, overtaken, err := form(ctx, r, peers, newID)
		if !overtaken {
			return out, err
		}
	}
	return Outcome{}, kverr.New(kverr.Unavailable, "other coordinators were faster %d times; try again", attempts)
}

func form(ctx context.Context, r Request, peers Peers, newID func() (string, error)) (out Outcome, overtaken bool, err error) {
	live := peers.Live()
	slices.SortFunc(live, byID)
	holdings, err := collect(ctx, peers, live)
	if err != nil {
		return Outcome{}, false, err
	}
	plan, err := onePlan(holdings)
	if err != nil {
		return Outcome{}, false, err
	}
	if plan != nil {
		out, err = finish(ctx, peers, plan, holdings)
		return out, false, err
	}
	if len(live) < r.ReplicationFactor {
		return Outcome{}, false, kverr.New(kverr.Unavailable,
			"%d nodes needed, %d alive: %s; start more nodes, or ask for less with --replication-factor",
			r.ReplicationFactor, len(live), names(live))
	}
	if len(live) > MaxNodes {
		return Outcome{}, false, kverr.New(kverr.Invalid, "%d nodes are alive; at most %d can found a cluster, the others join later",
			len(live), MaxNodes)
	}
	id, err := newID()
	if err != nil {
		return Outcome{}, false, err
	}
	plan = newPlan(id, r, live)
	held, err := peers.Accept(ctx, live[0], plan)
	if err != nil {
		return Outcome{}, false, fmt.Errorf("%s: %w", label(live[0]), err)
	}
	if held != nil {
		return Outcome{}, true, nil // nothing is stored under our plan: finish theirs
	}
	if _, err := finish(ctx, peers, plan, nil); err != nil {
		return Outcome{}, false, err
	}
	return Outcome{Plan: plan}, false, nil
}

// holding is what one node answered.
type holding struct {
	node shardmap.Node
	Held
}

// collect asks all live nodes. One that does not answer may hold a plan, so it
// cannot be passed over.
func collect(ctx context.Context, peers Peers, live []shardmap.Node) ([]holding, error) {
	found := make([]holding, len(live))
	err := each(ctx, live, func(ctx context.Context, i int, node shardmap.Node) error {
		held, err := peers.Held(ctx, node)
		found[i] = holding{node: node, Held: held}
		return err
	})
	if err != nil {
		return nil, kverr.New(kverr.Unavailable, "not every live node says what it holds; try again: %w", err)
	}
	return found, nil
}

// onePlan returns the plan that is held, nil for none.
func onePlan(holdings []holding) (*peerv1.Plan, error) {
	holders := make(map[string][]shardmap.Node)
	var plan *peerv1.Plan
	for _, h := range holdings {
		if h.Plan != nil {
			plan = h.Plan
			holders[plan.GetClusterId()] = append(holders[plan.GetClusterId()], h.node)
		}
	}
	if len(holders) > 1 {
		var sides []string
		for id, nodes := range holders {
			sides = append(sides, fmt.Sprintf("cluster %s: %s", id, names(nodes)))
		}
		slices.Sort(sides)
		return nil, kverr.New(kverr.Conflict, "nodes accepted different plans (%s); empty the data directories of all "+
			"sides but one, and repeat", strings.Join(sides, "; "))
	}
	for _, h := range holdings {
		if h.Cluster != "" && (plan == nil || plan.GetClusterId() != h.Cluster) {
			return nil, kverr.New(kverr.Conflict, "%s belongs to cluster %s; start new nodes with --join to add them to it",
				label(h.node), h.Cluster)
		}
	}
	if plan != nil {
		if err := Validate(plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// finish brings every node of the plan to accept and then to start.
func finish(ctx context.Context, peers Peers, plan *peerv1.Plan, holdings []holding) (Outcome, error) {
	out := Outcome{Plan: plan, Resumed: true, Nothing: allStarted(plan, holdings)}
	if out.Nothing {
		return out, nil
	}
	members := current(nodesOf(plan), peers.Live())
	err := each(ctx, members, func(ctx context.Context, _ int, node shardmap.Node) error {
		held, err := peers.Accept(ctx, node, plan)
		if err == nil && held != nil {
			err = kverr.New(kverr.Conflict, "holds the plan of cluster %s, not of %s; empty the data directories of one side",
				held.GetClusterId(), plan.GetClusterId())
		}
		return err
	})
	if err != nil {
		return Outcome{}, incomplete(plan, "did not accept", err)
	}
	// F1b: from here on no other plan can start on any of these nodes.
	err = each(ctx, members, func(ctx context.Context, _ int, node shardmap.Node) error {
		return peers.Start(ctx, node, plan.GetClusterId())
	})
	if err != nil {
		return Outcome{}, incomplete(plan, "did not start", err)
	}
	return out, nil
}

// allStarted reports whether every node of the plan that was heard of has
// started. One that has is proof that all have accepted; those not heard of find
// that out by themselves when they come back.
func allStarted(plan *peerv1.Plan, holdings []holding) bool {
	started := 0
	for _, h := range holdings {
		switch {
		case !namesNode(plan, h.node.ID):
		case h.Cluster != plan.GetClusterId():
			return false
		default:
			started++
		}
	}
	return started > 0
}

// incomplete keeps a Conflict what it is; everything else is worth repeating.
func incomplete(plan *peerv1.Plan, what string, err error) error {
	kind := kverr.Unavailable
	if errors.Is(err, kverr.Conflict) || errors.Is(err, kverr.WrongCluster) {
		kind = kverr.Conflict
	}
	return kverr.New(kind, "forming cluster %s: some of its nodes %s; bring them up and repeat: %w", plan.GetClusterId(), what, err)
}

// current replaces the plan's addresses by those seen now: a node may have been
// restarted elsewhere since.
func current(planned, live []shardmap.Node) []shardmap.Node {
	for i, p := range planned {
		if j := slices.IndexFunc(live, func(n shardmap.Node) bool { return n.ID == p.ID }); j >= 0 {
			planned[i] = live[j]
		}
	}
	return planned
}

// each calls fn for all nodes, some at a time, and joins the errors, each with
// its node's name. It does not stop at the first: the operator wants the list.
func each(ctx context.Context, nodes []shardmap.Node, fn func(context.Context, int, shardmap.Node) error) error {
	errs := make([]error, len(nodes))
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for i, node := range nodes {
		group.Go(func() error {
			if err := fn(ctx, i, node); err != nil {
				errs[i] = fmt.Errorf("%s: %w", label(node), err)
			}
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs
	return errors.Join(errs...)
}
