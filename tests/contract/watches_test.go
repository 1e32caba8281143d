package contract

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cluster/local"
)

const (
	// keptUp is how many watches see every event.
	keptUp = 3
	// silence is how long after the last write, with all nodes up, a watch may need
	// to show it.
	silence = time.Minute
	// restEvery is how many changes a slow loop takes before it rests.
	restEvery = 400
	// tickPrefix is of keys that nobody judges.
	tickPrefix = "tick/"
	tickEvery  = 100 * time.Millisecond
)

// watching is one run of TestWatchesMissNothing.
type watching struct {
	t       *testing.T
	cluster *local.Cluster
	faults  *faults
	load    *load
	written chan struct{} // closed when all is written and load.mu.last complete

	resumed   atomic.Int64
	compacted atomic.Int64
	reset     atomic.Int64
}

// watcher is one of the run's watches.
type watcher struct {
	*watching
	name  string
	view  *view
	token client.Token
	r     *rand.Rand
	ready func() // has begun: what is written now must be seen
}

// Every watch shows, of each key, the writes in their order, none left out and
// none twice, groups whole. Three see all of it: one goes on and on, one prefers
// followers, one stops all the time and goes on from its token with another client
// at another node. Two are slow: they may lose changes, but only by being told.
func TestWatchesMissNothing(t *testing.T) {
	seed, began := newSeed(t), time.Now()
	c := newCluster(t)
	w := &watching{t: t, cluster: c, written: make(chan struct{})}
	w.load = &load{wanted: int64(*eventsWanted+keptUp-1) / keptUp}
	w.load.kills = max(2, w.load.wanted/writesPerKill)
	w.load.mu.last = map[string]int{}
	large := w.load.kills > 10
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fail := func(err error) {
		if err != nil {
			t.Error(err)
			cancel()
		}
	}

	f := &faults{}
	var setUp, watches, work sync.WaitGroup
	var all []*watcher
	begin := func(name string, run func(context.Context, *watcher) error) {
		setUp.Add(1)
		v := &watcher{watching: w, name: name, view: newView(), r: random(seed, 200+uint64(len(all))), ready: sync.OnceFunc(setUp.Done)}
		all = append(all, v)
		watches.Go(func() {
			defer v.ready()
			if err := run(ctx, v); err != nil {
				lacking, example := 0, ""
				select {
				case <-w.written:
					lacking, example = v.view.lacks(w.load.mu.last)
				default:
				}
				fail(fmt.Errorf("watch %s, after %d events (%d keys lack something: %s): %w", name, v.view.events, lacking, example, err))
			}
		})
	}
	w.faults = f
	begin("steady", func(ctx context.Context, v *watcher) error { return v.steady(ctx, 0) })
	begin("followers", func(ctx context.Context, v *watcher) error { return v.steady(ctx, 1, client.FromFollower()) })
	begin("resuming", func(ctx context.Context, v *watcher) error { return v.resuming(ctx) })
	begin("slow", func(ctx context.Context, v *watcher) error { return v.slow(ctx, large) })
	begin("slow with resync", func(ctx context.Context, v *watcher) error { return v.slow(ctx, large, client.WithResync()) })
	setUp.Wait()

	stop := f.start(t, c, seed)
	w.load.faults = f
	var clients []*client.Client
	for range 2 {
		clients = append(clients, open(t, c, &f.lines, len(clients)))
	}
	for i := range writers {
		work.Go(func() {
			if err := w.load.write(ctx, clients[i%len(clients)], i, random(seed, 100+uint64(i))); ctx.Err() == nil {
				fail(err)
			}
		})
	}
	work.Wait()
	wrote := time.Since(began)
	stop()
	close(w.written)
	over := time.AfterFunc(silence, cancel)
	defer over.Stop()
	ticking, enough := context.WithCancel(ctx)
	work.Go(func() { tick(ticking, clients[0]) })
	watches.Wait()
	enough()
	work.Wait()
	for _, cl := range clients {
		cl.Close()
	}

	total, events := 0, 0
	for _, number := range w.load.mu.last {
		total += number
	}
	for i, v := range all {
		t.Logf("watch %s: %d events, %d resets", v.name, v.view.events, v.view.resets)
		events += v.view.events
		if i < keptUp && v.view.events != total {
			t.Errorf("watch %s has seen %d events of %d", v.name, v.view.events, total)
		}
	}
	t.Logf("%d writes in %v, seen by all after %v: %d events judged; %d kills, %d leaderships moved, %d connections reset with an answer; %d resumed from tokens, %d ended compacted, %d resets",
		total, wrote.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond), events,
		f.kills.Load(), f.moves.Load(), f.lines.lost.Load(), w.resumed.Load(), w.compacted.Load(), w.reset.Load())
	if f.kills.Load() < w.load.kills || f.moves.Load() == 0 || f.lines.lost.Load() == 0 || w.resumed.Load() == 0 {
		t.Error("too quiet a run")
	}
	if large && (w.compacted.Load() == 0 || w.reset.Load() == 0) {
		t.Error("the slow watches have lost nothing: they were too fast")
	}
}

// through reports whether all is written and the view has all of it.
func (v *watcher) through() bool {
	select {
	case <-v.written:
	default:
		return false
	}
	n, _ := v.view.lacks(v.load.mu.last)
	return n == 0 && !v.view.open
}

// tick makes idle shards say something, so that a watch that lacks nothing hears it,
// and a repeat has the time to come.
func tick(ctx context.Context, cl *client.Client) {
	for i := 0; pause(ctx, tickEvery); i++ {
		_, _ = cl.Put(ctx, fmt.Sprintf("%s%d", tickPrefix, i), nil) // the next one does as well
	}
}

// ticks reports whether changes are a tick.
func ticks(ch client.Changes) bool {
	return len(ch.Events) > 0 && strings.HasPrefix(ch.Events[0].Key, tickPrefix) || ch.Kind == client.Progress
}

// follow runs a watch until it is through or its loop is told to stop.
func (v *watcher) follow(ctx context.Context, cl *client.Client, goOn func() bool, options ...client.WatchOption) (through bool, err error) {
	for ch, err := range cl.Watch(ctx, client.All(), append(options, client.WithProgress())...) {
		v.token = ch.Token
		if err != nil {
			return false, err
		}
		if err := v.view.take(ch); err != nil {
			return false, err
		}
		if ch.Kind == client.Progress {
			v.ready()
		}
		if ticks(ch) && v.through() {
			return true, nil
		}
		if !goOn() {
			return false, nil
		}
	}
	return false, errors.New("the watch ended without an error")
}

// steady never stops, and nothing is compacted under it.
func (v *watcher) steady(ctx context.Context, endpoint int, options ...client.WatchOption) error {
	cl := open(v.t, v.cluster, &v.faults.lines, endpoint)
	defer cl.Close()
	_, err := v.follow(ctx, cl, func() bool { return true }, options...)
	return err
}

// resuming takes a watch up where another one was left, with a client that knows
// nothing, at another node.
func (v *watcher) resuming(ctx context.Context) error {
	for round := 0; ; round++ {
		options := []client.WatchOption{client.FromFollower()}
		if round > 0 {
			// Its text is what a program would have stored.
			token, err := client.ParseToken(v.token.String())
			if err != nil {
				return err
			}
			options = append(options, client.From(token))
			v.resumed.Add(1)
		}
		end := time.Now().Add(between(v.r, 200*time.Millisecond, 3*time.Second))
		cl := open(v.t, v.cluster, &v.faults.lines, round)
		through, err := v.follow(ctx, cl, func() bool { return round == 0 && v.token.IsZero() || time.Now().Before(end) }, options...)
		cl.Close()
		if through || err != nil {
			return err
		}
		pause(ctx, between(v.r, 0, 700*time.Millisecond))
	}
}

// slow rests now and then, as long as something is written. What it loses for that
// it is told: by resets, or by ErrCompacted, after which it scans and goes on from
// there.
func (v *watcher) slow(ctx context.Context, large bool, options ...client.WatchOption) error {
	cl := open(v.t, v.cluster, &v.faults.lines, 2)
	defer cl.Close()
	rest := 1500 * time.Millisecond
	if large {
		rest = 15 * time.Second
	}
	taken, resets := 0, 0
	goOn := func() bool {
		if v.view.resets > resets {
			v.reset.Add(int64(v.view.resets - resets))
			resets = v.view.resets
		}
		if taken++; taken%restEvery == 0 {
			timer := time.NewTimer(between(v.r, rest/5, rest))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-v.written:
			case <-ctx.Done():
			}
		}
		return true
	}
	from := options
	for {
		_, err := v.follow(ctx, cl, goOn, from...)
		if !errors.Is(err, client.ErrCompacted) {
			return err
		}
		v.compacted.Add(1)
		token, err := v.scan(ctx, cl)
		if err != nil {
			return err
		}
		from = append(options[:len(options):len(options)], client.From(token))
	}
}

// scan takes what there is now, and returns the position from which a watch goes
// on. An interrupted one does not tell where each part was read, so that the watch
// may repeat what it has shown: it is made again.
func (v *watcher) scan(ctx context.Context, cl *client.Client) (client.Token, error) {
	for {
		var report client.ScanReport
		var items []client.Item
		var failed error
		for item, err := range cl.Scan(ctx, client.All(), client.BySlot(), client.WithReport(&report)) {
			if err != nil {
				failed = err
				break
			}
			items = append(items, item)
		}
		switch {
		case ctx.Err() != nil:
			return client.Token{}, ctx.Err()
		case failed != nil || report.Resumed > 0:
			continue
		}
		v.view.forget(func(string) bool { return true })
		for _, item := range items {
			if err := v.view.item(item); err != nil {
				return client.Token{}, fmt.Errorf("scan: %w", err)
			}
		}
		return report.Token(), nil
	}
}
