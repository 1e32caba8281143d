package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stateFormat is the number of cluster.json's format.
const stateFormat = 1

// state is what cluster.json holds.
type state struct {
	Format    int          `json:"format"`
	ClusterID string       `json:"cluster_id,omitempty"` // empty until formed
	Shards    int          `json:"shards,omitempty"`     // as asked for at first
	Factor    int          `json:"replication_factor,omitempty"`
	Binary    string       `json:"binary,omitempty"` // if a caller named one
	NodeFlags []string     `json:"node_flags,omitempty"`
	Nodes     []*nodeState `json:"nodes"`

	// changed: this caller has changed the binary or the flags.
	changed bool
}

// nodeState is one node as it was last started.
type nodeState struct {
	Name      string    `json:"name"`
	Listen    string    `json:"listen"`
	Gossip    string    `json:"gossip_listen"`
	Admin     string    `json:"admin_address,omitempty"` // as the node said after its start
	Process   process   `json:"process"`
	StartedAt time.Time `json:"started_at,omitzero"`
	// Stopped tells a node that was stopped on purpose from one that died.
	Stopped bool `json:"stopped,omitempty"`
}

func (c *Cluster) statePath() string { return filepath.Join(c.dir, "cluster.json") }

// load reads cluster.json.
func (c *Cluster) load() (*state, error) {
	raw, err := os.ReadFile(c.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCluster, c.dir)
	}
	if err != nil {
		return nil, err
	}
	st, err := decodeState(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.statePath(), err)
	}
	return st, nil
}

func decodeState(raw []byte) (*state, error) {
	var st state
	if err := json.Unmarshal(raw, &st); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if st.Format != stateFormat {
		return nil, fmt.Errorf("%w %d (this program knows %d)", ErrFormat, st.Format, stateFormat)
	}
	for i, n := range st.Nodes {
		if n == nil || n.Name != nodeName(i) {
			return nil, fmt.Errorf("damaged: node %d is not %s", i+1, nodeName(i))
		}
	}
	return &st, nil
}

// save replaces cluster.json whole or not at all (LC2). The caller holds the
// directory's lock, so the temporary name is its own.
func (c *Cluster) save(st *state) error {
	st.Format = stateFormat
	raw, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	tmp := c.statePath() + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		// Without it a power cut can leave the new name on an empty file.
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, c.statePath())
}

func nodeName(i int) string { return fmt.Sprintf("n%d", i+1) }

func (st *state) node(name string) *nodeState {
	for _, n := range st.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

func (st *state) endpoints() []string {
	addrs := make([]string, len(st.Nodes))
	for i, n := range st.Nodes {
		addrs[i] = n.Listen
	}
	return addrs
}

func (st *state) nameList() string {
	names := make([]string, len(st.Nodes))
	for i, n := range st.Nodes {
		names[i] = n.Name
	}
	return strings.Join(names, ", ")
}

// seeds are the addresses a node joins by: all others, in any state, since a
// node keeps trying and all of them may be starting at the same time.
func (st *state) seeds(self *nodeState) string {
	var addrs []string
	for _, n := range st.Nodes {
		if n != self {
			addrs = append(addrs, n.Listen)
		}
	}
	return strings.Join(addrs, ",")
}
