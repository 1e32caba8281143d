package logstore

import (
	"slices"
)

// Bytes is how many bytes of log the group has after its boundary, as they were
// given to Pebble; after a restart an estimate for what was found.
func (g *Group) Bytes() int64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.ledger.bytes()
}

// CutPoint is the highest index such that at least keep bytes of log lie after
// it, to within about 1/256 of the log: where to truncate to and retain that
// much. It is the boundary when the log is shorter, 0 before birth.
func (g *Group) CutPoint(keep int64) uint64 {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.ledger.cutPoint(keep)
}

// Truncate moves the boundary up to an index at most: not past the log's end,
// not past what is pinned, not while an ingest is marked, and never back. It is
// not synced: the older boundary is as true, and the next synced batch of any
// group makes it durable.
func (g *Group) Truncate(upTo uint64) error {
	return g.db.order(&request{op: &cutOp{group: g, upTo: upTo}, group: g})
}

// pin keeps the entries from an index on.
type pin struct {
	index uint64
}

// Pin keeps the entries from index on that are still there, until release is
// called (once more is harmless) or until they take more than
// Options.MaxPinnedBytes. What counts is the answer: an index that is already
// below FirstIndex after Pin has returned was truncated before.
func (g *Group) Pin(index uint64) (release func()) {
	p := &pin{index: index}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pins = append(g.pins, p)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pins = slices.DeleteFunc(g.pins, func(q *pin) bool { return q == p })
	}
}

// dropPins forgets pins of entries that are gone. Called with mu held.
func (g *Group) dropPins(boundary uint64) {
	g.pins = slices.DeleteFunc(g.pins, func(p *pin) bool { return p.index <= boundary })
}

// allowed is how far the log's beginning may be cut when it should be up to an
// index. Pins that keep too much are forgotten and counted. Called with mu held.
func (g *Group) allowed(upTo uint64) uint64 {
	s := &g.state
	if s.boundary == 0 || s.ingest != (Marker{}) {
		return 0
	}
	upTo = min(upTo, s.last)
	g.pins = slices.DeleteFunc(g.pins, func(p *pin) bool {
		if p.index > upTo {
			return false
		}
		if g.ledger.after(max(p.index, 1)-1) > g.db.opts.MaxPinnedBytes {
			g.db.pinsBroken.Add(1)
			return true
		}
		return false
	})
	for _, p := range g.pins {
		upTo = min(upTo, max(p.index, 1)-1)
	}
	return upTo
}

// cutOp is a truncation of the beginning that the node asked for.
type cutOp struct {
	group *Group
	upTo  uint64
}

func (o *cutOp) stage(b *batch) error {
	if o.group.state.retired {
		return o.group.goneRefusal()
	}
	return o.group.cutBeginning(b, o.upTo)
}

func (o *cutOp) publish() {}

// cutBeginning moves the boundary up to an index, as far as that is allowed, and
// keeps that entry (see the package comment). It need not be durable: the older
// boundary is as true.
func (g *Group) cutBeginning(b *batch, upTo uint64) error {
	s := &g.state
	from := s.boundary
	for {
		g.mu.Lock()
		to := g.allowed(upTo)
		g.mu.Unlock()
		if to <= from {
			return nil
		}
		term, err := g.termAt(to)
		if err != nil {
			return err
		}
		g.mu.Lock()
		if g.allowed(upTo) < to { // pinned meanwhile
			g.mu.Unlock()
			continue
		}
		s.boundary, s.boundaryTerm, s.boundaryKept = to, term, true
		s.cuts++
		g.ledger.cutBeginning(to)
		g.mu.Unlock()
		b.must(b.DeleteRange(entryKey(g.id, from), entryKey(g.id, to), nil))
		b.setRecordLazily(recordKey(g.id, kindBoundary), numbers(to, term, s.replica))
		b.cut = true
		g.db.truncated()
		return nil
	}
}
