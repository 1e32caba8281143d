package peers

import (
	"sync"

	"github.com/ringfort/ringfort/shardmap"
)

// Source is where an address comes from.
type Source int

// The sources, the most trusted first.
const (
	Gossip Source = iota
	Map
	Plan
	sources
)

// Book is the nodes' current addresses. Safe for concurrent use.
type Book struct {
	mu    sync.Mutex
	pages [sources]map[shardmap.NodeID]shardmap.Node
}

// Set replaces everything one source says.
func (b *Book) Set(from Source, nodes []shardmap.Node) {
	page := make(map[shardmap.NodeID]shardmap.Node, len(nodes))
	for _, n := range nodes {
		if n.Address != "" {
			page[n.ID] = n
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pages[from] = page
}

// Find returns the most trusted entry of a node.
func (b *Book) Find(id shardmap.NodeID) (shardmap.Node, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, page := range b.pages {
		if n, ok := page[id]; ok {
			return n, true
		}
	}
	return shardmap.Node{}, false
}
