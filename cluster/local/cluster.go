package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultNodes is the number of nodes of a new cluster when none is named.
const DefaultNodes = 3

// MaxNodes bounds one local cluster; more processes than this on one machine
// tell nothing about Ringfort.
const MaxNodes = 64

var (
	// ErrNoCluster means that the directory holds no local cluster.
	ErrNoCluster = errors.New("no local cluster")
	// ErrUnknownNode means that the cluster has no node of that name.
	ErrUnknownNode = errors.New("unknown node")
	// ErrNotRunning means that the node's process does not exist.
	ErrNotRunning = errors.New("not running")
	// ErrNotPaused means that the node runs: there is nothing to resume.
	ErrNotPaused = errors.New("not paused: it was running")
	// ErrLeftAlone means that a node was not touched, since the cluster would not have
	// served without it.
	ErrLeftAlone = errors.New("left as it was")
	// ErrFormat means that the directory was written by a newer version.
	ErrFormat = errors.New("unknown format")
	// ErrNoBinary means that no kvnode executable was found.
	ErrNoBinary = errors.New("kvnode not found")
)

// Config says what Up should bring about. Only Nodes, Binary and NodeFlags have
// a meaning for a cluster that exists already.
type Config struct {
	// Nodes is how many nodes there should be: 0 means those that exist, or
	// DefaultNodes. More than exist are added; fewer than exist is refused.
	Nodes int
	// Shards and ReplicationFactor go to Init; 0 means the node's default,
	// except that a cluster of fewer than three nodes gets a replication factor
	// it can satisfy.
	Shards, ReplicationFactor int
	// Binary is the kvnode executable. Empty: the one named at an earlier call,
	// else kvnode beside the running executable, else the one on $PATH.
	Binary string
	// NodeFlags are added to the command line of every node started from now
	// on, and remembered. Nil keeps those of last time, empty forgets them.
	NodeFlags []string
	// FirstPort is where the search for free gRPC ports starts; gossip ports
	// are searched from 100 below. 0 means where the first node is, or 7401.
	FirstPort int
	// Note hears what a person should know, one sentence at a time: a port
	// that was taken, a node that was resumed. May be nil.
	Note func(string)
}

func (c Config) note(format string, args ...any) {
	if c.Note != nil {
		c.Note(fmt.Sprintf(format, args...))
	}
}

// ownFlags are those that every node gets with a value of its own; a second one
// would win, and the node would not be where cluster.json says.
var ownFlags = []string{"name", "data-dir", "listen", "gossip-listen", "join"}

// Validate checks what can be checked without looking at the directory.
func (c Config) Validate() error {
	switch {
	case c.Nodes < 0 || c.Nodes > MaxNodes:
		return fmt.Errorf("nodes: %d is not in 1 to %d", c.Nodes, MaxNodes)
	case c.Shards < 0:
		return fmt.Errorf("shards: %d is negative", c.Shards)
	case c.ReplicationFactor < 0:
		return fmt.Errorf("replication factor: %d is negative", c.ReplicationFactor)
	case c.FirstPort < 0 || c.FirstPort > maxPort:
		return fmt.Errorf("first port: %d is not in 1 to %d", c.FirstPort, maxPort)
	}
	for _, arg := range c.NodeFlags {
		name, isFlag := strings.CutPrefix(arg, "-")
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if isFlag && slices.Contains(ownFlags, name) {
			return fmt.Errorf("flags for the nodes: --%s is chosen for each node and cannot be given", name)
		}
	}
	return nil
}

// Cluster is a handle on a cluster directory. It holds no resources.
type Cluster struct{ dir string }

// At returns a handle on dir, which need not exist yet.
func At(dir string) (*Cluster, error) {
	if dir == "" {
		return nil, errors.New("the cluster directory's name is empty")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &Cluster{dir: abs}, nil
}

// Dir is the absolute path of the cluster directory.
func (c *Cluster) Dir() string { return c.dir }

// LogPath is where a node's output goes.
func (c *Cluster) LogPath(name string) string { return filepath.Join(c.dir, name, "log") }

// DataDir is a node's data directory.
func (c *Cluster) DataDir(name string) string { return filepath.Join(c.dir, name, "data") }

// Exists reports whether the directory holds a cluster.
func (c *Cluster) Exists() bool {
	_, err := os.Stat(c.statePath())
	return err == nil
}

// Endpoints are the gRPC addresses of all nodes, running or not.
func (c *Cluster) Endpoints() ([]string, error) {
	st, err := c.load()
	if err != nil {
		return nil, err
	}
	return st.endpoints(), nil
}

// Names are the names of all nodes, in order.
func (c *Cluster) Names() ([]string, error) {
	st, err := c.load()
	if err != nil {
		return nil, err
	}
	names := make([]string, len(st.Nodes))
	for i, n := range st.Nodes {
		names[i] = n.Name
	}
	return names, nil
}

// Options are the kvnode executable, empty if nobody named one, and the flags
// that nodes get at their next start.
func (c *Cluster) Options() (binary string, nodeFlags []string, err error) {
	st, err := c.load()
	if err != nil {
		return "", nil, err
	}
	return st.Binary, st.NodeFlags, nil
}

// choose returns the nodes with the given names, or all when none is given.
func (c *Cluster) choose(st *state, names []string) ([]*nodeState, error) {
	if len(names) == 0 {
		return slices.Clone(st.Nodes), nil
	}
	var chosen []*nodeState
	for _, name := range names {
		n := st.node(name)
		if n == nil {
			return nil, fmt.Errorf("%w %q: %s has %s", ErrUnknownNode, name, c.dir, st.nameList())
		}
		if !slices.Contains(chosen, n) {
			chosen = append(chosen, n)
		}
	}
	return chosen, nil
}

// findBinary resolves the kvnode executable to an absolute path. named is the
// one that a caller asked for, now or earlier.
func findBinary(named string) (string, error) {
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrNoBinary, err)
		}
		return filepath.Abs(path)
	}
	beside := "kvnode"
	if self, err := os.Executable(); err == nil {
		beside = filepath.Join(filepath.Dir(self), "kvnode")
	}
	for _, name := range []string{beside, "kvnode"} {
		if found, err := exec.LookPath(name); err == nil {
			return filepath.Abs(found)
		}
	}
	return "", fmt.Errorf("%w: neither at %s nor on $PATH", ErrNoBinary, beside)
}
