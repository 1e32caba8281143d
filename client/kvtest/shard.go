package kvtest

import (
	"bytes"
	"cmp"
	"sync"
	"time"

	"github.com/google/btree"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// A shard has one term for ever, and was born where those of a cluster are.
	term       = 5
	birthIndex = 10

	maxEntryBytes = 256 << 10 // where merging stops, as on a node
	sweepBatch    = 512       // due keys that one entry expires, as on a node
)

// shard is one shard. All but the queue and the ring belongs to its loop's goroutine.
type shard struct {
	server    *Server
	record    shardmap.Record
	machine   *state.Machine
	store     store
	deadlines *btree.BTreeG[due] // of the keys that have or had one
	index     uint64             // of the last entry
	changes   *ring

	confirmed   bool // a read has made sure that this is the leader, last at
	confirmedAt time.Duration

	wake chan struct{} // capacity 1: there are jobs
	mu   struct {
		sync.Mutex
		jobs []job // what the streams and calls have in flight; they bound it
		gone bool  // the loop has ended
	}
}

// due is a place in the index of deadlines.
type due struct {
	deadline uint64
	key      string
}

// job is a write, or a look at the shard between two entries. Done is called once,
// by the loop's goroutine, and must not wait.
type job struct {
	ops      []state.Op
	deadline time.Time // no work after this; zero for none
	done     func(results []state.Result, version uint64, err error)

	look func(err error) // instead
}

func newShard(s *Server, record shardmap.Record) (*shard, error) {
	sh := &shard{
		server: s, record: record, store: newStore(), index: birthIndex, changes: newRing(s.cfg.history),
		wake: make(chan struct{}, 1),
		deadlines: btree.NewG(storeDegree, func(a, b due) bool {
			return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.key, b.key)) < 0
		}),
	}
	if err := state.Birth(sh.store, record, birthIndex, term, []byte("one voter")); err != nil {
		return nil, err
	}
	var err error
	sh.machine, _, err = state.Load(sh.store, record.Arc.From)
	return sh, err
}

// submit gives the loop something to do.
func (sh *shard) submit(j job) {
	sh.mu.Lock()
	gone := sh.mu.gone
	if !gone {
		sh.mu.jobs = append(sh.mu.jobs, j)
	}
	sh.mu.Unlock()
	if gone {
		j.fail(stopping())
		return
	}
	signal(sh.wake)
}

func (j *job) fail(err error) {
	if j.look != nil {
		j.look(err)
		return
	}
	j.done(nil, 0, err)
}

// ask runs f between two entries and waits for it.
func (sh *shard) ask(f func()) error {
	done := make(chan error, 1)
	sh.submit(job{look: func(err error) {
		if err == nil {
			f()
		}
		done <- err
	}})
	return <-done
}

// run is the apply loop.
func (sh *shard) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop() // nothing is due yet
	for {
		select {
		case <-sh.wake:
		case <-timer.C:
			sh.sweep()
		case <-sh.server.closing:
			for _, j := range sh.take(true) {
				j.fail(stopping())
			}
			return
		}
		sh.work(sh.take(false))
		if next, ok := sh.nextDue(); ok && !sh.server.virtual() {
			timer.Reset(next)
		}
	}
}

func (sh *shard) take(last bool) []job {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	jobs := sh.mu.jobs
	sh.mu.jobs, sh.mu.gone = nil, last
	return jobs
}

// work does what waits in the order in which it came. Writes that follow each other
// become one entry.
func (sh *shard) work(jobs []job) {
	var merged []job
	size := 0
	flush := func() {
		sh.propose(merged)
		merged, size = nil, 0
	}
	for _, j := range jobs {
		if j.look != nil {
			flush()
			j.look(nil)
			continue
		}
		if !j.deadline.IsZero() && !time.Now().Before(j.deadline) {
			j.fail(errTimeOver)
			continue
		}
		n := 0
		for i := range j.ops {
			n += state.OpSize(&j.ops[i])
		}
		if size > 0 && size+n > maxEntryBytes {
			flush()
		}
		merged, size = append(merged, j), size+n
	}
	flush()
}

// propose applies the writes of some jobs as one entry.
func (sh *shard) propose(jobs []job) {
	if len(jobs) == 0 {
		return
	}
	var ops []state.Op
	for _, j := range jobs {
		ops = append(ops, j.ops...)
	}
	results, err := sh.apply(ops)
	for _, j := range jobs {
		if err != nil {
			j.fail(err)
			continue
		}
		n := len(j.ops)
		j.done(results[:n:n], sh.machine.LastVersion(), nil)
		results = results[n:]
	}
}

// apply has the machine decide about one entry. What changed is in the ring before
// anybody has an answer.
func (sh *shard) apply(ops []state.Op) ([]state.Result, error) {
	sh.index++
	e := state.Entry{
		ShardTime: min(sh.server.clock.WallMicros(), state.MaxVersion), Term: term,
		Proposal: state.ProposalID{Replica: uint64(sh.record.Replicas[0].ID), Nonce: 1, Counter: sh.index}, Ops: ops,
	}
	_, results, err := sh.machine.ApplyEntry(sh.store, sh.index, term, e.AppendTo(nil))
	if err == nil {
		err = sh.machine.Finish(sh.store)
	}
	if err != nil { // the machine refuses all further work
		sh.server.t.Errorf("kvtest: shard %d: %v", sh.record.Shard, err)
		return nil, kverr.New(kverr.Internal, "shard %d: %w", sh.record.Shard, err)
	}
	changes := sh.machine.Changes()
	for i := range changes {
		if c := &changes[i]; c.Expires != 0 {
			sh.deadlines.ReplaceOrInsert(due{c.Expires, string(c.Key)})
		}
	}
	sh.changes.append(changes, sh.machine.LastVersion())
	return results, nil
}

// nextDue is the time until the next key is due.
func (sh *shard) nextDue() (time.Duration, bool) {
	next, ok := sh.deadlines.Min()
	if !ok {
		return 0, false
	}
	const most = 24 * time.Hour // a timer is no place for a century
	left := int64(next.deadline) - int64(sh.server.clock.WallMicros())
	return time.Duration(min(max(left, 0), most.Microseconds())) * time.Microsecond, true
}

// sweep applies the expiry of everything that is due.
func (sh *shard) sweep() {
	for {
		var ops []state.Op
		for now := sh.server.clock.WallMicros(); len(ops) < sweepBatch; {
			next, ok := sh.deadlines.Min()
			if !ok || next.deadline > now {
				break
			}
			sh.deadlines.DeleteMin()
			ops = append(ops, state.Op{Kind: state.OpSweep, Key: []byte(next.key), Deadline: next.deadline})
		}
		if len(ops) == 0 {
			return
		}
		if _, err := sh.apply(ops); err != nil {
			return
		}
	}
}

// now is the shard's time: no less than what was applied.
func (sh *shard) now() uint64 { return max(sh.machine.ShardTime(), sh.server.clock.WallMicros()) }

// read is what a get finds. Due keys are expired first if the level says so.
func (sh *shard) read(key []byte, expire bool) (v state.Value, found bool, err error) {
	k := state.DataKey(nil, shardmap.SlotOf(key), key)
	raw, found, err := sh.store.Get(k)
	if err != nil || !found {
		return v, false, err
	}
	if v, err = state.DecodeValue(raw); err != nil || !expire || !v.Due(sh.now()) {
		return v, err == nil, err
	}
	_, err = sh.apply([]state.Op{{Kind: state.OpSweep, Key: bytes.Clone(key), Deadline: v.Expires}})
	return state.Value{}, false, err
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
