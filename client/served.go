package client

import (
	"context"
	"errors"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// ServedBy says in what way a read was answered.
type ServedBy uint8

const (
	// ServedUnknown: the node did not say.
	ServedUnknown ServedBy = iota
	// ServedByLeader: by the shard's leader.
	ServedByLeader
	// ServedByForward: by a node that passed the request on to the leader.
	ServedByForward
	// ServedByFollower: by a replica that asked the leader how far it had to be.
	ServedByFollower
	// ServedByReplica: by a replica out of what it had applied, without asking.
	ServedByReplica
	// ServedByCache: out of this client's cache, without asking anybody.
	ServedByCache
)

var servedNames = [...]string{"unknown", "leader", "forward", "follower", "replica", "cache"}

func (s ServedBy) String() string { return servedNames[min(int(s), len(servedNames)-1)] }

// Served tells where an answer came from.
type Served struct {
	By   ServedBy
	Node string // id of the node that answered, or had answered when it was cached
	// ShardVersion is the last version of the shard that the answer reflects.
	ShardVersion uint64
}

func servedBy(by kvv1.ServedBy) ServedBy {
	switch by {
	case kvv1.ServedBy_SERVED_BY_LEADER:
		return ServedByLeader
	case kvv1.ServedBy_SERVED_BY_FORWARD:
		return ServedByForward
	case kvv1.ServedBy_SERVED_BY_FOLLOWER:
		return ServedByFollower
	case kvv1.ServedBy_SERVED_BY_REPLICA:
		return ServedByReplica
	}
	return ServedUnknown
}

// served tells where the call's answer came from.
func (c *call) served() Served {
	s := Served{By: servedBy(c.answer.GetServedBy()), ShardVersion: c.answer.GetShardVersion()}
	if name := c.lastNode.known.Load(); name != nil {
		s.Node = string(*name)
	}
	return s
}

// bound reports whether the options hold something of a cluster.
func (p *params) bound() bool { return p.session != nil || p.token != nil }

// bind makes sure that the options' session and token are of this cluster, which
// it has to get to know for that, and looks up what the read has to reflect.
func (c *call) bind(ctx context.Context, client *Client) {
	if flaw := client.checkCluster(ctx, c.params); flaw != nil {
		flaw.Op, flaw.Key = c.verb.String(), string(c.key)
		c.fail(flaw)
		return
	}
	if c.level == kvv1.ReadLevel_READ_LEVEL_SESSION {
		c.minVersion = c.seenBefore(shardmap.SlotOf(c.key))
	}
}

// seenBefore is the version of a slot that a read at level Session must reflect.
func (p *params) seenBefore(slot shardmap.Slot) uint64 {
	switch {
	case p.inSession:
		return p.session.at(slot)
	case p.token != nil:
		return p.token.at(slot)
	}
	return 0
}

// checkCluster returns why the session or the token do not belong here.
func (c *Client) checkCluster(ctx context.Context, p *params) *Error {
	cluster := c.topology.cluster()
	if cluster == "" {
		if err := c.connect(ctx); err != nil {
			var e *Error
			errors.As(err, &e)
			return e
		}
		cluster = c.topology.cluster()
	}
	if p.token != nil && p.token.cluster != cluster {
		return badToken("", "the token is of cluster %q, the client of %q", p.token.cluster, cluster)
	}
	if p.session != nil {
		if of := p.session.clusterID(); of != "" && of != cluster {
			return badToken("", "the session is of cluster %q, the client of %q", of, cluster)
		}
	}
	return nil
}

// note makes the call's session see what an answer has. Of a write that was applied
// it is the write itself: its shard may have gone on, but nobody has seen that.
func (c *call) note(client *Client, a *kvv1.Answer) {
	version := a.GetShardVersion()
	if v := a.GetVersion(); c.isWrite() && a.GetError() == nil && v != 0 || version == 0 {
		version = v
	}
	c.session.saw(client.topology.cluster(), c.arc(), version)
}
