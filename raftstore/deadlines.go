package raftstore

import (
	"container/heap"
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// deadlines knows for each slot of a shard a time before which no key of the slot
// is due: never later than the first entry of the slot's index of deadlines, and
// at most one number per slot. The apply loop of every replica feeds it; a leader
// reads the index once, for what was there before, and asks it what to sweep.
type deadlines struct {
	mu     sync.Mutex
	read   bool // the index has been read since the state was loaded
	at     map[shardmap.Slot]uint64
	byTime slotHeap // an item is outdated unless at has the same
}

type slotDeadline struct {
	slot     shardmap.Slot
	deadline uint64
}

// note says that a key of the slot has this deadline.
func (d *deadlines) note(slot shardmap.Slot, deadline uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteLocked(slot, deadline)
}

func (d *deadlines) noteLocked(slot shardmap.Slot, deadline uint64) {
	if old, ok := d.at[slot]; ok && old <= deadline {
		return
	}
	if d.at == nil {
		d.at = make(map[shardmap.Slot]uint64)
	}
	d.at[slot] = deadline
	heap.Push(&d.byTime, slotDeadline{slot, deadline})
	d.trimLocked()
}

// trimLocked drops the outdated items when they are most of all.
func (d *deadlines) trimLocked() {
	if len(d.byTime) <= 2*len(d.at)+16 {
		return
	}
	d.byTime = d.byTime[:0]
	for s, at := range d.at {
		d.byTime = append(d.byTime, slotDeadline{s, at})
	}
	heap.Init(&d.byTime)
}

// forget drops everything: the state was replaced.
func (d *deadlines) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read, d.at, d.byTime = false, nil, nil
}

// take removes and returns up to limit slots that may have a key due at now, the
// most overdue first. Who takes a slot looks at its index and notes what is left.
func (d *deadlines) take(now uint64, limit int) (slots []slotDeadline) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.byTime) > 0 && len(slots) < limit {
		first := d.byTime[0]
		current := d.at[first.slot] == first.deadline
		if current && first.deadline > now {
			break
		}
		heap.Pop(&d.byTime)
		if current {
			delete(d.at, first.slot)
			slots = append(slots, first)
		}
	}
	d.trimLocked()
	return slots
}

// ready makes sure the index has been read, by means of read.
func (d *deadlines) ready(read func(note func(shardmap.Slot, uint64)) error) error {
	d.mu.Lock()
	done := d.read
	d.mu.Unlock()
	if done {
		return nil
	}
	// Not under the lock, for the apply loop waits for it. What is applied meanwhile
	// is noted besides.
	if err := read(d.note); err != nil {
		return err
	}
	d.mu.Lock()
	d.read = true
	d.mu.Unlock()
	return nil
}

type slotHeap []slotDeadline

func (h slotHeap) Len() int           { return len(h) }
func (h slotHeap) Less(i, j int) bool { return h[i].deadline < h[j].deadline }
func (h slotHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *slotHeap) Push(x any)        { *h = append(*h, x.(slotDeadline)) }
func (h *slotHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// noteDeadlines is the apply loop's part.
func (g *Group) noteDeadlines(changes []state.Change) {
	for i := range changes {
		if c := &changes[i]; c.Expires != 0 {
			g.deadlines.note(state.SlotFor(g.shard, c.Key), c.Expires)
		}
	}
}

// readDeadlines notes the first deadline of every slot of the arc. A slot without
// any is jumped over: the seek lands on the next key, whatever it is.
func (g *Group) readDeadlines(note func(shardmap.Slot, uint64)) (err error) {
	arc := g.Record().Arc
	from, to := state.Span(arc)
	it, err := g.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for slot := arc.From; slot < arc.To && !g.isClosing(); {
		first, _ := state.DeadlineSpan(slot)
		if !it.SeekGE(first) {
			break
		}
		found, deadline, _, ok := state.ParseDeadlineKey(it.Key())
		if ok {
			note(found, deadline)
			slot = found + 1
			continue
		}
		next, err := state.SlotOfKey(it.Key())
		if err != nil {
			return err
		}
		// A later kind of this slot, or an earlier one of another.
		slot = max(slot+1, next)
	}
	return it.Error()
}

// due reads up to limit entries of a slot's index that are due at now, and returns
// the deadline of the first that is left, 0 if there is none.
func (g *Group) due(slot shardmap.Slot, now uint64, limit int) (ops []state.Op, next uint64, err error) {
	from, to := state.DeadlineSpan(slot)
	it, err := g.store.state.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		_, deadline, key, sound := state.ParseDeadlineKey(it.Key())
		if !sound {
			return nil, 0, kverr.New(kverr.Internal, "shard %d: malformed key %x in the index of deadlines", g.shard, it.Key())
		}
		if deadline > now || len(ops) == limit {
			return ops, deadline, nil
		}
		ops = append(ops, state.Op{Kind: state.OpSweep, Key: append([]byte(nil), key...), Deadline: deadline})
	}
	return ops, 0, it.Error()
}
