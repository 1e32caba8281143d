package logstore

import (
	"math"

	"github.com/ringfort/ringfort/internal/kverr"
)

// Marker says that a snapshot up to an index is being ingested (L2).
type Marker struct {
	Index, Term uint64
}

// MarkIngest notes durably that a snapshot of the group's state up to an index
// is about to be ingested. Until FinishIngest or DropIngest the log's beginning
// is not truncated. Refused with kind Conflict: a group that is not born, an
// index that is not above the boundary, and another ingest under way.
func (d *DB) MarkIngest(group, index, term uint64) error {
	if index < minBirthIndex || index == math.MaxUint64 || term == 0 {
		return kverr.New(kverr.Invalid, "logstore: group %d: no snapshot has index %d and term %d", group, index, term)
	}
	g := d.Group(group)
	return d.order(&request{op: &markIngestOp{group: g, marker: Marker{index, term}}, group: g})
}

// FinishIngest ends an ingest whose state is durable, in one synced batch: all
// entries up to the marker's index go, the boundary is there, the marker is
// cleared. Entries above it stay: they may be what is left of an older leader's,
// and then go as any conflicting end does. Refused with kind Conflict when no
// ingest is marked.
func (d *DB) FinishIngest(group uint64) error {
	g := d.Group(group)
	return d.order(&request{op: &finishIngestOp{group: g}, group: g})
}

// DropIngest clears a marker durably, if there is one: the state was not
// ingested.
func (d *DB) DropIngest(group uint64) error {
	g := d.Group(group)
	return d.order(&request{op: &dropIngestOp{group: g}, group: g})
}

type markIngestOp struct {
	group  *Group
	marker Marker
}

func (o *markIngestOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	switch {
	case s.retired:
		return g.goneRefusal()
	case s.boundary == 0:
		return refuse(kverr.Conflict, g.id, "it is not born and cannot ingest a snapshot")
	case s.ingest == o.marker:
		return nil
	case s.ingest != Marker{}:
		return refuse(kverr.Conflict, g.id, "a snapshot up to %d of term %d is being ingested; finish or drop that first",
			s.ingest.Index, s.ingest.Term)
	case o.marker.Index <= s.boundary:
		return refuse(kverr.Conflict, g.id, "its log begins after %d, a snapshot up to %d would be a step back",
			s.boundary, o.marker.Index)
	}
	b.setRecord(recordKey(g.id, kindIngest), numbers(o.marker.Index, o.marker.Term))
	// A log that loses the marker looks like one that never had it, with entries
	// below the ingested state that nobody may send any more.
	b.markNow = true
	return nil
}

func (o *markIngestOp) publish() {
	o.group.change(func(s *groupState) { s.ingest = o.marker })
	o.group.db.marks.note(o.group)
}

type dropIngestOp struct{ group *Group }

func (o *dropIngestOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	switch {
	case s.retired:
		return g.goneRefusal()
	case s.ingest == Marker{}:
		return nil
	}
	// L3: before the batch, or a crash after it would look like a loss.
	if err := g.db.marks.lowerFloor(g, s.floor); err != nil {
		return err
	}
	b.sync = true
	b.must(b.Delete(recordKey(g.id, kindIngest), nil))
	return nil
}

func (o *dropIngestOp) publish() {
	o.group.change(func(s *groupState) { s.ingest = Marker{} })
	o.group.db.marks.note(o.group)
}

type finishIngestOp struct {
	group *Group
	at    Marker
}

// stage hides what is about to go, as truncations do; what comes is shown once
// it is durable.
func (o *finishIngestOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	switch {
	case s.retired:
		return g.goneRefusal()
	case s.ingest == Marker{}:
		return refuse(kverr.Conflict, g.id, "no ingest is marked that could be finished")
	}
	o.at = s.ingest
	b.must(b.DeleteRange(entryKey(g.id, s.boundary), entryKey(g.id, o.at.Index+1), nil))
	b.setRecord(recordKey(g.id, kindBoundary), numbers(o.at.Index, o.at.Term, s.replica))
	b.must(b.Delete(recordKey(g.id, kindIngest), nil))
	g.change(func(s *groupState) {
		if s.last <= o.at.Index {
			s.boundary, s.boundaryTerm = s.last, s.lastTerm
		} else {
			s.boundary, s.boundaryTerm = o.at.Index, o.at.Term
		}
		s.boundaryKept = false
		s.cuts++
		g.ledger.cutBeginning(s.boundary)
	})
	return nil
}

func (o *finishIngestOp) publish() {
	g := o.group
	g.change(func(s *groupState) {
		if s.last <= o.at.Index {
			s.boundary, s.boundaryTerm = o.at.Index, o.at.Term
			s.last, s.lastTerm = o.at.Index, o.at.Term
			g.ledger.reset(o.at.Index)
		}
		s.floor, s.ingest = o.at.Index, Marker{}
		g.dropPins(o.at.Index)
	})
	g.db.marks.note(g)
	g.db.truncated()
}
