package client

import "sync/atomic"

// Stats are running totals of one client, and its present view.
type Stats struct {
	Frames      uint64 // sent
	Operations  uint64 // sent inside them, repetitions included
	Retries     uint64 // attempts after a call's first
	Redirects   uint64 // answers "wrong shard" and "not leader"
	InDoubt     uint64 // calls that ended with the outcome unknown
	Connects    uint64 // streams opened, reconnections included
	MapEpoch    uint64 // epoch of the map held; 0 for none
	Connections int    // streams open now
}

type counters struct {
	frames, operations, retries, redirects, inDoubt, connects atomic.Uint64

	connections atomic.Int64
}

// Stats returns the totals so far.
func (c *Client) Stats() Stats {
	n := &c.counters
	return Stats{
		Frames:      n.frames.Load(),
		Operations:  n.operations.Load(),
		Retries:     n.retries.Load(),
		Redirects:   n.redirects.Load(),
		InDoubt:     n.inDoubt.Load(),
		Connects:    n.connects.Load(),
		MapEpoch:    c.topology.epoch(),
		Connections: int(n.connections.Load()),
	}
}
