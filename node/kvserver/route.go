package kvserver

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/raftstore/kvop"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// plan is where the operations of one part go, as indexes into it. It is used
// again for the next part.
type plan struct {
	targets []target
	refused []refusal
	// Refusals that may be answered by now, and that were: the first ones.
	answerable, answered int
}

// target is one shard with a local replica.
type target struct {
	shard         shardmap.ShardID
	group         Group
	record        shardmap.Record // as this node had applied it when the part came
	writes, reads []int32
	charge        int       // of both
	deadline      time.Time // the latest of its operations'

	// Of writes and reads the first ones were admitted, and of those the first ones
	// were handed over.
	admitted, gone progress
	share          *share
	due            time.Time // when those that wait are refused; zero: none waits

	classes []readClass // of the reads that are being handed over
}

// progress is how far the operations of a target have come.
type progress struct{ writes, reads int }

// waits reports whether some operations are not admitted.
func (t *target) waits() bool {
	return t.admitted.writes < len(t.writes) || t.admitted.reads < len(t.reads)
}

// readClass is reads that one raftstore.Read can serve.
type readClass struct {
	spec raftstore.ReadSpec
	ops  []int32
}

// refusal is an operation that goes nowhere.
type refusal struct {
	index int
	err   error
	redirect
}

func (p *plan) refuse(index int, err error, r redirect) {
	p.refused = append(p.refused, refusal{index, err, r})
}

// add books an operation. The batch works until the last of its callers gives
// up: one that gives up earlier has left by its own clock, and cutting the others
// short for it would turn their answers into unknown outcomes.
func (t *target) add(index int, op *kvv1.Operation, estimate int, deadline time.Time) {
	t.charge += requestBytes(op, estimate)
	if op.Kind == kvv1.OperationKind_OPERATION_KIND_GET {
		t.reads = append(t.reads, int32(index))
	} else {
		t.writes = append(t.writes, int32(index))
	}
	if deadline.After(t.deadline) {
		t.deadline = deadline
	}
}

// classify sorts reads into classes, over those of the last time.
func (t *target) classify(reads []int32, in part) {
	t.classes = t.classes[:0]
	for _, index := range reads {
		c := t.classOf(in.ops[index])
		c.ops = append(c.ops, index)
	}
}

// classOf is where a read goes along. One that asks for less than its class is
// served like the others (K2): at the newest version and the shortest age.
func (t *target) classOf(op *kvv1.Operation) *readClass {
	want := specOf(op)
	for i := range t.classes {
		c := &t.classes[i]
		if c.spec.Level == want.Level && c.spec.AnyReplica == want.AnyReplica {
			c.spec.MinVersion = max(c.spec.MinVersion, want.MinVersion)
			c.spec.MaxAge = min(c.spec.MaxAge, want.MaxAge)
			return c
		}
	}
	n := len(t.classes)
	if n < cap(t.classes) {
		t.classes = t.classes[:n+1]
	} else {
		t.classes = append(t.classes, readClass{})
	}
	c := &t.classes[n]
	*c = readClass{spec: want, ops: c.ops[:0]}
	return c
}

// specOf is what a get that passed check asks for.
func specOf(op *kvv1.Operation) raftstore.ReadSpec {
	return readSpec(op.Level, op.MinVersion, op.MaxAgeUs, op.AnyReplica)
}

// readSpec keeps of a request what belongs to its level.
func readSpec(level kvv1.ReadLevel, minVersion, maxAgeMicros uint64, anyReplica bool) raftstore.ReadSpec {
	switch level {
	case kvv1.ReadLevel_READ_LEVEL_SESSION:
		return raftstore.ReadSpec{Level: raftstore.Session, MinVersion: minVersion}
	case kvv1.ReadLevel_READ_LEVEL_BOUNDED_STALE:
		return raftstore.ReadSpec{Level: raftstore.BoundedStale, MaxAge: time.Duration(maxAgeMicros) * time.Microsecond}
	case kvv1.ReadLevel_READ_LEVEL_ANY:
		return raftstore.ReadSpec{Level: raftstore.Any}
	}
	return raftstore.ReadSpec{AnyReplica: anyReplica}
}

// withhold refuses the writes that the leader's disk has no room for, one by one:
// deletes go on longer than puts do.
func withhold(p *plan, t *target, in part) {
	if len(t.writes) == 0 {
		return
	}
	puts, deletes := t.group.Admits(state.OpPut), t.group.Admits(state.OpDelete)
	if puts == nil && deletes == nil {
		return
	}
	admitted := t.writes[:0]
	for _, index := range t.writes {
		op, err := in.ops[index], puts
		if space(op) == state.OpDelete {
			err = deletes
		}
		if err == nil {
			admitted = append(admitted, index)
			continue
		}
		t.charge -= requestBytes(op, in.estimate)
		p.refuse(int(index), err, redirect{shard: t.shard, slot: shardmap.SlotOf(kvop.Key(op))})
	}
	t.writes = admitted
}

// expire refuses what has waited for room until its time was over.
func (p *plan) expire(in part) {
	now := time.Now()
	for i := range p.targets {
		t := &p.targets[i]
		keep := func(indexes []int32, admitted int) []int32 {
			kept := indexes[:admitted]
			for _, index := range indexes[admitted:] {
				if op := in.ops[index]; !in.deadline(op).After(now) {
					t.charge -= requestBytes(op, in.estimate)
					p.refuse(int(index), errTimeOver, redirect{})
					continue
				}
				kept = append(kept, index)
			}
			return kept
		}
		t.writes, t.reads = keep(t.writes, t.admitted.writes), keep(t.reads, t.admitted.reads)
	}
}

// reset forgets the part but keeps the room.
func (p *plan) reset() {
	for i := range p.targets {
		t := &p.targets[i]
		*t = target{writes: t.writes[:0], reads: t.reads[:0], classes: t.classes[:0]}
	}
	p.targets = p.targets[:0]
	clear(p.refused)
	p.refused = p.refused[:0]
	p.answerable, p.answered = 0, 0
}

// open appends a target.
func (p *plan) open(group Group) *target {
	n := len(p.targets)
	if n < cap(p.targets) {
		p.targets = p.targets[:n+1]
	} else {
		p.targets = append(p.targets, target{})
	}
	t := &p.targets[n]
	t.group, t.record = group, group.Record()
	t.shard = t.record.Shard
	return t
}

// route finds the local group for an operation, or says where else to go. What
// it lets pass is decided again where it is applied.
func (s *Server) route(p *plan, op *kvv1.Operation, slot shardmap.Slot) (*target, error) {
	if op.Shard == 0 {
		return s.routeBySlot(p, slot)
	}
	shard := shardmap.ShardID(op.Shard)
	t := p.byShard(shard)
	if t == nil {
		group, ok := s.opts.Shards.Group(shard)
		if !ok {
			return nil, s.elsewhere(shard, slot)
		}
		t = p.open(group)
	}
	// A caller with a later arc than ours knows more than this replica has
	// applied: then only the shard's leader can say whose the slot is.
	if !t.record.Arc.Contains(slot) && t.record.ArcEpoch >= op.ArcEpoch {
		return nil, wrongShard(shard, slot)
	}
	return t, nil
}

func (s *Server) routeBySlot(p *plan, slot shardmap.Slot) (*target, error) {
	for i := range p.targets {
		if p.targets[i].record.Arc.Contains(slot) {
			return &p.targets[i], nil
		}
	}
	if group, ok := s.opts.Shards.LocalFor(slot); ok {
		return p.open(group), nil
	}
	rec, ok := s.opts.Shards.Map().Lookup(slot)
	if !ok {
		return nil, kverr.New(kverr.Unavailable, "no shard is known for slot %d yet; the cluster is still forming", slot)
	}
	return nil, notHere(rec.Shard)
}

func (p *plan) byShard(shard shardmap.ShardID) *target {
	for i := range p.targets {
		if p.targets[i].shard == shard {
			return &p.targets[i]
		}
	}
	return nil
}

// elsewhere is the answer for a shard that has no replica here.
func (s *Server) elsewhere(shard shardmap.ShardID, slot shardmap.Slot) error {
	if rec, ok := s.opts.Shards.Map().Shard(shard); ok && rec.Arc.Contains(slot) {
		return notHere(shard)
	}
	return wrongShard(shard, slot)
}

func notHere(shard shardmap.ShardID) error {
	e := kverr.New(kverr.NotLeader, "shard %d has no replica on this node", shard)
	e.Shard = uint64(shard)
	return e
}

func wrongShard(shard shardmap.ShardID, slot shardmap.Slot) error {
	e := kverr.New(kverr.WrongShard, "slot %d is not in shard %d's arc", slot, shard)
	e.Shard = uint64(shard)
	return e
}

// redirect is an answer that will say where to go instead. The directions are
// looked up when the answer leaves, not where it is made: that may be a group's
// apply loop, which must not call back into the node (K3).
type redirect struct {
	answer *kvv1.Answer
	shard  shardmap.ShardID // asked; 0 when the caller named none
	slot   shardmap.Slot
}
