package gossip

import (
	"cmp"
	"slices"
	"sync"

	"github.com/ringfort/ringfort/shardmap"
)

// MaxMembers bounds the view: further nodes are not admitted.
const MaxMembers = 1024

// Member is a live node as gossip sees it.
type Member struct {
	shardmap.Node
	Cluster string // empty: belongs to no cluster yet
	Epoch   uint64 // of the map it holds, as last heard; 0 when unknown
	Run     uint64 // rises with every start of the node's process
}

// view is what memberlist's callbacks maintain and everybody else reads.
type view struct {
	changed chan struct{} // one pending notice: readers look at the view, not at events

	mu      sync.Mutex
	cluster string            // our own
	members map[string]Member // live ones, by memberlist name; Epoch unused
	epochs  map[shardmap.NodeID]uint64
}

func newView(cluster string) *view {
	return &view{
		changed: make(chan struct{}, 1),
		cluster: cluster,
		members: make(map[string]Member),
		epochs:  make(map[shardmap.NodeID]uint64),
	}
}

// touch never blocks: a notice already pending covers this change too.
func (v *view) touch() {
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// admits reports whether a member of the named cluster may enter under name.
func (v *view) admits(name, cluster string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if foreign(v.cluster, cluster) {
		return false
	}
	_, known := v.members[name]
	return known || len(v.members) < MaxMembers
}

func (v *view) put(name string, m Member) {
	v.mu.Lock()
	v.members[name] = m
	v.mu.Unlock()
	v.touch()
}

func (v *view) remove(name string) {
	v.mu.Lock()
	m, known := v.members[name]
	delete(v.members, name)
	if known && !v.hasNodeLocked(m.ID) {
		delete(v.epochs, m.ID)
	}
	v.mu.Unlock()
	if known {
		v.touch()
	}
}

func (v *view) setCluster(cluster string) {
	v.mu.Lock()
	v.cluster = cluster
	v.mu.Unlock()
	v.touch()
}

// learn takes reports that are news and returns them. Reports about nodes not
// in view are dropped, which bounds the table; the next probe brings them again.
func (v *view) learn(reports []epochReport) (news []epochReport) {
	v.mu.Lock()
	for _, r := range reports {
		if r.epoch > v.epochs[r.node] && v.hasNodeLocked(r.node) {
			v.epochs[r.node] = r.epoch
			news = append(news, r)
		}
	}
	v.mu.Unlock()
	if len(news) > 0 {
		v.touch()
	}
	return news
}

func (v *view) hasNodeLocked(id shardmap.NodeID) bool {
	for _, m := range v.members {
		if m.ID == id {
			return true
		}
	}
	return false
}

func (v *view) reports() []epochReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make([]epochReport, 0, len(v.epochs))
	for id, e := range v.epochs {
		out = append(out, epochReport{node: id, epoch: e})
	}
	return out
}

func (v *view) size() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.members)
}

// list returns the newest run of every live node of our cluster or of none, by
// node id.
func (v *view) list() []Member {
	v.mu.Lock()
	newest := make(map[shardmap.NodeID]Member, len(v.members))
	for _, m := range v.members {
		// G-CLUSTER: a node may have joined another cluster since it was admitted.
		if foreign(v.cluster, m.Cluster) {
			continue
		}
		if held, ok := newest[m.ID]; !ok || m.Run > held.Run {
			m.Epoch = v.epochs[m.ID]
			newest[m.ID] = m
		}
	}
	v.mu.Unlock()
	out := make([]Member, 0, len(newest))
	for _, m := range newest {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// foreign reports whether two nodes belong to different clusters. A node of no
// cluster yet is foreign to nobody.
func foreign(a, b string) bool { return a != "" && b != "" && a != b }
