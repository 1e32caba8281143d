package client

import "context"

// The parts of a reset are bounded by number and, roughly, by bytes.
const (
	resetItems = 512
	resetBytes = 256 << 10
)

// resync shows what the tap's arc holds now, and moves the tap to where that was
// read. nil means that the next attempt may begin.
func (t *tap) resync() error {
	w := t.watch
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	report := new(ScanReport)
	s := &scan{client: w.client, verb: verbWatch, ctx: ctx, keys: w.keys}
	s.report, s.bySlot, s.keysOnly = report, true, w.keysOnly
	st := s.newStrand(t.arc)
	st.course.patience = watchPatience
	part := resetPart{tap: t, strand: st, first: true}
	for {
		ok, err := st.next(func([]*strand) {
			// The slots behind have a shard of their own, and nothing of them was shown:
			// the strand goes by slot. Another tap resets them.
			t.cede(st.arc.To)
		})
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if !part.add(st.take()) {
			return errStop
		}
	}
	t.version, t.shown = st.segments[0].version, st.segments
	if len(t.shown) == 1 {
		t.shown = nil
	}
	if !part.flush(true) {
		return errStop
	}
	t.course.progressed()
	return nil
}

// resetPart gathers items until there are enough for the loop.
type resetPart struct {
	tap    *tap
	strand *strand
	first  bool
	items  []Item
	bytes  int
}

// add returns false when the loop is gone.
func (p *resetPart) add(item Item) bool {
	p.items = append(p.items, item)
	p.bytes += len(item.Key) + len(item.Value)
	if len(p.items) < resetItems && p.bytes < resetBytes {
		return true
	}
	return p.flush(false)
}

func (p *resetPart) flush(last bool) bool {
	d := delivery{moves: last, changes: Changes{
		Kind: Reset, Version: p.strand.segments[0].version, Items: p.items, First: p.first, Last: last, arc: p.tap.arc,
	}}
	p.items, p.bytes, p.first = nil, 0, false
	return p.tap.watch.deliver(p.tap.watch.out, d)
}
