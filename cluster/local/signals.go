package local

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	sigKill   = unix.SIGKILL
	sigPause  = unix.SIGSTOP
	sigResume = unix.SIGCONT
	sigStop   = unix.SIGTERM
)

// NodeError says which node something failed for.
type NodeError struct {
	Node string
	Err  error
}

func (e *NodeError) Error() string {
	if died, ok := e.Err.(*StartError); ok {
		return died.Error() // which names the node
	}
	return fmt.Sprintf("%s: %v", e.Node, e.Err)
}

// Unwrap returns the cause.
func (e *NodeError) Unwrap() error { return e.Err }

// NodeErrors finds every *NodeError in err: what was asked for has been done to
// the nodes that none of them names.
func NodeErrors(err error) []*NodeError {
	switch e := err.(type) {
	case *NodeError:
		return []*NodeError{e}
	case interface{ Unwrap() []error }:
		var all []*NodeError
		for _, part := range e.Unwrap() {
			all = append(all, NodeErrors(part)...)
		}
		return all
	}
	return nil
}

// Kill ends nodes as a crash would, with SIGKILL, and returns when they are
// gone. With no name it kills all, as nearly at once as it can. A node that
// does not run is an error (ErrNotRunning), after the others were killed; like
// those of Pause and Resume it consists of *NodeError (see NodeErrors).
func (c *Cluster) Kill(ctx context.Context, names ...string) error {
	return c.signalAndWait(ctx, sigKill, names, gone)
}

// Pause stops nodes in their tracks with SIGSTOP: they hold their sockets and
// locks and answer nothing. It returns when the kernel says they stand still.
func (c *Cluster) Pause(ctx context.Context, names ...string) error {
	return c.signalAndWait(ctx, sigPause, names, paused)
}

// Resume lets paused nodes go on, with SIGCONT. A node that runs is left as it is,
// which is an error (ErrNotPaused), after the others were resumed.
func (c *Cluster) Resume(ctx context.Context, names ...string) error {
	return c.signalAndWait(ctx, sigResume, names, running)
}

func (c *Cluster) signalAndWait(ctx context.Context, sig unix.Signal, names []string, want runState) error {
	st, err := c.load()
	if err != nil {
		return err
	}
	nodes, err := c.choose(st, names)
	if err != nil {
		return err
	}
	var failed error
	var reached []*nodeState
	for _, n := range nodes {
		if sig == sigResume && n.Process.look() == running {
			failed = errors.Join(failed, &NodeError{Node: n.Name, Err: ErrNotPaused})
			continue
		}
		if err := n.Process.signal(sig); err != nil {
			failed = errors.Join(failed, &NodeError{Node: n.Name, Err: err})
			continue
		}
		reached = append(reached, n)
	}
	for _, n := range reached {
		failed = errors.Join(failed, n.await(ctx, want))
	}
	return failed
}

// await waits until the node's process is in the given state, collecting it if
// it was a child of this process.
func (n *nodeState) await(ctx context.Context, want runState) error {
	err := poll(ctx, func() (bool, error) {
		now := n.Process.look()
		if now == gone {
			n.Process.reap()
		}
		if now == gone && want != gone {
			return false, &NodeError{Node: n.Name, Err: fmt.Errorf("%w any more", ErrNotRunning)}
		}
		return now == want, nil
	})
	if err != nil && ctx.Err() != nil {
		return &NodeError{Node: n.Name, Err: fmt.Errorf("the signal took no effect on pid %d: %w", n.Process.PID, err)}
	}
	return err
}
