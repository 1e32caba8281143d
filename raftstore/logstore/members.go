package logstore

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
)

// Member is one replica of a group. Ids of replicas are never used twice.
type Member struct {
	Group, Replica uint64
}

// QuarantinedMember is a replica whose data was found corrupt.
type QuarantinedMember struct {
	Member
	Reason string
}

func (m Member) compare(o Member) int {
	return cmp.Or(cmp.Compare(m.Group, o.Group), cmp.Compare(m.Replica, o.Replica))
}

// maxReason bounds the reason kept with a quarantine, in bytes.
const maxReason = 1024

// members is what is known of replicas for ever, whether they were here or not.
// The writer is the only one to change it.
type members struct {
	mu          sync.Mutex
	retired     map[Member]bool
	quarantined map[Member]string
}

func newMembers() *members {
	return &members{retired: make(map[Member]bool), quarantined: make(map[Member]string)}
}

func (ms *members) isRetired(m Member) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return ms.retired[m]
}

func (ms *members) quarantine(m Member) (reason string, ok bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	reason, ok = ms.quarantined[m]
	return reason, ok
}

// weight grows with each retirement and each quarantine, also where one turns
// into the other, so a database that lost any of them has a smaller one (L3).
func (ms *members) weight() uint64 {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return 2*uint64(len(ms.retired)) + uint64(len(ms.quarantined))
}

// Retired lists all replicas that were retired here, in order.
func (d *DB) Retired() []Member {
	d.members.mu.Lock()
	defer d.members.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.members.retired), Member.compare)
}

// Quarantined lists the replicas in quarantine, in order.
func (d *DB) Quarantined() []QuarantinedMember {
	d.members.mu.Lock()
	defer d.members.mu.Unlock()
	var list []QuarantinedMember
	for _, m := range slices.SortedFunc(maps.Keys(d.members.quarantined), Member.compare) {
		list = append(list, QuarantinedMember{m, d.members.quarantined[m]})
	}
	return list
}

// Retire remembers for ever, durably, that a replica was removed, whether it was
// ever here or not (F3). When the group's log is this replica's, its entries,
// term, vote, boundary, ingest marker and quarantine go in the same batch, and
// raft must have been shut down: from here on every call on its Group is
// refused, and DB.Group answers another one, for another replica. Repeating it
// is harmless.
func (d *DB) Retire(group, replica uint64) error {
	if replica == 0 {
		return kverr.New(kverr.Invalid, "logstore: group %d: no replica has the id 0", group)
	}
	return d.order(&request{op: &retireOp{db: d, member: Member{group, replica}}})
}

// Quarantine notes durably that a replica's data is corrupt, until it is
// retired: it cannot be born and does not vote any more. The first reason stays.
// A retired replica is left as it is.
func (d *DB) Quarantine(group, replica uint64, reason string) error {
	if replica == 0 {
		return kverr.New(kverr.Invalid, "logstore: group %d: no replica has the id 0", group)
	}
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	return d.order(&request{op: &quarantineOp{db: d, member: Member{group, replica}, reason: reason}})
}

// order is submit for callers that are not raft.
func (d *DB) order(r *request) error {
	err := d.submit(r)
	if err == errUnanswered {
		return d.unanswered()
	}
	return err
}

// retireOp runs in a batch of its own.
type retireOp struct {
	db     *DB
	member Member
	log    *Group // the replica's log, nil when it is not here
	done   bool   // there was nothing to do
}

func (o *retireOp) stage(b *batch) error {
	if o.done = o.db.members.isRetired(o.member); o.done {
		return nil
	}
	if g := o.db.find(o.member.Group); g != nil && g.state.replica == o.member.Replica {
		o.log = g
		// L3: before the batch, or a crash after it would look like a loss.
		if err := o.db.marks.forget(g.id); err != nil {
			return err
		}
		b.must(b.DeleteRange(recordKey(g.id, 0), groupEnd(g.id), nil))
		g.change(func(s *groupState) {
			*s = groupState{retired: true, replica: s.replica, cuts: s.cuts + 1}
			g.ledger.reset(0)
		})
	}
	b.setRecord(memberKey(kindRetired, o.member), nil)
	b.must(b.Delete(memberKey(kindQuarantined, o.member), nil))
	b.markNow = true
	return nil
}

func (o *retireOp) publish() {
	if o.done {
		return
	}
	d := o.db
	d.members.mu.Lock()
	d.members.retired[o.member] = true
	delete(d.members.quarantined, o.member)
	d.members.mu.Unlock()
	d.marks.noteMembers(d.members)
	if o.log != nil {
		d.mu.Lock()
		delete(d.mu.groups, o.log.id)
		d.mu.Unlock()
		d.retiredLogs[o.log.id] = true
		d.truncated()
	}
}

// quarantineOp runs in a batch of its own.
type quarantineOp struct {
	db     *DB
	member Member
	reason string
	done   bool
}

func (o *quarantineOp) stage(b *batch) error {
	_, already := o.db.members.quarantine(o.member)
	if o.done = already || o.db.members.isRetired(o.member); o.done {
		return nil
	}
	b.setRecord(memberKey(kindQuarantined, o.member), []byte(o.reason))
	b.markNow = true
	return nil
}

func (o *quarantineOp) publish() {
	if o.done {
		return
	}
	o.db.members.mu.Lock()
	o.db.members.quarantined[o.member] = o.reason
	o.db.members.mu.Unlock()
	o.db.marks.noteMembers(o.db.members)
}

// loadMembers reads what is known of replicas.
func (d *DB) loadMembers(it *pebble.Iterator) error {
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()
		k, m, known := parseMemberKey(key)
		if !known || k != kindRetired && k != kindQuarantined {
			return d.unknownKey(key)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("logstore: group %d: read record: %w", m.Group, err)
		}
		body, err := unseal(key, v)
		if err == nil && k == kindRetired {
			err = readNumbers(body)
		}
		if err != nil {
			return d.damaged(m.Group, key, err)
		}
		if k == kindRetired {
			d.members.retired[m] = true
		} else {
			d.members.quarantined[m] = string(body)
		}
	}
	return nil
}
