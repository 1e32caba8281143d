package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringfort/ringfort/client"
)

// watch collects the changes of one epoch's keys.
type watch struct {
	cancel context.CancelFunc
	done   chan struct{}
	ready  chan struct{} // closed at the first progress

	mu    sync.Mutex
	seen  []arrival
	upTo  uint64
	moved chan struct{} // closed and renewed when upTo rises
	err   error
}

type arrival struct {
	client.Changes
	at time.Duration
}

func startWatch(o Options, tag string) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel: cancel, done: make(chan struct{}), ready: make(chan struct{}), moved: make(chan struct{})}
	go func() {
		defer close(w.done)
		begun := false
		for ch, err := range o.Client.Watch(ctx, client.Prefix(tag), client.WithResync(), client.WithProgress()) {
			if !begun {
				close(w.ready)
				begun = true
			}
			w.take(ch, err, o.Now())
		}
	}()
	return w
}

func (w *watch) take(ch client.Changes, err error, now time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			w.err = err
		}
		return
	}
	w.seen = append(w.seen, arrival{ch, now})
	if ch.Version > w.upTo {
		w.upTo = ch.Version
		close(w.moved)
		w.moved = make(chan struct{})
	}
}

// begun waits until the watch is set up.
func (w *watch) begun(patience time.Duration) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-w.ready:
		return true
	case <-limit.C:
		return false
	case <-w.done:
		return false
	}
}

// await waits until everything up to a version has come, or ctx ends.
func (w *watch) await(ctx context.Context, version uint64) {
	for {
		w.mu.Lock()
		there, moved := w.upTo >= version, w.moved
		w.mu.Unlock()
		if there {
			return
		}
		select {
		case <-moved:
		case <-w.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// stop ends the watch, waits for it, and returns why it had ended before, if so.
func (w *watch) stop() error {
	w.cancel()
	<-w.done
	if w.err != nil {
		return fmt.Errorf("the watch ended: %w", w.err)
	}
	return nil
}

// judge compares what the epoch's watch told with what was written.
func (w *Worker) judge(e *epoch) error {
	j := judge{expected: e.written, doubt: e.doubt, state: make(model), honest: w.opts.Honest}
	for _, a := range e.watch.seen {
		if err := j.take(a); err != nil {
			return fmt.Errorf("%w (after %d of %d changes)", err, j.next, len(e.written))
		}
	}
	w.report.Events += j.events
	w.report.Expiries += j.expiries
	w.report.Resets += j.resets
	if j.next < len(j.expected) {
		return fmt.Errorf("the watch told %d of %d changes; the next would be %+v", j.next, len(j.expected), j.expected[j.next])
	}
	return nil
}

// judge goes through what a watch told.
type judge struct {
	expected []change // what there must be, in order
	next     int
	doubt    *op // what may come once besides, behind them
	state    model
	last     uint64
	honest   bool
	reset    model // under way

	events, expiries, resets int
}

func (j *judge) take(a arrival) error {
	switch a.Kind {
	case client.Progress:
		if a.Version < j.last {
			return fmt.Errorf("progress to %d after %d", a.Version, j.last)
		}
		return nil
	case client.Reset:
		return j.takeReset(a)
	}
	if a.Version <= j.last {
		return fmt.Errorf("changes of version %d come after %d", a.Version, j.last)
	}
	j.last = a.Version
	j.events += len(a.Events)
	got := eventsOf(a.Events)
	if slices.ContainsFunc(got, func(ev event) bool { return ev.Type == client.EventExpire }) {
		return j.takeExpiry(got, a)
	}
	if j.next == len(j.expected) && j.doubt != nil {
		o := *j.doubt
		j.doubt = nil
		return j.takeDoubt(o, got, a.Version)
	}
	if j.next == len(j.expected) {
		return fmt.Errorf("version %d was told as %+v and never written", a.Version, got)
	}
	want := j.expected[j.next]
	if want.version != a.Version || !slices.Equal(want.events, got) {
		return fmt.Errorf("version %d is told as %+v; written was version %d with %+v", a.Version, got, want.version, want.events)
	}
	j.next++
	j.apply(want)
	return nil
}

func (j *judge) apply(c change) {
	for _, ev := range c.events {
		switch ev.Type {
		case client.EventPut:
			j.state[ev.Key] = entry{value: ev.Value, version: c.version}
		case client.EventDelete, client.EventExpire:
			delete(j.state, ev.Key)
		}
	}
}

// takeExpiry judges keys whose deadline came: they were there, had one, and it is
// not early.
func (j *judge) takeExpiry(got []event, a arrival) error {
	for _, ev := range got {
		// A scan skips what is due, so a reset may lack a key that expires after it.
		if _, there := j.state[ev.Key]; ev.Type != client.EventExpire || !there && j.resets == 0 {
			return fmt.Errorf("version %d: %+v; before it there was %s", a.Version, got, j.state.list())
		}
		if !mayExpire(ev.Key) {
			return fmt.Errorf("version %d: %q expired and has no deadline", a.Version, ev.Key)
		}
		j.expiries++
	}
	j.apply(change{a.Version, got})
	return nil
}

func mayExpire(key string) bool {
	return slices.ContainsFunc(dueKeys, func(k string) bool { return strings.HasSuffix(key, "}"+k) })
}

// takeDoubt judges changes that only the operation of unknown outcome can have made.
func (j *judge) takeDoubt(o op, got []event, version uint64) error {
	_, _, events := j.state.effect(o, version, 0)
	if !slices.Equal(events, got) {
		return fmt.Errorf("version %d is told as %+v and never written; what is in doubt would be %+v", version, got, events)
	}
	j.apply(change{version, events})
	return nil
}

func (j *judge) takeReset(a arrival) error {
	if a.First {
		if a.Version < j.last {
			return fmt.Errorf("a reset to %d after %d", a.Version, j.last)
		}
		j.reset = make(model)
	}
	if j.reset == nil {
		return fmt.Errorf("version %d: a part of a reset without its first", a.Version)
	}
	for _, it := range a.Items {
		j.reset[it.Key] = entry{value: string(it.Value), version: it.Version}
	}
	if !a.Last {
		return nil
	}
	j.resets++
	j.last = a.Version
	for j.next < len(j.expected) && j.expected[j.next].version <= a.Version {
		j.apply(j.expected[j.next])
		j.next++
	}
	if j.doubt != nil && j.next == len(j.expected) {
		j.state = j.reset // the operation in doubt may be among it
		return nil
	}
	if err := sameValues(j.state, j.reset); err != nil {
		return fmt.Errorf("a reset to version %d: %w", a.Version, err)
	}
	j.state = j.reset
	return nil
}

// sameValues compares keys without deadlines; the versions too, but for those that
// a new deadline may have changed.
func sameValues(want, got model) error {
	for k, e := range want {
		if g, ok := got[k]; !mayExpire(k) && (!ok || g.value != e.value || g.version != e.version) {
			return fmt.Errorf("%q is %s and must be %s", k, show(g, ok), show(e, true))
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok && !mayExpire(k) {
			return fmt.Errorf("%q is there and must not be", k)
		}
	}
	return nil
}

func eventsOf(all []client.Event) []event {
	events := make([]event, len(all))
	for i, ev := range all {
		events[i] = event{Type: ev.Type, Key: ev.Key, Value: string(ev.Value)}
	}
	slices.SortFunc(events, func(a, b event) int { return strings.Compare(a.Key, b.Key) })
	return events
}
