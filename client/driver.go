package client

import (
	"context"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/shardmap"
)

// driver brings the calls of one caller to their ends, in the caller's own
// goroutine: it hands attempts to connections, waits once for whatever happens
// next, and decides what to do about it. One key or thousands, it is the same
// loop, so a batch stays a batch and a slow shard delays only its own keys.
type driver struct {
	client   *Client
	calls    []*call
	done     chan *call // ended attempts; has room for all calls
	timer    *time.Timer
	alarm    instant // what the timer is set for; 0: not set
	deadline instant

	open     int     // calls that have not ended
	live     int     // attempts under way
	waiting  int     // calls that wait to be tried again
	runnable []*call // to be given to a connection now
	batches  []batch // of dispatch

	single [1]call // the call of a pooled driver
	params params  // its options
}

// batch is the calls that go to one connection together.
type batch struct {
	conn  *conn
	calls callQueue
}

func newDriver(c *Client, calls []call) *driver {
	d := &driver{client: c}
	if calls == nil {
		calls = d.single[:]
		calls[0].params = &d.params
	}
	d.done = make(chan *call, len(calls))
	d.calls = make([]*call, len(calls))
	for i := range calls {
		d.calls[i] = &calls[i]
	}
	d.timer = time.NewTimer(time.Hour)
	d.timer.Stop()
	return d
}

// run ends every call that is not finished already.
func (d *driver) run(ctx context.Context) {
	for _, c := range d.calls {
		if c.bound() && !c.finished {
			c.bind(ctx, d.client)
		}
	}
	d.begin(ctx)
	for d.dispatch(); d.open > 0; d.dispatch() {
		// The connections themselves end what is under way when the client closes.
		var closing <-chan struct{}
		if d.waiting > 0 {
			closing = d.client.closing
		}
		d.setAlarm(d.deadline)
		select {
		case c := <-d.done:
			d.ended(c)
			d.endedMore()
		case <-d.timer.C:
			d.alarm = 0
			d.tick()
		case <-ctx.Done():
			d.abandon(ctx.Err())
		case <-closing:
			d.abandon(ErrClosed)
		}
	}
	d.timer.Stop()
	d.alarm = 0
}

// begin makes the open calls runnable, within the context's deadline or else
// the client's timeout.
func (d *driver) begin(ctx context.Context) {
	now := d.client.now()
	d.deadline = now + d.client.cfg.timeout
	if at, ok := ctx.Deadline(); ok {
		d.deadline = now + time.Until(at)
	}
	for _, c := range d.calls {
		if c.finished {
			continue
		}
		c.deadline = d.deadline
		c.slot = shardmap.SlotOf(c.key)
		d.open++
		d.runnable = append(d.runnable, c)
	}
	switch err := ctx.Err(); {
	case err != nil:
		d.abandon(err)
	case d.deadline <= now:
		d.abandon(context.DeadlineExceeded)
	case d.client.isClosed():
		d.abandon(ErrClosed)
	}
}

// dispatch gives every runnable call to a connection, or makes it wait.
func (d *driver) dispatch() {
	for len(d.runnable) > 0 {
		now := d.client.now()
		for _, c := range d.runnable {
			n := d.client.topology.pick(c, now)
			if n == nil {
				d.unreachable(c)
				continue
			}
			c.try.owner, c.try.conn, c.live = d, n, true
			d.batchFor(n).push(c)
		}
		d.runnable = d.runnable[:0]
		for i := range d.batches {
			b := &d.batches[i]
			first, count := b.calls.head, b.calls.count
			cause := b.conn.submit(&b.calls, now)
			if cause == nil {
				d.live += count
				d.setAlarm(now + connectPatience)
				continue
			}
			for c := first; c != nil; {
				next := c.try.next
				c.live = false
				c.try.event, c.try.cause = eventUnsent, cause
				d.settle(c)
				c = next
			}
		}
		clear(d.batches)
		d.batches = d.batches[:0]
	}
}

func (d *driver) batchFor(n *conn) *callQueue {
	for i := range d.batches {
		if d.batches[i].conn == n {
			return &d.batches[i].calls
		}
	}
	d.batches = append(d.batches, batch{conn: n})
	return &d.batches[len(d.batches)-1].calls
}

// ended takes back a call whose attempt has ended.
func (d *driver) ended(c *call) {
	c.live = false
	d.live--
	d.settle(c)
}

// endedMore takes back what else has ended, without waiting.
func (d *driver) endedMore() {
	for {
		select {
		case c := <-d.done:
			d.ended(c)
		default:
			return
		}
	}
}

// tick runs out of patience where it must, and lets calls go on that have waited.
func (d *driver) tick() {
	now := d.client.now()
	if now >= d.deadline {
		d.abandon(context.DeadlineExceeded)
		return
	}
	// Looking at all calls takes time, so many calls are not looked at for each.
	soon := now + time.Duration(len(d.calls))*time.Microsecond
	for _, c := range d.calls {
		switch {
		case c.finished:
		case c.waiting && c.wake <= now:
			c.waiting = false
			d.waiting--
			d.runnable = append(d.runnable, c)
		case c.waiting:
			d.setAlarm(max(c.wake, soon))
		case c.live:
			if over, again, ok := c.try.conn.review(c, now); over {
				d.ended(c)
			} else if ok {
				d.setAlarm(max(again, soon))
			}
		}
	}
}

// setAlarm makes sure that the timer fires at the given time or earlier.
func (d *driver) setAlarm(at instant) {
	if d.alarm == 0 || at < d.alarm {
		d.alarm = at
		d.timer.Reset(at - d.client.now())
	}
}

// again makes a call runnable, at once.
func (d *driver) again(c *call) { d.runnable = append(d.runnable, c) }

const (
	waitFirst = 5 * time.Millisecond
	waitLast  = 200 * time.Millisecond
	// maxHint is what is believed of a server's hint. No call waits so long.
	maxHint = 24 * time.Hour
)

// wait makes a call runnable after a pause, which gets longer each time, and is no
// shorter than the server asked for. Those whom it refused together it asked for
// the same: up to an eighth more keeps them from returning together. The call's
// deadline ends any pause.
func (d *driver) wait(c *call, atLeast time.Duration) {
	atLeast = min(atLeast, maxHint)
	if atLeast > 0 {
		atLeast += time.Duration(d.client.random.below(uint64(atLeast/8) + 1))
	}
	pause := max(d.client.random.backoff(c.waits, waitFirst, waitLast), atLeast)
	c.waits++
	c.hops = 0
	c.waiting = true
	c.wake = d.client.now() + pause
	d.waiting++
	d.setAlarm(c.wake)
}

// finish ends a call with its answer, or with its error when answer is nil. Its
// number is closed: a copy of the write that arrives later is refused.
func (d *driver) finish(c *call, answer *kvv1.Answer, err *Error) {
	c.finished = true
	d.open--
	d.client.numbers.close(c.ticket)
	if err != nil {
		if err.InDoubt {
			d.client.counters.inDoubt.Add(1)
		}
		c.err = err
	} else {
		c.answer = answer
	}
	if d.client.cache != nil {
		d.client.cache.ended(c)
	}
}

// abandon ends all open calls because the caller's time is over or the client
// is closed. Answers that have come in the meantime still count.
func (d *driver) abandon(cause error) {
	// Backwards, because the last are those still queued: giving up the sent ones
	// makes room, and what moves up would be sent for nothing and into doubt.
	for i := len(d.calls) - 1; i >= 0; i-- {
		c := d.calls[i]
		if !c.live {
			continue
		}
		if was, ok := c.try.conn.withdraw(c); ok {
			c.live = false
			d.live--
			c.doubt = c.doubt || c.isWrite() && was == stageSent
		}
	}
	for d.live > 0 {
		d.ended(<-d.done)
	}
	for _, c := range d.calls {
		if !c.finished {
			d.finish(c, nil, failure(c, endKind(cause), c.last))
		}
	}
	d.runnable = d.runnable[:0]
	d.waiting = 0
}
