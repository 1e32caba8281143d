package scan

import (
	"bytes"
	"container/heap"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

const (
	// HeadBytes bounds what a merge keeps of the next keys of all slots together,
	// beside one key for each.
	HeadBytes = 8 << 20
	// slotBytes bounds what it keeps of one slot.
	slotBytes = 64 << 10
	// entryOverhead is what a key costs in a head beside its bytes.
	entryOverhead = 32
	headOverhead  = 128
)

// merge walks the keys of many slots in the order of the keys.
type merge struct {
	spec  *Spec
	probe *probe
	pass  *pass // finds the slots that hold keys, as long as heads are missing
	heads heads
	bytes int // of all heads
	bound int // of all heads together; a field for tests
	found entry
	slot  shardmap.Slot
	last  []byte
}

// head is the next keys of one slot, first to come first.
type head struct {
	slot    shardmap.Slot
	entries []entry
	buf     []byte // the keys
	next    int    // of entries
	more    bool   // the slot may hold more
	bytes   int    // what it is charged with
}

type entry struct {
	from, to         int // in buf
	version, expires uint64
	key              []byte // set when it is given out
}

func newMerge(spec *Spec, p *probe) *merge {
	m := &merge{spec: spec, probe: p, bound: HeadBytes}
	m.heads.reverse = spec.Reverse
	bySlot := *spec // the same keys; only the order in which slots are looked at differs
	m.pass = newPass(&bySlot, p)
	return m
}

func (m *merge) done() bool  { return m.pass == nil && len(m.heads.all) == 0 }
func (m *merge) key() []byte { return m.last }
func (m *merge) held() int   { return m.bytes }

func (m *merge) item(i *Item, withValue bool) error {
	i.Version, i.Expires = m.found.version, m.found.expires
	if !withValue {
		return nil
	}
	at, err := m.probe.seek(m.slot, m.found.key, false)
	if err != nil {
		return err
	}
	if slot, key, isData := state.ParseDataKey(m.probe.at.Key()); !at || !isData || slot != m.slot || !bytes.Equal(key, m.found.key) {
		return kverr.New(kverr.Internal, "a key of the view is not found in it again")
	}
	raw, err := m.probe.at.ValueAndErr()
	if err != nil {
		return err
	}
	v, err := state.DecodeValue(raw)
	i.Value = v.Data
	return err
}

// step gives out the next key, or makes one step towards having all heads.
func (m *merge) step() (bool, error) {
	m.last = nil
	if m.pass != nil {
		return false, m.gather()
	}
	if len(m.heads.all) == 0 {
		return false, nil
	}
	h := m.heads.all[0]
	if h.next == len(h.entries) {
		return false, m.refill(h)
	}
	m.found, m.slot = h.entries[h.next], h.slot
	m.found.key = h.buf[m.found.from:m.found.to]
	m.last = m.found.key
	h.next++
	switch {
	case h.next < len(h.entries):
		heap.Fix(&m.heads, 0)
	case !h.more:
		m.drop(h)
	}
	// With nothing left of it and more to come it stays first, and is refilled in the
	// next step: until then the key given out must stay where it is.
	return true, nil
}

// gather looks for the next slot with keys and makes its head.
func (m *merge) gather() error {
	found, err := m.pass.step()
	if err != nil {
		return err
	}
	if found {
		h := &head{slot: m.pass.slot}
		if err := m.fill(h, m.pass.in, m.pass.last, m.pass.value); err != nil {
			return err
		}
		m.heads.all = append(m.heads.all, h)
		m.pass.leave()
	}
	if m.pass.done() {
		m.pass = nil
		heap.Init(&m.heads)
	}
	return nil
}

// refill reads on in a slot whose keys are used up.
func (m *merge) refill(h *head) (err error) {
	in, _ := m.spec.spanOf(h.slot)
	last := h.entries[len(h.entries)-1]
	key := bytes.Clone(h.buf[last.from:last.to])
	var at bool
	if m.spec.Reverse {
		at, err = m.probe.seek(h.slot, key, true)
	} else {
		at, err = m.probe.seek(h.slot, append(key, 0), false)
	}
	if err != nil {
		return err
	}
	for at {
		var value state.Value
		k, inside, err := m.look(h.slot, in)
		if err != nil {
			return err
		}
		if !inside {
			break
		}
		if value, err = m.probe.value(); err != nil {
			return err
		}
		if !value.Due(m.probe.now) {
			if err := m.fill(h, in, k, value); err != nil {
				return err
			}
			heap.Fix(&m.heads, 0)
			return nil
		}
		if at, err = m.probe.move(m.spec.Reverse); err != nil {
			return err
		}
	}
	m.drop(h)
	return nil
}

// look is the user's key at the cursor, if it is one of the span.
func (m *merge) look(slot shardmap.Slot, in span) (key []byte, inside bool, err error) {
	of, key, isData := state.ParseDataKey(m.probe.at.Key())
	if !isData || of != slot || bytes.Compare(key, in.from) < 0 || len(in.to) > 0 && bytes.Compare(key, in.to) >= 0 {
		return nil, false, nil
	}
	return key, true, nil
}

// fill puts the key at the cursor, which is not due, and those that follow it into
// the head, up to its share.
func (m *merge) fill(h *head, in span, key []byte, value state.Value) error {
	m.bytes -= h.bytes
	h.entries, h.buf, h.next, h.more = h.entries[:0], h.buf[:0], 0, true
	share := min(slotBytes, m.bound/m.slots())
	for {
		n := len(h.buf)
		h.buf = append(h.buf, key...)
		h.entries = append(h.entries, entry{from: n, to: len(h.buf), version: value.Version, expires: value.Expires})
		if len(h.buf)+len(h.entries)*entryOverhead >= share {
			break
		}
		inside, err := m.onward(h, in, &key, &value)
		if err != nil {
			return err
		}
		if !inside {
			h.more = false
			break
		}
	}
	h.bytes = headOverhead + len(h.buf) + len(h.entries)*entryOverhead
	m.bytes += h.bytes
	return nil
}

// onward goes to the next key of the span that is not due.
func (m *merge) onward(h *head, in span, key *[]byte, value *state.Value) (inside bool, err error) {
	for {
		at, err := m.probe.move(m.spec.Reverse)
		if err != nil || !at {
			return false, err
		}
		if *key, inside, err = m.look(h.slot, in); err != nil || !inside {
			return false, err
		}
		if *value, err = m.probe.value(); err != nil {
			return false, err
		}
		if !value.Due(m.probe.now) {
			return true, nil
		}
	}
}

// slots is over how many slots the room for heads is shared: those that have one,
// or, while that is not known, all. It only falls, so no head has more than a
// share of what is shared now.
func (m *merge) slots() int {
	if m.pass != nil {
		return int(m.spec.Slots.To - m.spec.Slots.From)
	}
	return max(1, len(m.heads.all))
}

// drop takes the first head out: its slot has no more.
func (m *merge) drop(h *head) {
	heap.Pop(&m.heads)
	m.bytes -= h.bytes
}

// heads is a heap by the next key.
type heads struct {
	all     []*head
	reverse bool
}

func (hs *heads) Len() int { return len(hs.all) }

func (hs *heads) Less(i, j int) bool {
	c := bytes.Compare(hs.all[i].first(), hs.all[j].first())
	if hs.reverse {
		return c > 0
	}
	return c < 0
}

func (hs *heads) Swap(i, j int) { hs.all[i], hs.all[j] = hs.all[j], hs.all[i] }

func (hs *heads) Push(x any) { hs.all = append(hs.all, x.(*head)) }

func (hs *heads) Pop() any {
	n := len(hs.all) - 1
	h := hs.all[n]
	hs.all[n] = nil
	hs.all = hs.all[:n]
	return h
}

// first is the next key, or, when they are used up, the one before: what follows
// it in its slot is not known yet.
func (h *head) first() []byte {
	e := h.entries[min(h.next, len(h.entries)-1)]
	return h.buf[e.from:e.to]
}
