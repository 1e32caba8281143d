package client

import (
	"errors"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
)

// maxHops bounds the repetitions without a pause, for nodes that send a call
// round in circles.
const maxHops = 4

// step is what follows an attempt that did not succeed.
type step uint8

const (
	stepGiveUp    step = iota // it will not get better
	stepRoute                 // go where the refusal says, at once if it says anything
	stepElsewhere             // pause, then ask another replica
	stepLater                 // pause, then ask again
	stepRenew                 // the identity's time was over: once more with a new one
	stepTell                  // it may take long to get better: tell the caller, unless an earlier attempt is in doubt
	stepPatient               // the same node will say so again: give up when all have
)

// rule is what an error kind means for the call that met it.
type rule struct {
	is      error // the sentinel, if it is the last word
	next    step
	unknown bool // the attempt may have been applied
	decided bool // at apply, under the request id: no attempt was or will be applied
}

// rules has every kind of kverr, and is the one place where kinds become
// sentinels. A kind from a newer server arrives as
// OutcomeUnknown.
var rules = map[kverr.Kind]rule{
	kverr.Invalid:        {is: ErrInvalid, next: stepGiveUp},
	kverr.WrongShard:     {is: ErrUnavailable, next: stepRoute},
	kverr.NotLeader:      {is: ErrUnavailable, next: stepRoute},
	kverr.Unavailable:    {is: ErrUnavailable, next: stepElsewhere},
	kverr.Closed:         {is: ErrUnavailable, next: stepElsewhere},
	kverr.Overloaded:     {is: ErrOverloaded, next: stepLater},
	kverr.Deadline:       {is: ErrTimeout, next: stepLater},
	kverr.OutcomeUnknown: {is: ErrInDoubt, next: stepLater, unknown: true},
	kverr.Expired:        {is: ErrExpired, next: stepRenew},
	// Numbers are closed only after their calls have ended, so this answers an
	// attempt that a network has copied, or a server's mistake.
	kverr.StaleDuplicate: {is: ErrInDoubt, next: stepGiveUp, unknown: true},
	kverr.NotInitialized: {is: ErrNotInitialized, next: stepPatient},
	kverr.WrongCluster:   {is: ErrWrongCluster, next: stepPatient},
	kverr.Format:         {is: ErrFormat, next: stepPatient},
	kverr.Internal:       {is: ErrInternal, next: stepGiveUp},
	kverr.Conflict:       {is: ErrInternal, next: stepGiveUp},
	kverr.NoSpace:        {is: ErrNoSpace, next: stepTell},
	kverr.CondFailed:     {is: ErrConditionFailed, next: stepGiveUp, decided: true},
	kverr.CrossSlot:      {is: ErrCrossSlot, next: stepGiveUp},
	kverr.Compacted:      {is: ErrCompacted, next: stepGiveUp},
	kverr.NotANumber:     {is: ErrNotANumber, next: stepGiveUp, decided: true},
	kverr.Overflow:       {is: ErrOverflow, next: stepGiveUp, decided: true},
}

// settle decides what follows the end of an attempt.
func (d *driver) settle(c *call) {
	try := &c.try
	c.lastNode = try.conn
	if try.event == eventAnswered && c.session != nil {
		c.note(d.client, try.answer)
	}
	if try.event == eventAnswered && try.answer.GetError() == nil {
		if by := try.answer.GetServedBy(); by <= kvv1.ServedBy_SERVED_BY_LEADER {
			try.route.served(try.conn)
		}
		d.finish(c, try.answer, nil)
		return
	}
	switch try.event {
	case eventRerouted:
		d.hop(c)
		return
	case eventAnswered:
		c.last = wire.ErrorFromProto(try.answer.GetError())
	case eventUnsent, eventBroken:
		c.last = try.cause
	}
	if errors.Is(c.last, ErrClosed) {
		c.doubt = c.doubt || try.event == eventBroken && c.isWrite()
		d.finish(c, nil, failure(c, ErrClosed, nil))
		return
	}
	r := rules[kverr.KindOf(c.last)]
	if try.event != eventAnswered {
		r = rule{is: ErrUnavailable, next: stepElsewhere, unknown: try.event == eventBroken}
	}
	c.doubt = (c.doubt || r.unknown && c.isWrite()) && !r.decided
	if c.doubt && c.identity == identityNone {
		d.giveUp(c, ErrInDoubt)
		return
	}
	d.proceed(c, r)
}

// proceed takes the step that the rule names.
func (d *driver) proceed(c *call, r rule) {
	if r.next != stepPatient {
		c.refusals = 0
	}
	refusing := c.try.conn
	switch r.next {
	case stepGiveUp:
		d.giveUp(c, r.is)
	case stepLater:
		c.avoid = nil
		d.wait(c, retryAfter(c.last))
	case stepTell:
		if !c.doubt {
			d.giveUp(c, r.is)
			return
		}
		c.avoid = nil
		d.wait(c, retryAfter(c.last)) // only the server can settle the doubt
	case stepElsewhere:
		c.avoid = refusing
		if c.try.event == eventAnswered {
			d.wait(c, retryAfter(c.last))
		} else {
			d.hop(c)
		}
	case stepRoute:
		d.client.counters.redirects.Add(1)
		c.try.route.refused(refusing, c.try.leader)
		c.avoid = refusing
		if d.client.knowsBetter(c) {
			d.hop(c)
		} else {
			d.wait(c, 0)
		}
	case stepRenew:
		d.renew(c)
	case stepPatient:
		c.avoid = refusing
		if c.refusals++; c.refusals >= d.client.topology.candidates(c.slot) {
			d.giveUp(c, r.is)
		} else {
			d.hop(c)
		}
	}
}

// unreachable handles a call for which no node can be reached. It waits, since
// nodes come back, unless they all were reached and refused this client itself.
func (d *driver) unreachable(c *call) {
	causes := d.client.topology.causes()
	stubborn := 0
	for _, cause := range causes {
		if rules[kverr.KindOf(cause)].next == stepPatient {
			stubborn++
			c.last = cause
		} else if stubborn == 0 {
			c.last = cause
		}
	}
	if len(causes) > 0 && stubborn == len(causes) {
		d.giveUp(c, rules[kverr.KindOf(c.last)].is)
		return
	}
	d.wait(c, 0)
}

// knowsBetter reports whether the refusal, or news that came with it, names
// somebody else to ask.
func (k *Client) knowsBetter(c *call) bool {
	r := k.topology.lookup(c.slot)
	if r == nil {
		return false
	}
	if r.record.Shard != c.try.shard || r.record.ArcEpoch != c.try.arcEpoch {
		return true
	}
	l := r.leader.Load()
	return l != nil && l.conn != nil && l.conn != c.try.conn && l.conn.usable(k.now())
}

// hop tries again at once, as often as is sensible without a pause.
func (d *driver) hop(c *call) {
	if c.hops++; c.hops > maxHops {
		d.wait(c, 0)
		return
	}
	d.again(c)
}

// renew handles a refusal as expired. That attempt was not applied. If an
// earlier one may have been, its record may be gone by now, and nobody can tell
// any more. Otherwise the client's estimate of shard time was too low, and the
// write gets a new number: under the old one it has expired for ever.
func (d *driver) renew(c *call) {
	if c.doubt || c.renewed || c.identity == identityGiven {
		// An earlier call under the same given id may have been applied.
		c.doubt = c.doubt || c.identity == identityGiven
		d.giveUp(c, ErrExpired)
		return
	}
	c.renewed = true
	d.client.numbers.close(c.ticket)
	c.ticket = ticket{}
	d.client.shardTime.tooLow()
	d.again(c)
}

func (d *driver) giveUp(c *call, kind error) { d.finish(c, nil, failure(c, kind, c.last)) }

// failure describes the end of a call without an answer.
func failure(c *call, kind, cause error) *Error {
	e := &Error{
		Op: c.verb.String(), Key: string(c.key), Kind: kind, InDoubt: c.doubt, Attempts: c.attempts,
		Shard: uint64(c.try.shard), Node: string(c.lastNode.name()), Err: cause,
	}
	if kind == ErrConditionFailed {
		e.Exists, e.Version = c.try.answer.GetFound(), c.try.answer.GetVersion()
	}
	var ke *kverr.Error
	if errors.As(cause, &ke) {
		e.RetryAfter = ke.RetryAfter
		if ke.Shard != 0 {
			e.Shard = ke.Shard
		}
		if ke.Node != "" {
			e.Node = ke.Node
		}
	}
	return e
}

func retryAfter(err error) time.Duration {
	var ke *kverr.Error
	if errors.As(err, &ke) {
		return ke.RetryAfter
	}
	return 0
}
