package local

import (
	"context"
	"sync"
	"time"

	"github.com/ringfort/ringfort/api/wire"
)

// NodeStatus is one node as the kernel and the node itself describe it.
type NodeStatus struct {
	Name string `json:"name"`
	// State is "running", "paused", "dead" (ended without being asked to),
	// "stopped" (asked to) or "new" (never started).
	State   string `json:"state"`
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address"`
	// AdminAddress is where it serves metrics over HTTP: as it says, or, while it
	// is paused, as it said after its start. Empty when it does not run.
	AdminAddress string    `json:"admin_address"`
	StartedAt    time.Time `json:"started_at,omitzero"`
	DataDir      string    `json:"data_dir"`
	Log          string    `json:"log"`
	// What the node answered, when it runs and answers.
	NodeID  string `json:"node_id,omitempty"`
	Phase   string `json:"phase,omitempty"`
	Version string `json:"version,omitempty"`
	// Problem says why there is no answer from a running node.
	Problem string `json:"problem,omitempty"`
}

// Status looks at every node. A node that does not answer within two seconds is
// reported with its problem, and is not an error.
func (c *Cluster) Status(ctx context.Context) ([]NodeStatus, error) {
	st, err := c.load()
	if err != nil {
		return nil, err
	}
	nodes := make([]NodeStatus, len(st.Nodes))
	var wait sync.WaitGroup
	for i, n := range st.Nodes {
		nodes[i] = NodeStatus{
			Name: n.Name, State: n.describe(), Address: n.Listen, StartedAt: n.StartedAt,
			DataDir: c.DataDir(n.Name), Log: c.LogPath(n.Name),
		}
		if nodes[i].State == stateRunning || nodes[i].State == statePaused {
			nodes[i].PID, nodes[i].AdminAddress = n.Process.PID, n.Admin
		}
		if nodes[i].State == stateRunning {
			wait.Go(func() { nodes[i].ask(ctx) })
		}
	}
	wait.Wait()
	return nodes, nil
}

const (
	stateRunning = "running"
	statePaused  = "paused"
	stateDead    = "dead"
	stateStopped = "stopped"
	stateNew     = "new"
)

func (n *nodeState) describe() string {
	n.Process.reap()
	switch n.Process.look() {
	case running:
		return stateRunning
	case paused:
		return statePaused
	}
	switch {
	case n.Stopped:
		return stateStopped
	case n.StartedAt.IsZero():
		return stateNew
	}
	return stateDead
}

// ask fills in what the node says about itself.
func (s *NodeStatus) ask(ctx context.Context) {
	admin, closeConn, err := dial(s.Address)
	if err != nil {
		s.Problem = err.Error()
		return
	}
	defer closeConn()
	answer, err := nodeStatus(ctx, admin)
	if err != nil {
		s.Problem = wire.ErrorFromStatus(err, wire.Unsent).Error()
		return
	}
	s.AdminAddress = answer.GetAdminAddress()
	s.NodeID, s.Phase, s.Version = answer.GetNode().GetId(), answer.GetPhase(), answer.GetVersion()
}
