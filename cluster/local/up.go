package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// NodeReport is what Up did about one node.
type NodeReport struct {
	Name   string `json:"name"`
	Listen string `json:"address"`
	// Outcome is "started", "restarted", "resumed" or "running".
	Outcome string `json:"outcome"`
}

// Report is what Up found and did.
type Report struct {
	Dir       string        `json:"dir"`
	ClusterID string        `json:"cluster_id"`
	Nodes     []NodeReport  `json:"nodes"`
	Shards    int           `json:"shards"` // data shards, without the system shard
	Formed    bool          `json:"formed"` // this call formed the cluster
	Took      time.Duration `json:"-"`
}

// Endpoints are the gRPC addresses of all nodes.
func (r *Report) Endpoints() []string {
	addrs := make([]string, len(r.Nodes))
	for i, n := range r.Nodes {
		addrs[i] = n.Listen
	}
	return addrs
}

// Up starts what does not run, forms the cluster if nobody has yet, and returns
// when every shard has a leader that serves and every node is a member. On a
// cluster that is up it changes nothing and reports. A node that ran when Up
// began and dies during it is started once more: it may have been dying already. Nodes started before an error keep running: repeating Up
// goes on from there, and Down ends them.
//
// Errors: ErrNoBinary, ErrFormat, *FlagsError, *StartError for each node that died,
// *NotReadyError when ctx ended before the cluster served.
func (c *Cluster) Up(ctx context.Context, cfg Config) (*Report, error) {
	began := time.Now()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var former []NodeReport
	for {
		report := &Report{Dir: c.dir}
		err := c.raise(ctx, cfg, report)
		report.keep(former)
		if err == nil {
			report.Took = time.Since(began)
			return report, nil
		}
		var dead *deathError
		// Killed together, they need not die together: there may be several
		// rounds, but none without a node that was not started before.
		if !errors.As(err, &dead) || !report.allRan(dead.nodes) {
			return nil, err
		}
		former = report.Nodes
		cfg.note("%s has died: starting it again", strings.Join(dead.nodes, ", "))
	}
}

// raise is one attempt of Up. The report's nodes are filled in also when it
// fails after it has looked at them.
func (c *Cluster) raise(ctx context.Context, cfg Config, report *Report) error {
	st, err := c.launch(ctx, cfg, report)
	if err != nil {
		return err
	}
	// Not under the lock: others may kill and restart nodes meanwhile.
	if report.Shards, err = c.awaitLeaders(ctx, st); err != nil {
		return err
	}
	return c.awaitMembers(ctx, st)
}

// keep takes over what an earlier attempt did about the nodes.
func (r *Report) keep(former []NodeReport) {
	for i, n := range former {
		if i < len(r.Nodes) && r.Nodes[i].Outcome == outcomeRunning {
			r.Nodes[i].Outcome = n.Outcome
		}
	}
}

// allRan reports whether Up has started none of the nodes.
func (r *Report) allRan(names []string) bool {
	for _, n := range r.Nodes {
		if slices.Contains(names, n.Name) && n.Outcome != outcomeRunning && n.Outcome != outcomeResumed {
			return false
		}
	}
	return true
}

// launch is the part of Up that excludes other callers.
func (c *Cluster) launch(ctx context.Context, cfg Config, report *Report) (*state, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := c.loadOrNew(cfg)
	if err != nil {
		return nil, err
	}
	var missing []*nodeState
	var ran []string
	for _, n := range st.Nodes {
		outcome, err := c.examine(n, cfg)
		if err != nil {
			return nil, err
		}
		if outcome == outcomeStarted || outcome == outcomeRestarted {
			missing = append(missing, n)
		} else {
			ran = append(ran, n.Name)
		}
		report.Nodes = append(report.Nodes, NodeReport{Name: n.Name, Outcome: outcome})
	}
	if st.changed && len(ran) > 0 {
		cfg.note("%s run already: the new flags take effect at the next start (kvctl local restart --all)", strings.Join(ran, ", "))
	}
	if err := c.start(ctx, st, missing, cfg); err != nil {
		return nil, err
	}
	for i, n := range st.Nodes {
		report.Nodes[i].Listen = n.Listen // start may have moved it
	}
	if report.Formed, err = c.form(ctx, st); err != nil {
		return nil, err
	}
	report.ClusterID = st.ClusterID
	return st, nil
}

// loadOrNew reads the state, or makes that of a new cluster, and applies cfg.
func (c *Cluster) loadOrNew(cfg Config) (*state, error) {
	st, err := c.load()
	if errors.Is(err, ErrNoCluster) {
		st, err = &state{}, nil
	}
	if err != nil {
		return nil, err
	}
	want := cmp.Or(cfg.Nodes, len(st.Nodes), DefaultNodes)
	if want < len(st.Nodes) {
		return nil, fmt.Errorf("%s has %d nodes already, and a local cluster does not shrink to %d", c.dir, len(st.Nodes), want)
	}
	if st.ClusterID == "" {
		st.Shards = cfg.Shards
		st.Factor = cfg.ReplicationFactor
		if st.Factor == 0 {
			st.Factor = min(want, 3)
		}
	} else if (cfg.Shards != 0 && cfg.Shards != st.Shards) || (cfg.ReplicationFactor != 0 && cfg.ReplicationFactor != st.Factor) {
		cfg.note("the cluster was formed before: %d shards and replication factor %d stay as they are", st.Shards, st.Factor)
	}
	for len(st.Nodes) < want {
		st.Nodes = append(st.Nodes, &nodeState{Name: nodeName(len(st.Nodes))})
	}
	if cfg.Binary != "" {
		before := st.Binary
		if st.Binary, err = findBinary(cfg.Binary); err != nil {
			return nil, err
		}
		st.changed = before != st.Binary
	}
	if cfg.NodeFlags != nil {
		st.changed = st.changed || !slices.Equal(st.NodeFlags, cfg.NodeFlags)
		st.NodeFlags = cfg.NodeFlags
	}
	return st, nil
}

const (
	outcomeStarted   = "started"
	outcomeRestarted = "restarted"
	outcomeResumed   = "resumed"
	outcomeRunning   = "running"
)

// examine finds out what Up has to do about a node, and resumes a paused one.
func (c *Cluster) examine(n *nodeState, cfg Config) (outcome string, err error) {
	switch n.Process.look() {
	case running:
		return outcomeRunning, nil
	case paused:
		cfg.note("%s was paused: resumed", n.Name)
		return outcomeResumed, n.Process.signal(sigResume)
	}
	if c.adopt(n) {
		return outcomeRunning, nil
	}
	if _, err := os.Stat(c.DataDir(n.Name)); err == nil {
		return outcomeRestarted, nil
	}
	return outcomeStarted, nil
}

// adopt takes over a node that runs although the state does not say so (LC2).
func (c *Cluster) adopt(n *nodeState) bool {
	p, args, ok := findOrphan(n.Name, c.DataDir(n.Name))
	if !ok {
		return false
	}
	n.Process, n.Stopped = p, false
	n.Listen, n.Gossip = flagValue(args, "--listen"), flagValue(args, "--gossip-listen")
	return true
}
