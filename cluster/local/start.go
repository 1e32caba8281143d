package local

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Exit codes of kvnode: when its flags are wrong, and when it could not bind its
// ports.
const (
	exitUsage        = 2
	exitAddressInUse = 4
)

// maxPortRounds bounds how often a node whose port was snatched between our
// probe and its bind is started again with another one.
const maxPortRounds = 5

// StartError says that a node died before it answered.
type StartError struct {
	Node string
	// ExitCode is -1 when the node was killed by a signal or its code is not
	// known, because it was not this process that started it.
	ExitCode int
	// Late: it had answered before, or was not started just now.
	Late    bool
	LogPath string
	LastLog []string // what it logged since it was started, at most 10 lines
	Command []string // its command line, if it was started just now
}

func (e *StartError) Error() string {
	var b strings.Builder
	b.WriteString(e.Node + " died")
	if !e.Late {
		b.WriteString(" at its start")
	}
	if e.ExitCode >= 0 {
		fmt.Fprintf(&b, " with exit code %d", e.ExitCode)
	}
	fmt.Fprintf(&b, "; the end of %s:", e.LogPath)
	for _, line := range e.LastLog {
		b.WriteString("\n  " + line)
	}
	if len(e.LastLog) == 0 {
		b.WriteString(" (it wrote nothing)")
	}
	if len(e.Command) > 0 {
		b.WriteString("\n  started as: " + strings.Join(e.Command, " "))
	}
	return b.String()
}

// start starts the given nodes and waits until all of st's nodes among them
// answer. The caller holds the directory's lock.
func (c *Cluster) start(ctx context.Context, st *state, nodes []*nodeState, cfg Config) error {
	check := st.changed && len(st.NodeFlags) > 0
	if len(nodes) == 0 && !check {
		return c.save(st)
	}
	binary, err := findBinary(st.Binary)
	if err == nil && check {
		err = c.checkFlags(ctx, st, binary)
	}
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return c.save(st)
	}
	unlock, err := lockPorts(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	free := newPorts(cfg.FirstPort, st.Nodes)
	for round := 1; ; round++ {
		offsets, err := c.spawnAll(st, nodes, binary, free, cfg)
		if err != nil {
			return err
		}
		failed := c.awaitAnswers(ctx, nodes, offsets)
		for i, err := range failed {
			if died := (*StartError)(nil); errors.As(err, &died) {
				died.Command = append([]string{binary}, c.arguments(st, nodes[i])...)
			}
		}
		snatched, err := sortFailures(nodes, failed)
		if len(snatched) == 0 || round == maxPortRounds {
			return errors.Join(errors.Join(failed...), c.save(st))
		}
		if err != nil {
			return err
		}
		nodes = snatched
	}
}

// spawnAll gives every node its ports and starts it. The state is saved before,
// so that the directory knows its nodes, and after, with their processes.
//
// offsets tell where in its log each node's new start begins.
func (c *Cluster) spawnAll(st *state, nodes []*nodeState, binary string, free *ports, cfg Config) (offsets []int64, err error) {
	for _, n := range nodes {
		if err := free.assign(n, cfg.note); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(c.LogPath(n.Name)), 0o755); err != nil {
			return nil, err
		}
	}
	if err := c.save(st); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		offset := int64(0)
		if info, err := os.Stat(c.LogPath(n.Name)); err == nil {
			offset = info.Size()
		}
		offsets = append(offsets, offset)
		home := filepath.Dir(c.LogPath(n.Name))
		n.Process, err = spawn(binary, c.arguments(st, n), home, c.LogPath(n.Name))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start %s: %w", n.Name, err), c.save(st))
		}
		n.StartedAt, n.Stopped = time.Now().UTC(), false
	}
	return offsets, c.save(st)
}

// FlagsError says that kvnode refuses the flags for the nodes. They were not
// remembered, and no node was started with them.
type FlagsError struct {
	Flags  []string
	Faults []string // kvnode's own words, a line each
}

func (e *FlagsError) Error() string {
	return "kvnode refuses the flags " + strings.Join(e.Flags, " ") + ":\n" + strings.Join(e.Faults, "\n")
}

// flagsPatience bounds a check of flags: it starts nothing.
const flagsPatience = 10 * time.Second

// checkFlags has kvnode look at the flags before they are remembered: wrong ones
// would keep every node from its next start, whenever that is. A kvnode that cannot
// be asked is no reason to refuse them.
func (c *Cluster) checkFlags(ctx context.Context, st *state, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, flagsPatience)
	defer cancel()
	n := *st.Nodes[0] // the flags are the same for all
	n.Listen, n.Gossip = cmp.Or(n.Listen, "127.0.0.1:7401"), cmp.Or(n.Gossip, "127.0.0.1:7501")
	home := filepath.Dir(c.LogPath(n.Name)) // relative paths in flags lead from there
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, append([]string{"config", "check"}, c.arguments(st, &n)...)...)
	cmd.Dir = home
	out, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
		return nil
	}
	refused := &FlagsError{Flags: st.NodeFlags}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "kvnode: "))
		if line != "" && !strings.HasPrefix(line, "see kvnode --help") {
			refused.Faults = append(refused.Faults, line)
		}
	}
	return refused
}

func (c *Cluster) arguments(st *state, n *nodeState) []string {
	args := []string{
		"--name", n.Name,
		"--data-dir", c.DataDir(n.Name),
		"--listen", n.Listen,
		"--gossip-listen", n.Gossip,
		"--admin-listen", "127.0.0.1:0", // it says which port it got; NodeFlags may choose one
	}
	if seeds := st.seeds(n); seeds != "" {
		args = append(args, "--join", seeds)
	}
	return append(args, st.NodeFlags...)
}

// awaitAnswers waits for all nodes at the same time; errors[i] belongs to
// nodes[i].
func (c *Cluster) awaitAnswers(ctx context.Context, nodes []*nodeState, offsets []int64) []error {
	failed := make([]error, len(nodes))
	var wait sync.WaitGroup
	for i, n := range nodes {
		wait.Go(func() { failed[i] = c.awaitAnswer(ctx, n, offsets[i]) })
	}
	wait.Wait()
	return failed
}

// awaitAnswer waits until a node answers under its name or its process is gone.
func (c *Cluster) awaitAnswer(ctx context.Context, n *nodeState, offset int64) error {
	admin, closeConn, err := dial(n.Listen)
	if err != nil {
		return err
	}
	defer closeConn()
	err = poll(ctx, func() (bool, error) {
		if n.Process.look() == gone {
			code, final := n.Process.reap()
			if !final {
				return false, nil
			}
			return false, c.startError(n, code, offset)
		}
		// A stranger on the same port answers under another name, or is no node.
		answer, err := nodeStatus(ctx, admin)
		if err != nil || answer.GetNode().GetName() != n.Name {
			return false, nil
		}
		n.Admin = answer.GetAdminAddress()
		return true, nil
	})
	if ctx.Err() != nil && err != nil {
		return &NotReadyError{
			What: fmt.Sprintf("%s (pid %d) runs but does not answer on %s; its log is %s",
				n.Name, n.Process.PID, n.Listen, c.LogPath(n.Name)),
			Err: err,
		}
	}
	return err
}

func (c *Cluster) startError(n *nodeState, code int, offset int64) *StartError {
	return &StartError{Node: n.Name, ExitCode: code, LogPath: c.LogPath(n.Name), LastLog: lastLines(c.LogPath(n.Name), offset, 10)}
}

// sortFailures parts the nodes that lost their port from failures that starting
// again does not cure.
func sortFailures(nodes []*nodeState, failed []error) (snatched []*nodeState, final error) {
	for i, err := range failed {
		var died *StartError
		if errors.As(err, &died) && died.ExitCode == exitAddressInUse {
			snatched = append(snatched, nodes[i])
		} else {
			final = errors.Join(final, err)
		}
	}
	return snatched, final
}

// lastLines returns the last n lines of the file's part behind offset.
func lastLines(path string, offset int64, n int) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const enough = 64 << 10
	if info, err := f.Stat(); err == nil {
		offset = max(offset, info.Size()-enough)
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, offset, enough))
	if err != nil {
		return nil
	}
	raw = bytes.TrimRight(raw, "\n")
	if len(raw) == 0 {
		return nil
	}
	lines := strings.Split(string(raw), "\n")
	return lines[max(0, len(lines)-n):]
}
