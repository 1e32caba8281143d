package logstore

import (
	"github.com/ringfort/ringfort/internal/kverr"
)

// Birth is where a new replica's log begins: nothing below Index exists, and
// nobody has voted in a term above Term.
type Birth struct {
	Group, Replica, Index, Term uint64
}

// minBirthIndex: raft sends the entry at index 1 without comparing what comes
// before it, so a boundary there could be sent as an entry.
const minBirthIndex = 2

// Birth creates logs in one synced batch (L2), all or none. A replica that was
// born with the same boundary is left as it is; a stored term or vote that is
// higher stays. Refused with kind Conflict: another boundary than the one that
// is stored, a group that holds another replica's log, and a replica that was
// retired or is in quarantine. When it returns, the high-water mark knows the
// groups.
func (d *DB) Birth(births []Birth) error {
	if len(births) == 0 {
		return nil
	}
	o := &birthOp{db: d}
	seen := make(map[uint64]bool, len(births))
	for _, b := range births {
		if b.Index < minBirthIndex || b.Term == 0 || b.Replica == 0 || seen[b.Group] {
			return kverr.New(kverr.Invalid, "logstore: replica %d of group %d cannot be born at index %d, term %d (twice in one call: %t)",
				b.Replica, b.Group, b.Index, b.Term, seen[b.Group])
		}
		seen[b.Group] = true
		o.births = append(o.births, b)
	}
	return d.order(&request{op: o})
}

type birthOp struct {
	db     *DB
	births []Birth
	groups []*Group
}

func (o *birthOp) stage(b *batch) error {
	for i, birth := range o.births {
		o.groups = append(o.groups, o.db.Group(birth.Group)) // not sooner: a retirement may come before
		s := &o.groups[i].state
		member := Member{birth.Group, birth.Replica}
		reason, quarantined := o.db.members.quarantine(member)
		switch {
		case o.db.members.isRetired(member):
			return refuse(kverr.Conflict, birth.Group, "replica %d was retired for ever and cannot be born again", birth.Replica)
		case quarantined:
			return refuse(kverr.Conflict, birth.Group, "replica %d is in quarantine and cannot be born again: %s", birth.Replica, reason)
		case s.boundary != 0 && s.replica != birth.Replica:
			return refuse(kverr.Conflict, birth.Group, "the log of replica %d is here; retire it before replica %d is born", s.replica, birth.Replica)
		case s.boundary != 0 && (s.boundary != birth.Index || s.boundaryTerm != birth.Term):
			return refuse(kverr.Conflict, birth.Group, "its log begins after index %d of term %d and cannot be born at %d of term %d",
				s.boundary, s.boundaryTerm, birth.Index, birth.Term)
		}
	}
	for i, birth := range o.births {
		s := &o.groups[i].state
		if s.boundary == 0 {
			b.setRecord(recordKey(birth.Group, kindBoundary), numbers(birth.Index, birth.Term, birth.Replica))
		}
		if s.term < birth.Term {
			b.setRecord(recordKey(birth.Group, kindTerm), numbers(birth.Term))
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
				s.replica, s.floor = birth.Replica, birth.Index
				s.boundary, s.boundaryTerm = birth.Index, birth.Term
				s.last, s.lastTerm = birth.Index, birth.Term
				o.groups[i].ledger.reset(birth.Index)
			}
			s.term = max(s.term, birth.Term)
		})
		o.db.marks.note(o.groups[i])
	}
}
