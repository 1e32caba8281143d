package local

import (
	"errors"
	"fmt"
	"strings"
)

// deathError says that nodes died while somebody waited for the cluster.
type deathError struct {
	nodes []string
	err   error // a *StartError for each
}

func (e *deathError) Error() string { return e.err.Error() }

// Unwrap returns the *StartErrors.
func (e *deathError) Unwrap() error { return e.err }

// deaths looks whether all nodes of st still run: nobody who waits for a cluster
// should wait for a process that is gone. Nodes that somebody else has started
// again are taken over into st. A process that was killed a moment ago can look
// alive until the kernel has taken it apart, so this has to be asked repeatedly.
func (c *Cluster) deaths(st *state) error {
	var dead []*nodeState
	for _, n := range st.Nodes {
		if n.Process.look() == gone {
			dead = append(dead, n)
		}
	}
	if len(dead) == 0 {
		return nil
	}
	now, err := c.load()
	if err != nil {
		return err
	}
	found := &deathError{}
	var failures []error
	var stopped []string
	for _, n := range dead {
		is := now.node(n.Name)
		switch {
		case is != nil && is.Process != n.Process && is.Process.look() != gone:
			*n = *is
		case is == nil || is.Stopped:
			stopped = append(stopped, n.Name)
		default:
			code, _ := n.Process.reap()
			found.nodes = append(found.nodes, n.Name)
			failures = append(failures, &StartError{
				Node: n.Name, ExitCode: code, Late: true, LogPath: c.LogPath(n.Name), LastLog: lastLines(c.LogPath(n.Name), 0, 10),
			})
		}
	}
	if len(stopped) > 0 {
		return fmt.Errorf("%s: %w: stopped by somebody else meanwhile", strings.Join(stopped, ", "), ErrNotRunning)
	}
	if len(failures) == 0 {
		return nil
	}
	found.err = errors.Join(failures...)
	return found
}
