package formation

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// Disk is what a node remembers durably, as *identity.Dir does.
type Disk interface {
	Plan() *peerv1.Plan
	SavePlan(*peerv1.Plan) error
	SetCluster(id string) error
}

// Hooks let the node act on its own change of state. They are called one at a
// time.
type Hooks struct {
	// Cluster is the cluster the node has started in, empty for none.
	Cluster func() string
	// Accepted is called after the plan is durable.
	Accepted func(*peerv1.Plan)
	// Born must bring the local replica of the system shard to life, durably; it
	// may find it alive from an earlier attempt.
	Born func(context.Context, shardmap.Record) error
	// Started is called after the membership is durable.
	Started func(cluster string)
}

// Member is one node's part in a formation. Safe for concurrent use.
type Member struct {
	self  shardmap.NodeID
	disk  Disk
	hooks Hooks
	turn  chan struct{} // holds one token; whoever has it may change the disk
	over  chan struct{} // closed by Close
}

// NewMember returns the node's part; all hooks are required.
func NewMember(self shardmap.NodeID, disk Disk, hooks Hooks) *Member {
	m := &Member{self: self, disk: disk, hooks: hooks, turn: make(chan struct{}, 1), over: make(chan struct{})}
	m.turn <- struct{}{}
	return m
}

// alone runs fn while no other change of this member runs.
func (m *Member) alone(ctx context.Context, fn func() error) error {
	select {
	case <-m.turn:
	case <-m.over:
		return kverr.New(kverr.Closed, "node %s is stopping", m.self.Short())
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { m.turn <- struct{}{} }()
	return fn()
}

// Close refuses every later change, kind Closed, and waits until the one under way
// is done or ctx ends. It is called once; then the stores may close.
func (m *Member) Close(ctx context.Context) {
	select {
	case <-m.turn: // kept for ever
	case <-ctx.Done():
	}
	close(m.over)
}

// Held is what a node answers to "what do you hold?".
type Held struct {
	Plan    *peerv1.Plan // nil for none
	Cluster string       // empty while not started
}

// Held returns what this node holds.
func (m *Member) Held() Held { return Held{Plan: m.disk.Plan(), Cluster: m.hooks.Cluster()} }

// Accept stores the plan durably and returns nil, or returns the plan that this
// node already holds (F1a). A node that joined a cluster accepts none: kind
// WrongCluster.
func (m *Member) Accept(ctx context.Context, plan *peerv1.Plan) (held *peerv1.Plan, err error) {
	if err := Validate(plan); err != nil {
		return nil, err
	}
	if !namesNode(plan, m.self) {
		return nil, kverr.New(kverr.Invalid, "the plan of cluster %s does not name node %s", plan.GetClusterId(), m.self.Short())
	}
	err = m.alone(ctx, func() error {
		if mine := m.disk.Plan(); mine != nil {
			if !proto.Equal(mine, plan) {
				held = mine
			}
			return nil
		}
		if cluster := m.hooks.Cluster(); cluster != "" {
			return kverr.New(kverr.WrongCluster, "node %s belongs to cluster %s", m.self.Short(), cluster)
		}
		if err := m.disk.SavePlan(plan); err != nil {
			return err
		}
		m.hooks.Accepted(m.disk.Plan())
		return nil
	})
	return held, err
}

func namesNode(plan *peerv1.Plan, node shardmap.NodeID) bool {
	for _, info := range plan.GetNodes() {
		if info.GetId() == string(node) {
			return true
		}
	}
	return false
}

// Start makes this node a member of the cluster whose plan it accepted. The
// caller knows that all nodes of the plan did (F1b). It may be repeated.
func (m *Member) Start(ctx context.Context, cluster string) error {
	return m.alone(ctx, func() error {
		plan := m.disk.Plan()
		if plan == nil || plan.GetClusterId() != cluster {
			return kverr.New(kverr.Conflict, "node %s accepted no plan of cluster %s", m.self.Short(), cluster)
		}
		if m.hooks.Cluster() == cluster {
			return nil
		}
		record, err := wire.RecordFromProto(plan.GetSystem())
		if err != nil {
			return err
		}
		if _, member := record.On(m.self); member {
			if err := m.hooks.Born(ctx, record); err != nil {
				return fmt.Errorf("bring the system shard's replica to life: %w", err)
			}
		}
		return m.become(cluster) // F1d: after the birth
	})
}

// Adopt makes this node a member of a cluster that is formed already. A node that
// holds a plan of another cluster is refused: kind Conflict.
func (m *Member) Adopt(ctx context.Context, cluster string) error {
	return m.alone(ctx, func() error {
		switch mine := m.hooks.Cluster(); {
		case mine == cluster:
			return nil
		case mine != "":
			return kverr.New(kverr.WrongCluster, "node %s belongs to cluster %s, not to %s", m.self.Short(), mine, cluster)
		case m.disk.Plan() != nil:
			return kverr.New(kverr.Conflict, "node %s accepted the plan of cluster %s and cannot join %s; "+
				"empty its data directory if that plan is given up", m.self.Short(), m.disk.Plan().GetClusterId(), cluster)
		}
		return m.become(cluster)
	})
}

func (m *Member) become(cluster string) error {
	if err := m.disk.SetCluster(cluster); err != nil {
		return err
	}
	m.hooks.Started(cluster)
	return nil
}
