package kvserver

import (
	"time"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// slowPatience is how long operations may hold up those behind them on their
// stream. A shard that is well makes room many times in it.
const slowPatience = 50 * time.Millisecond

// share is the account of what one shard has of a stream's room: operations that
// its group has not answered. It belongs to the outbox and its lock.
//
// A shard may have as much as it leaves free. One that does not answer, whatever is
// asked of it, so comes to half of the room, the next one to half of what is left,
// and a dozen still leave room for those that answer. What does not fit waits, and the stream
// is not read from meanwhile: a shard that is well answers soon, and back-pressure
// costs nothing. After slowPatience what waits is refused, and the shard is slow:
// what does not fit is refused at once until it has answered half of what it had.
// So a shard that stands still holds the others of its streams up once, for
// slowPatience.
type share struct {
	ops, bytes int
	slow       int // operations it had when it was found slow; 0: it is not
}

// shortage is what there is too little of.
type shortage uint8

const (
	noShortage  shortage = iota
	ofStream             // the stream has too much in flight
	ofShare              // the shard has its share of the stream
	ofNode               // all streams have too much
	ofNodeAlone          // the same, and nothing of the stream's own will end
)

// admit decides which operations of the plan may be handed over now, and refuses
// those that have waited too long. It returns false when none has to wait.
func (b *outbox) admit(p *plan, in part) (waits bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range p.targets {
		t := &p.targets[i]
		if !t.waits() {
			continue
		}
		if t.share == nil {
			t.share = b.shareLocked(t.shard)
		}
		if why := b.admitTargetLocked(t, in); why != noShortage && !b.patientLocked(t, why) {
			b.refuseLocked(p, t, in, why)
		} else if why != noShortage {
			waits = true
		}
	}
	// A refusal is charged with nothing, but its answer is in flight like any other.
	refused := min(len(p.refused)-p.answered, max(0, b.maxOps-b.mu.ops))
	p.answerable = p.answered + refused
	b.mu.ops += refused
	b.mu.waiting = waits || p.answerable < len(p.refused)
	return b.mu.waiting
}

func (b *outbox) shareLocked(shard shardmap.ShardID) *share {
	s := b.mu.shares[shard]
	if s == nil {
		s = &share{}
		b.mu.shares[shard] = s
	}
	return s
}

// admitTargetLocked lets as many of a shard's operations go as there is room for:
// all of them, as a rule.
func (b *outbox) admitTargetLocked(t *target, in part) shortage {
	a := &t.admitted
	if b.takeLocked(t.share, len(t.writes)+len(t.reads)-a.writes-a.reads, t.charge) == noShortage {
		*a, t.charge = progress{len(t.writes), len(t.reads)}, 0
		return noShortage
	}
	for t.waits() {
		var index int32
		next := &a.writes
		if a.writes < len(t.writes) {
			index = t.writes[a.writes]
		} else {
			index, next = t.reads[a.reads], &a.reads
		}
		charge := requestBytes(in.ops[index], in.estimate)
		if why := b.takeLocked(t.share, 1, charge); why != noShortage {
			return why
		}
		t.charge -= charge
		*next++
		t.due = time.Time{} // it makes headway
	}
	return noShortage
}

// takeLocked takes room if there is enough. One operation always fits a stream on
// which nothing is in flight, and the share of a shard that has nothing, whatever
// its size.
func (b *outbox) takeLocked(s *share, ops, charge int) shortage {
	own, one := b.mu.bytes+b.mu.queued, ops == 1
	switch {
	case !(one && b.mu.ops == 0) && (b.mu.ops+ops > b.maxOps || own+charge > b.maxBytes):
		return ofStream
	case !(one && s.ops == 0) && (s.ops+ops > b.maxOps-b.mu.asked-ops || s.bytes+charge > b.maxBytes-b.mu.bytes-charge):
		return ofShare
	case !b.server.held.take(charge, own):
		if b.mu.ops == 0 {
			return ofNodeAlone
		}
		return ofNode
	}
	b.mu.ops += ops
	b.mu.asked += ops
	b.mu.bytes += charge
	s.ops += ops
	s.bytes += charge
	return noShortage
}

// patientLocked reports whether what does not fit waits, and notes when it gives up.
func (b *outbox) patientLocked(t *target, why shortage) bool {
	slow := &b.mu.slow
	if why == ofShare {
		slow = &t.share.slow
	}
	switch {
	case why == ofNodeAlone:
		return false
	case b.unreadLocked(why):
		// The client is to take answers first. There is another limit to that,
		// StallTimeout.
		t.due = time.Now().Add(slowPatience)
		return true
	case *slow > 0:
		return false
	case t.due.IsZero():
		t.due = time.Now().Add(slowPatience)
		return true
	case time.Now().Before(t.due):
		return true
	}
	*slow = b.mu.ops
	if why == ofShare {
		*slow = t.share.ops
	}
	return false
}

// unreadLocked reports whether there is no room because the client leaves answers
// unread, or may be.
func (b *outbox) unreadLocked(why shortage) bool {
	unread := b.mu.ops - b.mu.asked
	if why == ofShare { // answers take nothing of that, but refusals are answers
		return unread > b.maxOps/8
	}
	return unread > 0
}

// refuseLocked refuses what of a target does not fit.
func (b *outbox) refuseLocked(p *plan, t *target, in part, why shortage) {
	err := b.server.slow(t.shard, why)
	refuse := func(indexes []int32) {
		for _, index := range indexes {
			p.refuse(int(index), err, redirect{shard: t.shard, slot: shardmap.SlotOf(in.ops[index].Key)})
		}
	}
	refuse(t.writes[t.admitted.writes:])
	refuse(t.reads[t.admitted.reads:])
	t.writes, t.reads, t.charge = t.writes[:t.admitted.writes], t.reads[:t.admitted.reads], 0
}

// dischargeLocked takes what a group has answered off the accounts.
func (b *outbox) dischargeLocked(d *delivery) {
	if d.share == nil {
		return
	}
	n := len(d.answers)
	b.mu.asked -= n
	b.mu.bytes -= d.charge
	b.server.held.add(-d.charge)
	d.share.ops -= n
	d.share.bytes -= d.charge
	if 2*d.share.ops <= d.share.slow {
		d.share.slow = 0
	}
}

// due is when admission is to look again without being told.
func (p *plan) due() time.Time {
	var due time.Time
	for i := range p.targets {
		if at := p.targets[i].due; !at.IsZero() && p.targets[i].waits() && (due.IsZero() || at.Before(due)) {
			due = at
		}
	}
	if due.IsZero() { // only refusals wait, for the client to take answers
		due = time.Now().Add(slowPatience)
	}
	return due
}

// slow is the refusal of what would hold others up.
func (s *Server) slow(shard shardmap.ShardID, why shortage) error {
	if why == ofNode || why == ofNodeAlone {
		s.held.refused.Add(1)
		return s.full()
	}
	e := kverr.New(kverr.Overloaded, "shard %d answers slowly, and has as much of this stream's room as one shard may; try again shortly", shard)
	if why == ofStream {
		e = kverr.New(kverr.Overloaded, "the shards that this stream's operations wait for answer slowly, and there is no more room; try again shortly")
	}
	e.Node, e.Shard, e.RetryAfter = string(s.opts.Self), uint64(shard), busyRetry
	return e
}
