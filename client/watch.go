package client

import (
	"context"
	"iter"
	"sync"

	"github.com/ringfort/ringfort/shardmap"
)

// Watch gives out the changes of the chosen keys as they happen:
//
//	for ch, err := range c.Watch(ctx, client.Prefix("job/"), client.FromNow()) { … }
//
// Changes of one shard come in the order of their versions; none is left out,
// repeated, or torn from those of the same version. Between shards there is no
// order. A stream that breaks, or says nothing for some seconds, is taken up again
// on the same or another replica, behind the last change.
//
// An error is the last thing that the loop sees; the Changes beside it have only a
// Token, From which another watch may go on. ErrCompacted means that no replica
// remembers the changes from there (see WithResync), ErrUnavailable that a shard was
// out of reach for a minute.
//
// Nothing is queued for a slow loop but what the streams have under way; a node that
// waits for it for long breaks off, and the watch resumes if it still can. The
// context ends the watch. Without a deadline it goes on for ever.
func (c *Client) Watch(ctx context.Context, keys Keys, opts ...WatchOption) iter.Seq2[Changes, error] {
	return func(yield func(Changes, error) bool) {
		w, err := c.newWatch(ctx, keys, opts)
		if err != nil {
			yield(Changes{}, err)
			return
		}
		defer w.end()
		if err := w.loop(yield); err != nil && err != errStop {
			yield(Changes{Token: w.token()}, err)
		}
	}
}

// watch is one watch under way. Its taps each follow a part of the ring, in a
// goroutine of their own, and hand what they get to the loop's, which alone knows the
// position.
type watch struct {
	watchConfig
	client *Client
	caller context.Context
	ctx    context.Context // ends also with the loop
	cancel context.CancelFunc
	taps   sync.WaitGroup
	keys   Keys

	out   chan delivery // from the taps; nothing is buffered
	ready chan delivery // only where they begin

	cluster string
	marks   []mark // the position
}

// delivery is what a tap hands to the loop.
type delivery struct {
	changes Changes // without token
	moves   bool    // the position is Version, for the arc of the changes
	silent  bool    // the loop's caller gets nothing of it
	err     error   // the watch is over
}

func (c *Client) newWatch(ctx context.Context, keys Keys, opts []WatchOption) (*watch, error) {
	w := &watch{client: c, caller: ctx, keys: keys, out: make(chan delivery), ready: make(chan delivery)}
	for _, opt := range opts {
		opt.watch(&w.watchConfig)
	}
	flaw := w.params.check(verbWatch)
	if flaw == "" {
		flaw = keys.check(&c.limits)
	}
	if flaw == "" && w.started && w.now {
		flaw = "both From and FromNow"
	}
	if flaw == "" && keys.nothing {
		flaw = "the range is empty"
	}
	if flaw != "" {
		return nil, invalid(verbWatch.String(), "", "%s", flaw)
	}
	if w.started {
		if err := w.checkStart(ctx); err != nil {
			return nil, err
		}
	}
	w.ctx, w.cancel = context.WithCancel(ctx)
	if !w.started {
		w.follow(&tap{arc: keys.arc()})
		return w, nil
	}
	w.cluster = w.start.cluster
	for _, m := range w.start.marks {
		arc := shardmap.Arc{From: max(m.from, keys.arc().From), To: min(m.to, keys.arc().To)}
		if arc.From < arc.To {
			w.marks = raised(w.marks, arc, m.version)
		}
	}
	for _, m := range w.marks {
		w.follow(&tap{arc: shardmap.Arc{From: m.from, To: m.to}, version: m.version, known: true})
	}
	return w, nil
}

// checkStart returns why the token is no position to begin from.
func (w *watch) checkStart(ctx context.Context) error {
	const op = "watch"
	switch {
	case w.start.IsZero():
		return badToken(op, "the token is empty: it says of no shard where to begin")
	case !w.start.exact:
		return badToken(op, "the token is of a session; to begin a watch it must be of a scan or a watch")
	}
	for at := w.keys.arc().From; at < w.keys.arc().To; {
		m, ok := findMark(w.start.marks, at)
		if !ok {
			return badToken(op, "the token says nothing about slot %d", at)
		}
		at = m.to
	}
	err := w.client.checkCluster(ctx, &params{token: &w.start})
	if err == nil {
		return nil
	}
	err.Op = op
	return err
}

// follow starts a tap.
func (w *watch) follow(t *tap) {
	t.watch = w
	w.taps.Add(1)
	if !w.client.spawn(func() { defer w.taps.Done(); t.run() }) {
		w.taps.Done() // the loop sees that the client is closed
	}
}

// end waits for all taps.
func (w *watch) end() {
	w.cancel()
	w.taps.Wait()
}

func (w *watch) token() Token { return Token{cluster: w.cluster, exact: true, marks: w.marks} }

// loop gives out what the taps deliver. A watch from now first waits until all of
// them know where they begin, so that every token that it gives out is complete.
func (w *watch) loop(yield func(Changes, error) bool) error {
	if err := w.setUp(yield); err != nil {
		return err
	}
	for {
		d, err := w.receive(w.out)
		if err != nil {
			return err
		}
		if d.moves {
			w.marks = raised(w.marks, d.changes.arc, d.changes.Version)
		}
		if d.silent {
			continue
		}
		d.changes.Token = w.token()
		if !yield(d.changes, nil) {
			return errStop
		}
	}
}

func (w *watch) setUp(yield func(Changes, error) bool) error {
	if w.started {
		return nil
	}
	missing := w.keys.arc().Len()
	for missing > 0 {
		d, err := w.receive(w.ready)
		if err != nil {
			return err
		}
		missing -= d.changes.arc.Len()
		w.marks = raised(w.marks, d.changes.arc, d.changes.Version)
	}
	w.cluster = w.client.topology.cluster()
	if !yield(Changes{Kind: Progress, Token: w.token(), arc: w.keys.arc()}, nil) {
		return errStop
	}
	return nil
}

func (w *watch) receive(from <-chan delivery) (delivery, error) {
	over := func(err error) error { return &Error{Op: verbWatch.String(), Kind: endKind(err)} }
	select {
	case d := <-from:
		return d, d.err
	case <-w.caller.Done():
		return delivery{}, over(w.caller.Err())
	case <-w.client.closing:
		return delivery{}, over(ErrClosed)
	}
}

// deliver hands something to the loop, and returns false when it is gone.
func (w *watch) deliver(to chan<- delivery, d delivery) bool {
	select {
	case to <- d:
		return true
	case <-w.ctx.Done():
	case <-w.client.closing:
	}
	return false
}
