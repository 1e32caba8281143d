package logstore

import (
	"github.com/ringfort/ringfort/internal/kverr"
)

// Birth is where a new group's log begins: nothing below Index exists, and
// nobody has voted in a term above Term.
type Birth struct {
	Group, Index, Term uint64
}

// minBirthIndex: raft sends the entry at index 1 without comparing what comes
// before it, so a boundary there could be sent as an entry.
const minBirthIndex = 2

// Birth creates logs in one synced batch (L2), all or none. A group that was
// born with the same boundary is left as it is; a stored term or vote that is
// higher stays. Refused with kind Conflict: a group with another boundary, or
// one that was removed. When it returns, the high-water mark knows the groups.
func (d *DB) Birth(births []Birth) error {
	if len(births) == 0 {
		return nil
	}
	o := &birthOp{db: d}
	seen := make(map[uint64]bool, len(births))
	for _, b := range births {
		if b.Index < minBirthIndex || b.Term == 0 || seen[b.Group] {
			return kverr.New(kverr.Invalid, "logstore: group %d cannot be born at index %d, term %d (twice in one call: %t)",
				b.Group, b.Index, b.Term, seen[b.Group])
		}
		seen[b.Group] = true
		o.births = append(o.births, b)
		o.groups = append(o.groups, d.Group(b.Group))
	}
	err := d.submit(&request{op: o})
	if err == errUnanswered {
		return d.unanswered()
	}
	return err
}

type birthOp struct {
	db     *DB
	births []Birth
	groups []*Group
}

func (o *birthOp) stage(b *batch) error {
	for i, birth := range o.births {
		s := &o.groups[i].state
		switch {
		case s.removed:
			return refuse(kverr.Conflict, birth.Group, "it was removed for ever and cannot be born again")
		case s.boundary != 0 && (s.boundary != birth.Index || s.boundaryTerm != birth.Term):
			return refuse(kverr.Conflict, birth.Group, "its log begins after index %d of term %d and cannot be born at %d of term %d",
				s.boundary, s.boundaryTerm, birth.Index, birth.Term)
		}
	}
	for i, birth := range o.births {
		s := &o.groups[i].state
		if s.boundary == 0 {
			b.set(recordKey(birth.Group, kindBoundary), encodeBoundary(birth.Index, birth.Term))
		}
		if s.term < birth.Term {
			b.set(recordKey(birth.Group, kindTerm), encodeTerm(birth.Term))
		}
	}
	// A log that loses a birth looks like a crash before it, to be repaired by a
	// second birth, and the group would forget its votes. So the mark knows every
	// group before it runs.
	b.markNow = !b.empty()
	return nil
}

func (o *birthOp) publish() {
	for i, birth := range o.births {
		o.groups[i].change(func(s *groupState) {
			if s.boundary == 0 {
				s.boundary, s.boundaryTerm = birth.Index, birth.Term
				s.last, s.lastTerm = birth.Index, birth.Term
			}
			s.term = max(s.term, birth.Term)
		})
		o.db.marks.note(o.groups[i])
	}
}
