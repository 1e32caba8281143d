package logstore

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// op is one change, run by the writer. stage checks it against the committed
// state and adds it to the batch; it adds nothing when it returns a refusal, and
// any other error is the end of the database. publish shows the change to
// readers once the batch is committed.
type op interface {
	stage(b *batch) error
	publish()
}

// batch is what the writer commits at once.
type batch struct {
	*pebble.Batch
	sync    bool // something in it is promised to be durable
	markNow bool // the high-water mark is written before anyone is answered
	votes   bool // a vote is in it
	cut     bool // a log's beginning is truncated
	entries int
}

// setRecord adds a record that must be durable before its caller is answered.
func (b *batch) setRecord(key, body []byte) {
	b.sync = true
	b.setRecordLazily(key, body)
}

// setRecordLazily adds one that may be lost with all that follows it.
func (b *batch) setRecordLazily(key, body []byte) {
	b.must(b.Set(key, seal(key, body), nil))
}

func (b *batch) empty() bool { return b.Batch.Empty() }

// must: changes to a batch in memory fail only when it was committed already.
func (b *batch) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("logstore: batch: %v", err))
	}
}

// appendOp stores entries.
type appendOp struct {
	group *Group
	logs  []*raft.Log
}

func (o *appendOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	first := o.logs[0].Index
	if s.retired {
		return g.goneRefusal()
	}
	if s.boundary == 0 || first <= s.boundary || first > s.last+1 {
		return fmt.Errorf("logstore: group %d: L1: entry %d does not continue the log %d..%d",
			g.id, first, s.boundary, s.last)
	}
	for i, l := range o.logs {
		if l.Index != first+uint64(i) {
			return fmt.Errorf("logstore: group %d: L1: entry %d is followed by %d", g.id, first+uint64(i)-1, l.Index)
		}
	}
	if first <= s.last {
		// Raft has forgotten this end of the log; left behind, it would be the
		// log's end again after a restart.
		if err := g.cutEnd(b, first); err != nil {
			return err
		}
	}
	for _, l := range o.logs {
		d := b.SetDeferred(entryKeyLen, entrySize(l))
		putEntryKey(d.Key, g.id, l.Index)
		appendEntry(d.Value[:0], l)
		b.must(d.Finish())
	}
	b.entries += len(o.logs)
	b.sync = true
	return nil
}

func (o *appendOp) publish() {
	// The cache first: it may hold other entries of a log that was cut.
	for _, l := range o.logs {
		o.group.db.cache.put(o.group.id, l)
	}
	l := o.logs[len(o.logs)-1]
	o.group.change(func(s *groupState) {
		s.last, s.lastTerm = l.Index, l.Term
		for _, l := range o.logs {
			o.group.ledger.add(l.Index, entryKeyLen+entrySize(l))
		}
	})
	o.group.db.marks.note(o.group)
}

// truncateOp removes the log's beginning or its end. Both are published while
// they are staged: readers must not look for what is about to go.
type truncateOp struct {
	group    *Group
	min, max uint64
}

func (o *truncateOp) publish() {}

func (o *truncateOp) stage(b *batch) error {
	g, s := o.group, &o.group.state
	switch {
	case s.retired:
		return g.goneRefusal()
	case o.min > o.max || o.min > s.last || s.boundary == 0:
		return nil
	case o.min <= s.boundary:
		return g.cutBeginning(b, o.max)
	case o.max >= s.last:
		return g.cutEnd(b, o.min)
	}
	return fmt.Errorf("logstore: group %d: L1: deleting %d..%d would leave a hole in %d..%d",
		g.id, o.min, o.max, s.boundary, s.last)
}

// cutEnd removes the entries from index from on; from is above the boundary.
func (g *Group) cutEnd(b *batch, from uint64) error {
	s := &g.state
	term, err := g.termAt(from - 1)
	if err != nil {
		return err
	}
	// L3: before the batch, or a crash between the two would look like a loss.
	if err := g.db.marks.lowerLast(g, from-1, term); err != nil {
		return err
	}
	b.must(b.DeleteRange(entryKey(g.id, from), entryKey(g.id, s.last+1), nil))
	g.change(func(s *groupState) {
		s.last, s.lastTerm = from-1, term
		s.cuts++
		g.ledger.cutEnd(from - 1)
	})
	return nil
}
