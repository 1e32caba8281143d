package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// StopGrace is how long Stop and Down wait for a node's graceful stop before
// they kill it.
const StopGrace = 20 * time.Second

// What became of a node that was to stop.
const (
	OutcomeStopped    = "stopped"
	OutcomeKilled     = "killed" // it did not stop within StopGrace
	OutcomeNotRunning = "was not running"
)

// StopReport is what became of one node.
type StopReport struct {
	Name    string        `json:"name"`
	Outcome string        `json:"outcome"` // one of the above
	Took    time.Duration `json:"-"`
}

// Stop ends nodes gracefully with SIGTERM, all at the same time, and kills
// those that do not follow within StopGrace. Paused nodes are resumed for it.
// With no name it stops all.
func (c *Cluster) Stop(ctx context.Context, names ...string) ([]StopReport, error) {
	unlock, err := c.lockExisting(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return c.stop(ctx, names)
}

// Down stops all nodes. With wipe it also removes everything that the cluster
// wrote into its directory, and the directory if nothing else is in it.
func (c *Cluster) Down(ctx context.Context, wipe bool) ([]StopReport, error) {
	unlock, err := c.lockExisting(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	reports, err := c.stop(ctx, nil)
	if err != nil || !wipe {
		return reports, err
	}
	return reports, c.wipe()
}

// Restart starts the nodes again, after a graceful stop of those that run, and
// returns when they answer. Only Binary, NodeFlags, FirstPort and Note of cfg
// are used.
func (c *Cluster) Restart(ctx context.Context, cfg Config, names ...string) error {
	unlock, err := c.lockExisting(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := c.stop(ctx, names); err != nil {
		return err
	}
	cfg.Nodes = 0
	st, err := c.loadOrNew(cfg)
	if err != nil {
		return err
	}
	nodes, err := c.choose(st, names)
	if err != nil {
		return err
	}
	return c.start(ctx, st, nodes, cfg)
}

// RollingRestart restarts the nodes one after the other, each when all shards
// have leaders, so that the cluster serves all the while. Those that do not run
// are started first, all at once. Only Binary, NodeFlags, FirstPort and Note of
// cfg are used.
//
// A node that does not come back does not keep the others from their turns while the
// cluster serves without it; when it does not serve, those that are left are not
// touched. The error consists of *NodeError (see NodeErrors), one for each node that
// was not restarted or did not come back, ErrLeftAlone for the untouched; or it is
// that of an argument.
func (c *Cluster) RollingRestart(ctx context.Context, cfg Config, names ...string) error {
	st, err := c.load()
	if err != nil {
		return err
	}
	nodes, err := c.choose(st, names)
	if err != nil {
		return err
	}
	var down []string
	var turns [][]string
	for _, n := range nodes {
		if n.Process.look() == gone {
			down = append(down, n.Name)
		} else {
			turns = append(turns, []string{n.Name})
		}
	}
	if len(down) > 0 {
		turns = append([][]string{down}, turns...)
	}
	var failed error
	for i, turn := range turns {
		// One that hangs must not use up the time of those after it.
		turnCtx, cancel := share(ctx, len(turns)-i)
		own := blame(turn, c.Restart(turnCtx, cfg, turn...))
		cancel()
		failed = errors.Join(failed, own)
		turnCtx, cancel = share(ctx, len(turns)-i)
		err := c.awaitServing(turnCtx, NodeErrors(failed))
		cancel()
		if err == nil {
			continue
		}
		if own == nil {
			failed = errors.Join(failed, blame(turn, fmt.Errorf("after its restart, %d of %d: %w", i+1, len(turns), err)))
		}
		for _, left := range turns[i+1:] {
			failed = errors.Join(failed, blame(left, fmt.Errorf("%w: %w", ErrLeftAlone, err)))
		}
		break
	}
	return failed
}

// share is the part of ctx's time that the first of n equal pieces of work may take.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/time.Duration(n))
}

// blame spreads an error over the nodes that it concerns: those that it says have
// died, or all. Nil for nil.
func blame(nodes []string, err error) error {
	if err == nil {
		return nil
	}
	died := startErrors(err)
	var all error
	for _, name := range nodes {
		switch i := slices.IndexFunc(died, func(e *StartError) bool { return e.Node == name }); {
		case i >= 0:
			all = errors.Join(all, &NodeError{Node: name, Err: died[i]})
		case len(died) == 0:
			all = errors.Join(all, &NodeError{Node: name, Err: err})
		}
	}
	return all
}

// startErrors finds every *StartError in err.
func startErrors(err error) []*StartError {
	switch e := err.(type) {
	case *StartError:
		return []*StartError{e}
	case interface{ Unwrap() []error }:
		var all []*StartError
		for _, part := range e.Unwrap() {
			all = append(all, startErrors(part)...)
		}
		return all
	case interface{ Unwrap() error }:
		return startErrors(e.Unwrap())
	}
	return nil
}

// awaitServing waits until every shard has a leader, as seen by the nodes that
// run now; others, and those that failed, are not waited for. A cluster that was not
// formed has none.
func (c *Cluster) awaitServing(ctx context.Context, failed []*NodeError) error {
	st, err := c.load()
	if err != nil || st.ClusterID == "" {
		return err
	}
	st.Nodes = slices.DeleteFunc(st.Nodes, func(n *nodeState) bool {
		return n.Process.look() != running || slices.ContainsFunc(failed, func(e *NodeError) bool { return e.Node == n.Name })
	})
	if len(st.Nodes) == 0 {
		return &NotReadyError{What: "no node runs as it should"}
	}
	_, err = c.awaitLeaders(ctx, st)
	return err
}

// lockExisting takes the lock only where a cluster is: the lock file must not
// be the first thing in a directory that was named by mistake.
func (c *Cluster) lockExisting(ctx context.Context) (unlock func(), err error) {
	if _, err := c.load(); err != nil {
		return nil, err
	}
	return c.lock(ctx)
}

// stop is Stop under the directory's lock.
func (c *Cluster) stop(ctx context.Context, names []string) ([]StopReport, error) {
	st, err := c.load()
	if err != nil {
		return nil, err
	}
	nodes, err := c.choose(st, names)
	if err != nil {
		return nil, err
	}
	reports := make([]StopReport, len(nodes))
	failed := make([]error, len(nodes))
	var wait sync.WaitGroup
	for i, n := range nodes {
		if n.Process.look() == gone {
			c.adopt(n)
		}
		wait.Go(func() { reports[i], failed[i] = n.stop(ctx, StopGrace) })
	}
	wait.Wait()
	for i, n := range nodes {
		if failed[i] == nil {
			n.Process, n.Stopped = process{}, true
		}
	}
	return reports, errors.Join(errors.Join(failed...), c.save(st))
}

func (n *nodeState) stop(ctx context.Context, grace time.Duration) (StopReport, error) {
	began := time.Now()
	report := StopReport{Name: n.Name, Outcome: OutcomeNotRunning}
	err := n.Process.signal(sigStop)
	if errors.Is(err, ErrNotRunning) {
		n.Process.reap()
		return report, nil
	}
	if err == nil {
		// A paused process acts on SIGTERM only once it runs again.
		err = n.Process.signal(sigResume)
	}
	if err != nil && !errors.Is(err, ErrNotRunning) {
		return report, fmt.Errorf("stop %s: %w", n.Name, err)
	}
	report.Outcome = OutcomeStopped
	graceCtx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := n.await(graceCtx, gone); err != nil {
		if ctx.Err() != nil {
			return report, err
		}
		report.Outcome = OutcomeKilled
		if err := n.Process.signal(sigKill); err != nil && !errors.Is(err, ErrNotRunning) {
			return report, fmt.Errorf("kill %s: %w", n.Name, err)
		}
		if err := n.await(ctx, gone); err != nil {
			return report, err
		}
	}
	report.Took = time.Since(began)
	return report, nil
}

// wipe removes what the cluster wrote and nothing else: the directory may have
// been named by mistake.
func (c *Cluster) wipe() error {
	st, err := c.load()
	if err != nil {
		return err
	}
	for _, n := range st.Nodes {
		if err := os.RemoveAll(filepath.Dir(c.LogPath(n.Name))); err != nil {
			return err
		}
	}
	for _, path := range []string{c.statePath(), filepath.Join(c.dir, "lock")} {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Remove(c.dir)
}
