package mirror

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ringfort/ringfort/client"
)

// Options configure a Worker.
type Options struct {
	Name   string               // its keys begin with it; no other worker's do
	Client *client.Client       // for writes, watches and half of the reads
	Reader *client.Client       // for the other half: one with a cache, say; nil for Client
	Rand   *rand.Rand           // what it does
	Now    func() time.Duration // a clock that deadlines are compared with
	// Honest says that the clocks of a majority of each shard's replicas are right, so
	// that no deadline may come early.
	Honest bool
	// Patience bounds each operation. Default 3 s.
	Patience time.Duration
}

const (
	opsPerEpoch = 80
	maxTTL      = 3 * time.Second
)

// Worker does its operations one after another. Not safe for concurrent use; Run,
// then Finish.
type Worker struct {
	opts   Options
	epochs []*epoch
	report Report
}

// Report is what a worker really did.
type Report struct {
	Ops, Refused, Unknown, NotApplied int
	Reads                             map[client.ServedBy]int // that were judged
	Levels                            map[string]int
	Events, Expiries, Resets          int
}

// New returns a worker that has done nothing yet.
func New(o Options) *Worker {
	if o.Reader == nil {
		o.Reader = o.Client
	}
	if o.Patience == 0 {
		o.Patience = 3 * time.Second
	}
	return &Worker{opts: o, report: Report{Reads: make(map[client.ServedBy]int), Levels: make(map[string]int)}}
}

// epoch is one set of keys, all in one slot.
type epoch struct {
	tag     string
	session *client.Session
	models  []model             // what the keys may hold; never empty
	past    map[string][]past   // of each key, oldest first
	reads   map[string][]string // of each key, for people
	written []change            // acknowledged, in order
	doubt   *op                 // of unknown outcome: the last operation
	ops     int
	watch   *watch
}

// past is a state that a key was in.
type past struct {
	entry
	exists bool
	acked  time.Duration // when its writer knew
}

// change is what a write did, as a watch has to tell it.
type change struct {
	version uint64
	events  []event
}

// Run works until stop is closed, and returns the first thing that it saw and must
// not have seen. A cluster that does not answer is no error.
func (w *Worker) Run(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(5+w.opts.Rand.IntN(60)) * time.Millisecond):
		}
		e, err := w.epoch()
		if err != nil {
			return err
		}
		if e == nil {
			continue // the cluster does not take a watch now
		}
		if err := w.step(e); err != nil {
			return fmt.Errorf("%s: operation %d: %w", e.tag, e.ops, err)
		}
	}
}

// epoch is the current one, or a fresh one after its end.
func (w *Worker) epoch() (*epoch, error) {
	if n := len(w.epochs); n > 0 {
		if e := w.epochs[n-1]; e.doubt == nil && e.ops < opsPerEpoch {
			return e, nil
		}
	}
	e := &epoch{
		tag: fmt.Sprintf("{%s.%d}", w.opts.Name, len(w.epochs)), session: client.NewSession(),
		models: []model{{}}, past: make(map[string][]past), reads: make(map[string][]string),
	}
	e.watch = startWatch(w.opts, e.tag)
	if !e.watch.begun(w.opts.Patience) {
		return nil, e.watch.stop()
	}
	w.epochs = append(w.epochs, e)
	return e, nil
}

func (w *Worker) step(e *epoch) error {
	e.ops++
	w.report.Ops++
	switch n := w.opts.Rand.IntN(10); {
	case n < 6:
		return w.write(e, w.draw(e))
	case n < 9:
		return w.read(e)
	default:
		return w.scan(e)
	}
}

// write makes one write, or a transaction, and compares its answer.
func (w *Worker) write(e *epoch, o op) error {
	call := w.opts.Now()
	answer, version, err := w.send(e, o)
	now := w.opts.Now()
	var failed *client.Error
	switch {
	case errors.As(err, &failed) && failed.InDoubt:
		w.report.Unknown++
		e.doubt = &o
		return nil
	case err != nil:
		w.report.NotApplied++
		return nil
	}
	if answer[0] == '!' || answer[0] == 'r' {
		w.report.Refused++
	}
	before := e.models
	var next []model
	var events []event
	for _, m := range before {
		for _, v := range m.variants(w.due(now)) {
			a, after, evs := v.effect(o, version, call)
			if a == answer {
				next, events = append(next, after), evs
			}
		}
	}
	if len(next) == 0 {
		return fmt.Errorf("%+v was answered %q between %v and %v; the models are %+v", o, answer, call, now, before)
	}
	e.models = dedupe(next)
	if len(events) == 0 {
		return nil
	}
	if n := len(e.written); n > 0 && e.written[n-1].version >= version {
		return fmt.Errorf("%+v has version %d after %d", o, version, e.written[n-1].version)
	}
	e.written = append(e.written, change{version, events})
	for _, ev := range events {
		after, ok := next[0][ev.Key]
		e.past[ev.Key] = append(e.past[ev.Key], past{entry: after, exists: ok, acked: now})
	}
	return nil
}

// due is until when deadlines may have come by now. Where clocks are not honest
// they may come at any time.
func (w *Worker) due(now time.Duration) time.Duration {
	if w.opts.Honest {
		return now
	}
	return math.MaxInt64
}

// dedupe keeps the set of models small.
func dedupe(all []model) []model {
	seen := make(map[string]bool)
	kept := all[:0]
	for _, m := range all {
		if s := m.list(); !seen[s] {
			seen[s] = true
			kept = append(kept, m)
		}
	}
	return kept
}

// send makes the write and says how it was answered, as the model would.
func (w *Worker) send(e *epoch, o op) (answer string, version uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.opts.Patience)
	defer cancel()
	c := w.opts.Client
	switch o.Verb {
	case put:
		var r client.PutResult
		r, err = c.Put(ctx, o.Key, []byte(o.Value), writeOptions(e, o)...)
		answer, version = "ok"+shownPrevious(o, r.Previous), r.Version
	case del:
		var r client.DeleteResult
		r, err = c.Delete(ctx, o.Key, writeOptions(e, o)...)
		answer, version = "ok"+shownPrevious(o, r.Previous), r.Version
	case add:
		var r client.AddResult
		r, err = c.Add(ctx, o.Key, o.Delta, client.WithSession(e.session))
		answer, version = fmt.Sprint("sum ", r.Value), r.Version
	case expire, persist:
		var r client.ExpireResult
		if o.Verb == expire {
			r, err = c.Expire(ctx, o.Key, o.TTL, client.WithSession(e.session))
		} else {
			r, err = c.Persist(ctx, o.Key, client.WithSession(e.session))
		}
		answer, version = "ok", r.Version
	case txn:
		return w.sendTxn(ctx, e, o)
	}
	return refusal(answer, version, err)
}

// refusal makes answers of the errors that are answers.
func refusal(answer string, version uint64, err error) (string, uint64, error) {
	var failed *client.Error
	errors.As(err, &failed)
	switch {
	case err == nil:
		return answer, version, nil
	case errors.Is(err, client.ErrInDoubt):
	case errors.Is(err, client.ErrConditionFailed):
		return fmt.Sprintf("refused: exists %t, version %d", failed.Exists, failed.Version), 0, nil
	case errors.Is(err, client.ErrNotANumber):
		return "!not a number", 0, nil
	case errors.Is(err, client.ErrOverflow):
		return "!overflow", 0, nil
	case errors.Is(err, client.ErrNotFound):
		return "absent", 0, nil
	}
	return "", 0, err
}

func shownPrevious(o op, it *client.Item) string {
	if !o.Previous {
		return ""
	}
	return ", before it " + showItem(it)
}

func writeOptions(e *epoch, o op) []client.WriteOption {
	opts := []client.WriteOption{client.WithSession(e.session)}
	switch o.Cond {
	case ifAbsent:
		opts = append(opts, client.IfAbsent())
	case ifPresent:
		opts = append(opts, client.IfPresent())
	case ifVersion:
		opts = append(opts, client.IfVersion(o.Version))
	}
	return append(opts, leafOptions(o)...)
}

func leafOptions(o op) (opts []client.WriteOption) {
	if o.TTL > 0 {
		opts = append(opts, client.WithTTL(o.TTL))
	}
	if o.Keep {
		opts = append(opts, client.KeepTTL())
	}
	if o.Previous {
		opts = append(opts, client.WithPrevious())
	}
	return opts
}

func (w *Worker) sendTxn(ctx context.Context, e *epoch, o op) (string, uint64, error) {
	t := w.opts.Client.Txn().Then(leaves(o.Then)...).Else(leaves(o.Else)...)
	for _, c := range o.If {
		switch c.Kind {
		case "absent":
			t.If(client.KeyAbsent(c.Key))
		case "present":
			t.If(client.KeyPresent(c.Key))
		case "version":
			t.If(client.VersionIs(c.Key, c.Version))
		default:
			t.If(client.ValueIs(c.Key, []byte(c.Value)))
		}
	}
	r, err := t.Commit(ctx, client.WithSession(e.session))
	if err != nil {
		return refusal("", 0, err)
	}
	done, answer := o.Then, "then"
	if !r.Succeeded {
		done, answer = o.Else, "else"
	}
	if r.ResultsLost || len(r.Results) != len(done) {
		return "", 0, fmt.Errorf("a transaction of %d leaves came back with %d, lost %t", len(done), len(r.Results), r.ResultsLost)
	}
	for i, leaf := range done {
		answer += "; " + showLeaf(leaf, r.Results[i])
	}
	return answer, r.Version, nil
}

func showLeaf(o op, r client.OpResult) string {
	switch o.Verb {
	case get:
		return show(entry{value: string(r.Value), version: r.Version}, r.Found)
	case add:
		return fmt.Sprint("sum ", r.Number)
	case expire, persist:
		if !r.Found {
			return "absent"
		}
	}
	return "ok" + shownPrevious(o, r.Previous)
}

func leaves(ops []op) (all []client.Op) {
	for _, o := range ops {
		switch o.Verb {
		case get:
			all = append(all, client.OpGet(o.Key))
		case put:
			all = append(all, client.OpPut(o.Key, []byte(o.Value), leafOptions(o)...))
		case del:
			all = append(all, client.OpDelete(o.Key, leafOptions(o)...))
		case add:
			all = append(all, client.OpAdd(o.Key, o.Delta))
		case expire:
			all = append(all, client.OpExpire(o.Key, o.TTL))
		case persist:
			all = append(all, client.OpPersist(o.Key))
		}
	}
	return all
}

// Finish ends all epochs, when the cluster is well again, and judges what their
// watches saw. It waits for the last events until ctx ends.
func (w *Worker) Finish(ctx context.Context) (Report, error) {
	var errs []error
	var wg sync.WaitGroup
	verdicts := make([]error, len(w.epochs))
	for i, e := range w.epochs {
		wg.Go(func() {
			if len(e.written) > 0 {
				e.watch.await(ctx, e.written[len(e.written)-1].version)
			}
			verdicts[i] = e.watch.stop()
		})
	}
	wg.Wait()
	for i, e := range w.epochs {
		err := verdicts[i]
		if err == nil {
			err = w.judge(e)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.tag, err))
		}
	}
	return w.report, errors.Join(errs...)
}

// Add sums reports up.
func (r *Report) Add(o Report) {
	r.Ops += o.Ops
	r.Refused += o.Refused
	r.Unknown += o.Unknown
	r.NotApplied += o.NotApplied
	r.Events += o.Events
	r.Expiries += o.Expiries
	r.Resets += o.Resets
	if r.Reads == nil {
		r.Reads, r.Levels = make(map[client.ServedBy]int), make(map[string]int)
	}
	for by, n := range o.Reads {
		r.Reads[by] += n
	}
	for level, n := range o.Levels {
		r.Levels[level] += n
	}
}
