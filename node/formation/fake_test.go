package formation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

var errUnreachable = kverr.New(kverr.Unavailable, "unreachable")

// fakeNode is a node that can crash: the first three fields survive.
type fakeNode struct {
	node    shardmap.Node
	plan    *peerv1.Plan
	cluster string
	born    int // the replica of the system shard, and how often it was asked for

	down        bool
	failCluster bool // the next SetCluster is a crash
	failBorn    bool // the next birth is a crash
	member      *Member
	world       *world
}

func (n *fakeNode) Plan() *peerv1.Plan {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.plan
}

func (n *fakeNode) Cluster() string {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	return n.cluster
}

func (n *fakeNode) SavePlan(p *peerv1.Plan) error {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	n.plan = proto.CloneOf(p)
	return nil
}

func (n *fakeNode) SetCluster(id string) error {
	n.world.mu.Lock()
	defer n.world.mu.Unlock()
	if n.failCluster {
		n.failCluster = false
		return errors.New("crashed")
	}
	n.cluster = id
	return nil
}

func (n *fakeNode) boot() {
	n.member = NewMember(n.node.ID, n, Hooks{
		Cluster:  n.Cluster,
		Accepted: func(*peerv1.Plan) {},
		Born: func(_ context.Context, rec shardmap.Record) error {
			n.world.check()
			n.world.mustHaveAccepted(n.Plan())
			if _, ok := rec.On(n.node.ID); !ok {
				n.world.t.Errorf("%s: born without being in the record", n.node.Name)
			}
			if n.failBorn {
				n.failBorn = false
				return errors.New("crashed")
			}
			n.born++
			return nil
		},
		Started: func(string) {
			n.world.mustHaveAccepted(n.Plan())
		},
	})
}

// world is all nodes. It checks F1 as things happen.
type world struct {
	t     testing.TB
	nodes []*fakeNode
	mu    sync.Mutex // what nodes hold
}

func newWorld(t testing.TB, n int) *world {
	w := &world{t: t}
	for i := range n {
		f := &fakeNode{world: w, node: shardmap.Node{
			ID: shardmap.NodeID(fmt.Sprintf("%040x", 0x1000-i)), Name: fmt.Sprintf("n%d", i+1),
			Address: fmt.Sprintf("127.0.0.1:%d", 7401+i),
		}}
		f.boot()
		w.nodes = append(w.nodes, f)
	}
	return w
}

func (w *world) find(id shardmap.NodeID) *fakeNode {
	i := slices.IndexFunc(w.nodes, func(n *fakeNode) bool { return n.node.ID == id })
	return w.nodes[i]
}

// mustHaveAccepted is F1b.
func (w *world) mustHaveAccepted(plan *peerv1.Plan) {
	for _, n := range nodesOf(plan) {
		if !proto.Equal(w.find(n.ID).Plan(), plan) {
			w.t.Errorf("cluster %s starts although %s has not accepted its plan", plan.GetClusterId(), n.Name)
		}
	}
}

// check: all nodes that started share a node only with nodes of the same cluster.
func (w *world) check() {
	for _, n := range w.nodes {
		cluster, plan := n.Cluster(), n.Plan()
		if cluster != "" && (plan == nil || plan.GetClusterId() != cluster) {
			w.t.Errorf("%s is in cluster %s with plan %v", n.node.Name, cluster, plan)
		}
	}
}

// coordinator is a Peers that sees some nodes, may be slow, and dies after a
// number of calls.
type coordinator struct {
	w     *world
	sees  []int // nil for all
	calls int   // left; negative for no limit
	slow  *rand.Rand
	mu    sync.Mutex // calls and slow
}

func (c *coordinator) step(n shardmap.Node) (*fakeNode, error) {
	c.mu.Lock()
	var delay time.Duration
	if c.slow != nil {
		delay = time.Duration(c.slow.IntN(1000)) * time.Microsecond
	}
	dead := c.calls == 0
	c.calls--
	if dead {
		c.calls = 0
	}
	c.mu.Unlock()
	time.Sleep(delay)
	if dead {
		return nil, errUnreachable
	}
	f := c.w.find(n.ID)
	if f.down {
		return nil, errUnreachable
	}
	return f, nil
}

func (c *coordinator) Live() []shardmap.Node {
	var live []shardmap.Node
	for i, n := range c.w.nodes {
		if !n.down && (c.sees == nil || slices.Contains(c.sees, i)) {
			live = append(live, n.node)
		}
	}
	return live
}

func (c *coordinator) Held(_ context.Context, n shardmap.Node) (Held, error) {
	f, err := c.step(n)
	if err != nil {
		return Held{}, err
	}
	return f.member.Held(), nil
}

func (c *coordinator) Accept(ctx context.Context, n shardmap.Node, plan *peerv1.Plan) (*peerv1.Plan, error) {
	f, err := c.step(n)
	if err != nil {
		return nil, err
	}
	return f.member.Accept(ctx, plan)
}

func (c *coordinator) Start(ctx context.Context, n shardmap.Node, cluster string) error {
	f, err := c.step(n)
	if err != nil {
		return err
	}
	return f.member.Start(ctx, cluster)
}

// draw returns a source of distinct cluster ids.
func draw(name string) func() (string, error) {
	n := 0
	return func() (string, error) {
		n++
		return fmt.Sprintf("%s-%d", name, n), nil
	}
}
