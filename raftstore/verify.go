package raftstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// maxVerifications bounds those that wait on one node at a time: each may hold a
// snapshot, which keeps old versions of keys on disk.
const maxVerifications = 16

// verifier hashes replicas' states at the index of an OpVerify, for those who
// wait for it.
//
// Replicas can only be compared at one index, and writes go on meanwhile. So the
// leader proposes an entry that changes nothing; each replica's apply loop ends
// its batch with that entry and takes a snapshot. The snapshot is cheap; the hash
// is taken by the worker, one at a time on a node.
//
// Only who announced itself before the entry is applied gets a hash. An entry
// that is replayed after a restart finds nobody and costs nothing.
type verifier struct {
	store  *Store
	work   chan struct{} // capacity 1: look at the queue
	worker sync.WaitGroup

	mu struct {
		sync.Mutex
		open   map[verifyKey]*Verification
		queue  []*Verification // taken, not hashed yet
		closed bool
	}
}

type verifyKey struct {
	shard shardmap.ShardID
	id    state.VerifyID
}

// Verification is the wait for one replica's hash. Close must be called.
type Verification struct {
	owner *verifier
	key   verifyKey
	life  context.Context // ends with Close and with the store
	end   context.CancelFunc

	taken chan uint64
	done  chan Verified

	// The rest belongs to the apply loop until it is queued, then to the worker.
	group *Group
	index uint64
	view  *pebble.Snapshot
}

// Verified is what became of a Verification.
type Verified struct {
	Replica shardmap.ReplicaID
	Index   uint64
	state.Digest
	Err error // then there is no digest
}

func newVerifier(s *Store) *verifier {
	v := &verifier{store: s, work: make(chan struct{}, 1)}
	v.mu.open = make(map[verifyKey]*Verification)
	v.worker.Go(v.run)
	return v
}

// ExpectVerify begins to wait for the OpVerify with this id in the local replica
// of the shard. Errors: Invalid without a replica here, Overloaded when too many
// wait, Conflict when somebody waits for the same, Closed.
func (s *Store) ExpectVerify(shard shardmap.ShardID, id state.VerifyID) (*Verification, error) {
	if _, ok := s.Group(shard); !ok {
		return nil, kverr.New(kverr.Invalid, "this node holds no replica of shard %d", shard)
	}
	v := s.verifier
	w := &Verification{owner: v, key: verifyKey{shard, id}, taken: make(chan uint64, 1), done: make(chan Verified, 1)}
	w.life, w.end = context.WithCancel(context.Background())
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.mu.closed:
		return nil, kverr.New(kverr.Closed, "raftstore: the store is stopped")
	case v.mu.open[w.key] != nil:
		return nil, kverr.New(kverr.Conflict, "shard %d: a verification with this id is under way", shard)
	case len(v.mu.open) >= maxVerifications:
		return nil, &kverr.Error{Kind: kverr.Overloaded, RetryAfter: overloadedRetry,
			Message: fmt.Sprintf("%d verifications are under way on this node, its limit", len(v.mu.open))}
	}
	v.mu.open[w.key] = w
	return w, nil
}

// Taken delivers the index once the state was taken there.
func (w *Verification) Taken() <-chan uint64 { return w.taken }

// Done delivers the outcome.
func (w *Verification) Done() <-chan Verified { return w.done }

// Close ends the wait, and the hashing if it is under way.
func (w *Verification) Close() {
	w.end()
	w.owner.mu.Lock()
	defer w.owner.mu.Unlock()
	delete(w.owner.mu.open, w.key)
}

// marked takes g's state for those who wait for one of ids. The apply loop calls
// it right after the batch that ends with their entry.
func (v *verifier) marked(g *Group, index uint64, ids []state.VerifyID) {
	for _, id := range ids {
		v.mu.Lock()
		w := v.mu.open[verifyKey{g.shard, id}]
		if w == nil || w.group != nil || v.mu.closed { // an id's first entry counts
			v.mu.Unlock()
			continue
		}
		w.group = g
		v.mu.Unlock()

		w.index, w.view = index, v.store.state.NewSnapshot()
		w.taken <- index
		v.mu.Lock()
		v.mu.queue = append(v.mu.queue, w)
		v.mu.Unlock()
		signal(v.work)
	}
}

func (v *verifier) run() {
	for range v.work {
		for {
			w := v.next()
			if w == nil {
				break
			}
			w.done <- w.hash()
		}
	}
}

func (v *verifier) next() *Verification {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.mu.queue) == 0 {
		return nil
	}
	w := v.mu.queue[0]
	v.mu.queue = v.mu.queue[1:]
	return w
}

// hash sums up the view and closes it. What an excise removes is gone from
// snapshots too, so the applied position is read again after the sum: where it
// still is the entry's, the sum's own iterator was opened before any excise.
func (w *Verification) hash() Verified {
	out := Verified{Replica: w.group.replica, Index: w.index}
	view := kvReader{w.view}
	arc := w.group.Record().Arc
	rec, found, err := state.ReadRecord(view, arc.From)
	if err == nil && found {
		out.Digest, err = state.Sum(endingReader{view, w.life}, rec.Arc)
	}
	var applied state.AppliedState
	if err == nil {
		applied, found, err = state.LoadApplied(view, arc.From)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("shard %d: verify: %w", w.key.shard, err)
	case !found || applied.Index != w.index:
		err = kverr.New(kverr.Unavailable, "shard %d: its state was replaced while it was verified; repeat", w.key.shard)
	}
	if e := w.view.Close(); err == nil && e != nil {
		err = fmt.Errorf("shard %d: verify: %w", w.key.shard, e)
	}
	if err != nil {
		out.Digest, out.Err = state.Digest{}, err
	}
	return out
}

// endingReader ends a scan when its context does.
type endingReader struct {
	kvReader
	life context.Context
}

// endingEvery is how many keys are read between looks at the context.
const endingEvery = 256

// Scan implements state.Reader.
func (r endingReader) Scan(from, to []byte, fn func(k, v []byte) error) error {
	n := 0
	return r.kvReader.Scan(from, to, func(k, v []byte) error {
		if n++; n%endingEvery == 1 && r.life.Err() != nil {
			return kverr.New(kverr.Closed, "nobody waits for it any more")
		}
		return fn(k, v)
	})
}

// close ends all that wait. No apply loop runs any more; the state database is
// still open, since snapshots must be closed before it is.
func (v *verifier) close() {
	v.mu.Lock()
	v.mu.closed = true
	for _, w := range v.mu.open {
		w.end()
		if w.group == nil {
			w.done <- Verified{Err: kverr.New(kverr.Closed, "shard %d: the node is stopping", w.key.shard)}
		}
	}
	close(v.work) // what is queued is still run, and ends at once
	v.mu.Unlock()
	v.worker.Wait()
}
