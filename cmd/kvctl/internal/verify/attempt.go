package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNothing says that nothing can be had from a node: it does not answer, or has no
// such replica.
var ErrNothing = errors.New("not available")

// replicaTry is one replica in one attempt.
type replicaTry struct {
	life  context.Context
	end   context.CancelFunc
	watch Watch
	taken Taken
	err   error
}

// come waits until the replica came to the entry.
func (t *replicaTry) come(patience time.Duration) error {
	late := time.AfterFunc(patience, t.end)
	err := t.watch.Taken()
	if !late.Stop() && t.life.Err() != nil {
		return fmt.Errorf("it did not come to the entry within %s", patience)
	}
	return err
}

// attempt compares the replicas of one shard once. mayImprove says that what is
// missing might be had by another attempt.
func attempt(ctx context.Context, c Cluster, shard Shard, patience time.Duration) (result Result, mayImprove bool) {
	id := c.NewID()
	tries := make([]replicaTry, len(shard.Replicas))
	for i := range tries {
		tries[i].life, tries[i].end = context.WithCancel(ctx)
		defer tries[i].end() // nobody hashes for us any longer
	}
	each := func(do func(Replica, *replicaTry) error) {
		var wait sync.WaitGroup
		for i := range tries {
			if t := &tries[i]; t.err == nil {
				wait.Go(func() { t.err = do(shard.Replicas[i], t) })
			}
		}
		wait.Wait()
	}
	each(func(r Replica, t *replicaTry) (err error) {
		t.watch, err = c.Watch(t.life, shard.ID, r, id)
		return err
	})
	if shard.Leader == "" {
		return shard.result(tries, errors.New("it has no leader that serves")), true
	}
	if err := c.Propose(ctx, shard.ID, shard.Leader, id); err != nil {
		// The entry may come all the same; another attempt has another id.
		return shard.result(tries, err), true
	}
	each(func(_ Replica, t *replicaTry) error { return t.come(patience) })
	// Hashing takes as long as it takes.
	each(func(_ Replica, t *replicaTry) (err error) {
		t.taken, err = t.watch.Hashed()
		return err
	})
	for i := range tries {
		mayImprove = mayImprove || tries[i].err != nil && !errors.Is(tries[i].err, ErrNothing)
	}
	return shard.result(tries, nil), mayImprove
}

// result compares what there is; with a problem nothing was taken.
func (s Shard) result(tries []replicaTry, problem error) Result {
	out := Result{Shard: s.ID, Result: Equal, Attempts: 1, Replicas: []ReplicaResult{}}
	if problem != nil {
		out.Result, out.Problem = Incomplete, problem.Error()
	}
	var first *Taken
	different := false
	for i := range tries {
		r, t := s.Replicas[i], &tries[i]
		told := ReplicaResult{Replica: r.ID, Node: r.Node, NodeID: r.NodeID}
		if t.err == nil && problem == nil && first != nil && t.taken.Index != first.Index {
			t.err = fmt.Errorf("it was taken at index %d and another at %d: a bug", t.taken.Index, first.Index)
		}
		switch {
		case t.err != nil:
			told.Problem = t.err.Error()
			out.Result = Incomplete
		case problem == nil:
			told.Hash, told.Keys, told.Bytes = fmt.Sprintf("%016x", t.taken.Hash), t.taken.Keys, t.taken.Bytes
			if first == nil {
				first, out.Index = &t.taken, t.taken.Index
			}
			different = different || t.taken != *first
		}
		out.Replicas = append(out.Replicas, told)
	}
	if different {
		out.Result = Different
	}
	return out
}
