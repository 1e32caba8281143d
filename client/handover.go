package client

import (
	"github.com/ringfort/ringfort/shardmap"
)

// submit takes over the calls of batch, or none of them and says why.
func (n *conn) submit(batch *callQueue, now instant) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inPhase(phaseIdle) {
		n.startLocked()
	}
	if !n.open() {
		return n.cause
	}
	var l *line
	for c := batch.pop(); c != nil; c = batch.pop() {
		c.try.stage, c.try.at = stageQueued, now
		if l == nil || l.shard != c.try.shard {
			l = n.lines.of(c.try.shard)
		}
		n.lines.push(l, c)
	}
	n.wakeWriterLocked()
	return nil
}

// withdraw takes a call back. It returns false when the call has ended already
// and is on its way through the driver's channel. Otherwise the stage that it
// returns tells whether the attempt may be applied.
func (n *conn) withdraw(c *call) (stage, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.takeBackLocked(c)
}

func (n *conn) takeBackLocked(c *call) (was stage, ok bool) {
	was = c.try.stage
	switch was {
	case stageNone:
		return was, false
	case stageQueued:
		n.lines.remove(c)
	case stageSent:
		delete(n.pending, c.try.id)
		n.lines.discharge(c)
		n.wakeWriterLocked()
	}
	c.try.stage = stageNone
	return was, true
}

// review looks at a call that has waited. Either its patience is over, then the
// call is taken back with its event set, or it stays and review says when to
// look again. ok is false when the call has ended already.
func (n *conn) review(c *call, now instant) (over bool, again instant, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var due instant
	switch {
	case c.try.stage == stageNone:
		return false, 0, false
	case c.try.stage == stageSent && c.identity == identityNone && c.isWrite():
		// It cannot be sent again, so there is nothing better than to wait.
		return false, c.deadline, true
	case c.try.stage == stageSent:
		// Longer each time, and longer for a node that answers others: it is busy,
		// or the shard is in trouble, and neither is helped by ever more copies.
		patience := attemptPatience << min(c.late, 4)
		if n.lastHeard > c.try.at {
			patience *= 4
		}
		due = c.try.at + patience
	case n.inPhase(phaseReady):
		// The node is busy, or the shard. As long as the node answers others it is
		// there, and another replica would be no better.
		due = max(c.try.at, n.lastHeard) + attemptPatience
	default:
		due = c.try.at + connectPatience
	}
	if now < due {
		return false, due, true
	}
	if n.lastHeard <= c.try.at {
		n.suspectUntil.Store(int64(now + suspicion))
	}
	c.late++
	was, _ := n.takeBackLocked(c)
	c.try.event, c.try.cause = eventUnsent, errSilent
	if was == stageSent {
		c.try.event = eventBroken
	}
	return true, 0, true
}

// evict gives up the attempts for a shard whose leader is elsewhere by now, so
// that they need not wait for a node that may never answer.
func (n *conn) evict(shard shardmap.ShardID) {
	n.mu.Lock()
	var out ended
	if l := n.lines.byShard[shard]; l != nil {
		for c := l.queue.head; c != nil; {
			next := c.try.next
			if c.replicas == replicaLeader {
				n.lines.remove(c)
				out.add(c, eventRerouted, nil)
			}
			c = next
		}
	}
	for id, c := range n.pending {
		if c.try.shard == shard && c.replicas == replicaLeader && !(c.identity == identityNone && c.isWrite()) {
			delete(n.pending, id)
			n.lines.discharge(c)
			out.add(c, eventBroken, errLeaderMoved)
		}
	}
	n.wakeWriterLocked()
	n.mu.Unlock()
	out.deliver()
}

// ended collects calls under a connection's lock for delivery outside it.
type ended []*call

func (e *ended) add(c *call, ev event, cause error) {
	c.try.stage, c.try.event, c.try.cause = stageNone, ev, cause
	*e = append(*e, c)
}

// deliver never blocks: a driver's channel has room for all its calls.
func (e ended) deliver() {
	for _, c := range e {
		c.try.owner.done <- c
	}
}
