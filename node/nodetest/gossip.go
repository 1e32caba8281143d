package nodetest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/ringfort/ringfort/cluster/gossip"
	"github.com/ringfort/ringfort/node"
)

// hub is a gossip that everybody hears at once: a node is seen by all that no cut
// separates from it, from its start to its end. Seeds do not matter.
type hub struct {
	network *Network

	mu      sync.Mutex
	members map[int]*member
	silent  bool
}

func newHub(n *Network) *hub {
	h := &hub{network: n, members: make(map[int]*member)}
	n.changed = h.touch
	return h
}

// start implements node.Deps.StartGossip for one node.
func (h *hub) start(index int) func(gossip.Options) (node.Gossip, error) {
	return func(o gossip.Options) (node.Gossip, error) {
		m := &member{hub: h, index: index, changed: make(chan struct{}, 1)}
		m.info = gossip.Member{Node: o.Self, Cluster: o.Cluster, Run: o.Run}
		m.info.Gossip = o.Listen
		h.mu.Lock()
		h.members[index] = m
		h.mu.Unlock()
		h.touch()
		return m, nil
	}
}

// touch tells everybody to look again.
func (h *hub) touch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

// member implements node.Gossip.
type member struct {
	hub     *hub
	index   int
	changed chan struct{}
	info    gossip.Member // guarded by hub.mu
}

var _ node.Gossip = (*member)(nil)

func (m *member) Members() []gossip.Member {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	var seen []gossip.Member
	for _, other := range m.hub.members {
		foreign := m.info.Cluster != "" && other.info.Cluster != "" && m.info.Cluster != other.info.Cluster
		heard := other == m || (!m.hub.silent && m.hub.network.open(m.index, other.index))
		if heard && !foreign {
			seen = append(seen, other.info)
		}
	}
	slices.SortFunc(seen, func(a, b gossip.Member) int { return cmp.Compare(a.ID, b.ID) })
	return seen
}

func (m *member) Changed() <-chan struct{} { return m.changed }

func (m *member) Join(addresses []string) (int, error) { return len(addresses), nil }

func (m *member) Address() string {
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	return m.info.Gossip
}

func (m *member) SetCluster(id string) error {
	m.hub.mu.Lock()
	m.info.Cluster = id
	m.hub.mu.Unlock()
	m.hub.touch()
	return nil
}

func (m *member) SetEpoch(epoch uint64) {
	m.hub.mu.Lock()
	m.info.Epoch = max(m.info.Epoch, epoch)
	m.hub.mu.Unlock()
	m.hub.touch()
}

func (m *member) Leave(time.Duration) error { return m.Close() }

func (m *member) Close() error {
	m.hub.mu.Lock()
	if m.hub.members[m.index] == m {
		delete(m.hub.members, m.index)
	}
	m.hub.mu.Unlock()
	m.hub.touch()
	return nil
}

// SilenceGossip makes every node see itself only, or ends that.
func (c *Cluster) SilenceGossip(silent bool) {
	c.hub.mu.Lock()
	c.hub.silent = silent
	c.hub.mu.Unlock()
	c.hub.touch()
}
