package client

import (
	"context"
	"errors"
	"io"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// course finds nodes for a stream of its own, a scan's or a watch's: one to begin
// with, and after each failure another one, by the same routes and rules as calls.
// It belongs to one goroutine.
type course struct {
	client *Client
	probe  call    // what routing and rules need of a call
	since  instant // of the last progress
	// patience is how long no progress is put up with; 0: for ever.
	patience time.Duration
}

func newCourse(c *Client, v verb, slot shardmap.Slot, r replicas) course {
	k := course{client: c, since: c.now()}
	k.probe.verb, k.probe.slot, k.probe.params = v, slot, &params{replicas: r}
	return k
}

// next connects to where the next attempt should go. The route is not nil.
func (k *course) next(ctx context.Context) (kvv1.KVClient, *route, error) {
	for {
		if err := k.over(ctx); err != nil {
			return nil, nil, err
		}
		t := &k.client.topology
		n := t.pick(&k.probe, k.client.now())
		k.probe.try.conn, k.probe.lastNode = n, n
		if n == nil {
			k.probe.last = errors.Join(t.causes()...)
			if err := k.wait(ctx, 0); err != nil {
				return nil, nil, err
			}
			continue
		}
		service, err := n.await(ctx)
		if err == nil && k.probe.try.route == nil && !t.knows(k.probe.slot) {
			err = kverr.New(kverr.Unavailable, "the node knows no shard for slot %d", k.probe.slot)
			if t.cluster() == "" {
				err = kverr.NotInitialized
			}
		}
		switch {
		case err != nil:
			if err := k.failed(ctx, err); err != nil {
				return nil, nil, err
			}
		case k.probe.try.route != nil:
			return service, k.probe.try.route, nil
		}
	}
}

// progressed notes that something came: the patience begins anew.
func (k *course) progressed() {
	k.since = k.client.now()
	k.probe.attempts, k.probe.waits, k.probe.hops, k.probe.refusals, k.probe.late = 0, 0, 0, 0, 0
	k.probe.avoid = nil
}

// news takes over what a refusal knows better.
func (k *course) news(record *kvv1.ShardRecord, hint *kvv1.LeaderHint) {
	k.client.topology.adoptRecord(record)
	for _, m := range k.client.topology.adoptHint(nil, hint) {
		m.from.evict(m.shard)
	}
}

// failed decides what follows a failed attempt: nil means that the next one may
// begin, after the pause that was made. Otherwise it is the end, an *Error.
func (k *course) failed(ctx context.Context, cause error) error {
	if err := k.over(ctx); err != nil {
		return err
	}
	p := &k.probe
	p.last = cause
	p.attempts++
	r := rules[kverr.KindOf(cause)]
	if r.next != stepPatient {
		p.refusals = 0
	}
	refusing := p.try.conn
	p.avoid = refusing
	switch r.next {
	case stepGiveUp, stepTell, stepRenew:
		return failure(p, r.is, cause)
	case stepLater:
		p.avoid = nil
		return k.wait(ctx, retryAfter(cause))
	case stepRoute:
		k.client.counters.redirects.Add(1)
		p.try.route.refused(refusing, p.try.leader)
		if !k.client.knowsBetter(p) {
			return k.wait(ctx, 0)
		}
	case stepPatient:
		if p.refusals++; p.refusals >= k.client.topology.candidates(p.slot) {
			return failure(p, r.is, cause)
		}
	}
	if p.hops++; p.hops > maxHops {
		return k.wait(ctx, retryAfter(cause))
	}
	return nil
}

// wait pauses, longer each time.
func (k *course) wait(ctx context.Context, atLeast time.Duration) error {
	p := &k.probe
	pause := max(k.client.random.backoff(p.waits, waitFirst, waitLast), min(atLeast, maxHint))
	p.waits++
	p.hops = 0
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-k.client.closing:
	}
	return k.over(ctx)
}

// over says why there is nothing more to try.
func (k *course) over(ctx context.Context) error {
	switch {
	case k.client.isClosed():
		return failure(&k.probe, ErrClosed, nil)
	case ctx.Err() != nil:
		return failure(&k.probe, endKind(ctx.Err()), k.probe.last)
	case k.patience > 0 && k.client.now()-k.since >= k.patience:
		if k.probe.verb == verbWatch {
			return failure(&k.probe, ErrUnavailable, k.probe.last)
		}
		return failure(&k.probe, ErrTimeout, k.probe.last)
	}
	return nil
}

// await connects to the node, for a stream of its own beside that of calls. Only a
// node that has said hello is good enough: nothing on such a stream tells one
// cluster from another.
func (n *conn) await(ctx context.Context) (kvv1.KVClient, error) {
	var patience <-chan time.Time
	for {
		n.mu.Lock()
		if n.inPhase(phaseIdle) {
			n.startLocked()
		}
		service, ready, open, cause, changed := n.service, n.inPhase(phaseReady), n.open(), n.cause, n.changed
		n.mu.Unlock()
		switch {
		case ready:
			return service, nil
		case !open:
			return nil, kverr.New(kverr.Unavailable, "%w", cause)
		case patience == nil:
			timer := time.NewTimer(connectPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-changed:
		case <-patience:
			return nil, kverr.New(kverr.Unavailable, "%w", errSilent)
		case <-ctx.Done():
			return nil, kverr.New(kverr.Deadline, "%w", ctx.Err())
		}
	}
}

// streamError gives the end of a stream a kind. What has none was made by gRPC or
// the network on the way, and says nothing about the request.
func streamError(err error) error {
	if errors.Is(err, io.EOF) {
		return kverr.New(kverr.Unavailable, "the node ended the stream early")
	}
	err = wire.ErrorFromStatus(err, wire.Unsent)
	var ke *kverr.Error
	if errors.As(err, &ke) && ke.Err != nil {
		switch ke.Kind {
		case kverr.Internal, kverr.Deadline, kverr.Overloaded:
			return kverr.New(kverr.Unavailable, "the stream broke: %s", ke.Message)
		}
	}
	return err
}

// silence is what is said of a stream that was cut.
func silence(d time.Duration) error {
	return kverr.New(kverr.Unavailable, "the stream was silent for %v", d)
}

// cut is how a stream that has gone silent is broken off: the context of the
// stream ends, unless it is stopped before.
type cut struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func newCut(ctx context.Context) cut {
	ctx, cancel := context.WithCancelCause(ctx)
	return cut{ctx, cancel}
}

// after arms the cut; the function returned disarms it.
func (c cut) after(d time.Duration) (disarm func() bool) {
	return time.AfterFunc(d, func() { c.cancel(errSilent) }).Stop
}

// silent reports whether the cut was made.
func (c cut) silent() bool { return errors.Is(context.Cause(c.ctx), errSilent) }
