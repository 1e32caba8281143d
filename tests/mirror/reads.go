package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringfort/ringfort/client"
)

// read reads a key at some level and judges what comes.
func (w *Worker) read(e *epoch) error {
	r := w.opts.Rand
	c := w.opts.Client
	if r.IntN(2) == 0 {
		c = w.opts.Reader
	}
	key := e.tag + pick(r, append(append([]string(nil), plain...), dueKeys...))
	opts := []client.ReadOption{client.WithSession(e.session)}
	if r.IntN(2) == 0 {
		opts = append(opts, client.FromFollower())
	}
	level := pick(r, []string{"linearizable", "session", "stale", "any"})
	stale := time.Duration(r.Int64N(int64(2*time.Second))) + time.Millisecond
	switch level {
	case "session":
		opts = append(opts, client.InSession(e.session))
	case "stale":
		opts = append(opts, client.BoundedStale(stale))
	case "any":
		opts = append(opts, client.Any())
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.Patience)
	defer cancel()
	call := w.opts.Now()
	it, err := c.Get(ctx, key, opts...)
	now := w.opts.Now()
	found := err == nil
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		w.report.NotApplied++
		return nil
	}
	w.report.Reads[it.Served.By]++
	w.report.Levels[level]++
	saw := show(entry{value: string(it.Value), version: it.Version}, found)
	told := fmt.Sprintf("%s (%v) at %v: %s by %v at %d", level, stale, call, saw, it.Served.By, it.Served.ShardVersion)
	defer func() { e.reads[key] = append(e.reads[key], told) }()
	var wrong error
	switch level {
	case "stale":
		wrong = e.judgeOld(key, it, found, call-stale, w.due(now))
	case "any":
		wrong = e.judgeOld(key, it, found, -1, w.due(now))
	default:
		wrong = e.judgeNew(saw, w.due(now), func(m model) string {
			known, ok := m[key]
			return show(known, ok)
		})
	}
	if wrong != nil {
		return fmt.Errorf("get %q at level %s: %w\nits reads: %s\nthen %s", key, told, wrong, strings.Join(e.reads[key], "\n"), told)
	}
	return nil
}

// scan lists or counts all keys.
func (w *Worker) scan(e *epoch) error {
	r := w.opts.Rand
	opts := []client.ScanOption{}
	if r.IntN(2) == 0 {
		opts = append(opts, client.FromFollower())
	}
	if r.IntN(2) == 0 {
		opts = append(opts, client.InSession(e.session))
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.Patience)
	defer cancel()
	if r.IntN(4) == 0 {
		n, err := w.opts.Client.Count(ctx, client.Prefix(e.tag), opts...)
		if err != nil {
			w.report.NotApplied++
			return nil
		}
		w.report.Levels["count"]++
		return w.among(e, fmt.Sprint(n), func(m model) string { return fmt.Sprint(len(m)) })
	}
	seen := make(model)
	for it, err := range w.opts.Client.Scan(ctx, client.Prefix(e.tag), opts...) {
		if err != nil {
			w.report.NotApplied++
			return nil
		}
		if _, twice := seen[it.Key]; twice {
			return fmt.Errorf("a scan gave out %q twice", it.Key)
		}
		seen[it.Key] = entry{value: string(it.Value), version: it.Version}
	}
	w.report.Levels["scan"]++
	return w.among(e, seen.list(), model.list)
}

// among judges what a scan saw. It skips what is due and proposes nothing, so what
// it does not show may still be there, and nothing is learnt from it.
func (w *Worker) among(e *epoch, saw string, of func(model) string) error {
	now := w.due(w.opts.Now())
	for _, m := range e.models {
		for _, v := range m.variants(now) {
			if of(v) == saw {
				return nil
			}
		}
	}
	return fmt.Errorf("a scan saw %s; the model has %s", saw, e.models[0].list())
}

// judgeNew judges what must be what the keys hold now, and keeps the models that
// say so.
func (e *epoch) judgeNew(saw string, now time.Duration, of func(model) string) error {
	var next []model
	for _, m := range e.models {
		for _, v := range m.variants(now) {
			if of(v) == saw {
				next = append(next, v)
			}
		}
	}
	if len(next) == 0 {
		return fmt.Errorf("the model has %s", of(e.models[0]))
	}
	e.models = dedupe(next)
	return nil
}

// judgeOld judges a read that may show the past: a state that the key was in, and
// none older than the last one that its writer knew of at since.
func (e *epoch) judgeOld(key string, it client.Item, found bool, since, now time.Duration) error {
	states := append([]past{{acked: -1}}, e.past[key]...)
	first := 0
	for i, p := range states {
		if p.acked <= since {
			first = i
		}
	}
	for _, p := range states[first:] {
		if found && p.exists && p.version == it.Version && p.value == string(it.Value) {
			return nil
		}
		if !found && (!p.exists || p.due != 0 && p.due <= now) {
			return nil
		}
	}
	var all []string
	for _, p := range states[max(0, first-2):] {
		all = append(all, fmt.Sprintf("%s known at %v", show(p.entry, p.exists), p.acked))
	}
	return fmt.Errorf("it was not so since %v; its last states: %s", since, strings.Join(all, ", "))
}
