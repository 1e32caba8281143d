package raftstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// maxApplyBytes is where one state batch ends: larger ones would not fit a
// memtable comfortably.
const maxApplyBytes = 4 << 20

// fsm is the group as Raft's state machine. Raft calls it from one goroutine,
// the apply loop.
type fsm Group

var _ raft.BatchingFSM = (*fsm)(nil)

// completion is the outcome of one applied entry, told to its waiter after the
// batch is committed.
type completion struct {
	id      state.ProposalID
	results []state.Result
}

// Apply implements raft.FSM; Raft uses ApplyBatch.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries and completes those who wait for them.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.applying.Store(true)
	defer f.applying.Store(false)
	for rest := logs; len(rest) > 0; {
		f.lag.begin()
		if f.store.opts.BeforeApply != nil {
			f.store.opts.BeforeApply(f.shard)
		}
		n, err := (*Group)(f).applySome(rest)
		f.lag.end()
		if err != nil {
			// The entry is committed: every replica meets it. Going on without it
			// would diverge, so the process stops with the log as it is.
			f.store.fatal(fmt.Errorf("raftstore: shard %d: apply at index %d: %w", f.shard, rest[0].Index, err))
		}
		f.store.haltIfDead()
		rest = rest[n:]
	}
	return make([]any, len(logs))
}

// applySome applies a run of entries as one state batch and says how many.
func (g *Group) applySome(logs []*raft.Log) (n int, err error) {
	batch := newApplyBatch(g.store.state)
	defer func() { err = errors.Join(err, batch.Close()) }()

	var done []completion
	var changes []place
	var term uint64
	var marks []state.VerifyID
	for _, l := range logs {
		if len(marks) > 0 || n > 0 && batch.Len() >= maxApplyBytes {
			break
		}
		n++
		if applied, _ := g.machine.Applied(); l.Index <= applied {
			continue // replayed after a restart: its effect is in the state already
		}
		term = l.Term
		switch l.Type {
		case raft.LogCommand:
			entry, results, err := g.machine.ApplyEntry(batch, l.Index, l.Term, l.Data)
			if err != nil {
				return 0, err
			}
			done = append(done, completion{entry.Proposal, results})
			marks = g.machine.Marks()
			if c := g.machine.Changes(); len(c) > 0 {
				changes = append(changes, newPlace(c, l.Data))
			}
		case raft.LogConfiguration:
			if err := g.machine.ApplyConfiguration(batch, l.Index, l.Term, l.Data); err != nil {
				return 0, err
			}
			g.retain(raft.DecodeConfiguration(l.Data))
		default:
			return 0, kverr.New(kverr.Internal, "entry of type %s reached the state machine", l.Type)
		}
	}
	if term == 0 {
		return n, nil // nothing new
	}
	if err := g.machine.Finish(batch); err != nil { // RS1: the applied index goes with its effect
		return 0, err
	}
	g.store.appliedBytes.Add(uint64(batch.Len()))
	if err := batch.Commit(pebble.NoSync); err != nil {
		return 0, err
	}
	g.store.haltIfDead() // a commit that met Pebble's Fatalf has not happened
	// Not before: whoever takes a slot's deadline reads the index, and what it does not
	// find there yet would be forgotten.
	for i := range changes {
		g.noteDeadlines(changes[i].changes)
	}
	// Before anybody can know that it is applied: a watch that begins after what is
	// applied begins after what it has.
	g.changes.append(changes, g.machine.LastVersion())
	g.publish()
	v := g.view.Load()
	g.store.verifier.marked(g, v.applied, marks)
	for _, c := range done {
		g.waiters.landed(c.id, c.results, v.version)
	}
	g.waiters.passed(term)
	g.run(g.reached())
	if g.store.opts.Events.Applied != nil && v.record.Shard == shardmap.SystemShard {
		g.store.opts.Events.Applied(g.shard)
	}
	return n, nil
}

// publish shows what has been applied to those outside the apply loop.
func (g *Group) publish() {
	index, _ := g.machine.Applied()
	g.sawTime(g.machine.ShardTime())
	g.view.Store(&view{
		applied: index, version: g.machine.LastVersion(), time: g.machine.ShardTime(), record: g.machine.Record(),
		requests: g.machine.Requests(),
	})
}

// Snapshot implements raft.FSM. The store never asks Raft for a snapshot: see
// ADR 0003.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return nil, kverr.New(kverr.Internal, "shard %d: snapshots are not taken through raft", f.shard)
}
