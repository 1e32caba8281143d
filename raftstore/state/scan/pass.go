package scan

import (
	"bytes"

	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// pass walks slot after slot.
type pass struct {
	spec  *Spec
	probe *probe
	slot  shardmap.Slot // where it is
	in    span          // what of that slot
	open  bool          // in is that of slot, and the cursor is inside or behind it
	at    bool          // the cursor is at a key
	moved bool          // the cursor is at the key to look at next
	over  bool
	value state.Value
	last  []byte // aliases the cursor's key
}

func newPass(spec *Spec, p *probe) *pass {
	w := &pass{spec: spec, probe: p, slot: spec.Slots.From}
	if spec.Reverse {
		w.slot = spec.Slots.To - 1
	}
	return w
}

func (w *pass) done() bool  { return w.over }
func (w *pass) key() []byte { return w.last }
func (w *pass) held() int   { return 0 }

func (w *pass) item(i *Item, withValue bool) error {
	i.Version, i.Expires = w.value.Version, w.value.Expires
	if withValue {
		i.Value = w.value.Data
	}
	return nil
}

// step looks at one key, or moves on to another slot.
func (w *pass) step() (found bool, err error) {
	w.last = nil
	if !w.open {
		return false, w.enter()
	}
	if !w.moved {
		if w.at, err = w.probe.move(w.spec.Reverse); err != nil {
			return false, err
		}
	}
	w.moved = false
	if !w.at {
		w.over = true
		return false, nil
	}
	slot, err := w.probe.slot()
	if err != nil {
		return false, err
	}
	if slot != w.slot {
		return false, w.come(slot)
	}
	_, key, isData := state.ParseDataKey(w.probe.at.Key())
	if !isData || w.outside(key) {
		w.leave()
		return false, nil
	}
	if w.value, err = w.probe.value(); err != nil {
		return false, err
	}
	w.last = key
	return !w.value.Due(w.probe.now), nil
}

// outside reports whether a key is beyond the end of the span that the pass goes
// to. The cursor came from the other end, so it cannot be beyond that.
func (w *pass) outside(key []byte) bool {
	if w.spec.Reverse {
		return bytes.Compare(key, w.in.from) < 0
	}
	return len(w.in.to) > 0 && bytes.Compare(key, w.in.to) >= 0
}

// enter goes to the beginning of the slot's span.
func (w *pass) enter() (err error) {
	in, some := w.spec.spanOf(w.slot)
	if !some {
		w.leave()
		return nil
	}
	w.in, w.open, w.moved = in, true, true
	if w.spec.Reverse && len(in.to) == 0 {
		w.at, err = w.probe.seekEnd(w.slot)
	} else if w.spec.Reverse {
		w.at, err = w.probe.seek(w.slot, in.to, true)
	} else {
		w.at, err = w.probe.seek(w.slot, in.from, false)
	}
	return err
}

// leave goes on with the next slot.
func (w *pass) leave() {
	w.open, w.moved = false, false
	if w.spec.Reverse {
		if w.slot == w.spec.Slots.From {
			w.over = true
			return
		}
		w.slot--
	} else if w.slot++; w.slot >= w.spec.Slots.To {
		w.over = true
	}
}

// come goes on with the slot that the cursor has come to; those between are empty.
// Where the span begins at the slot's end that the cursor came in by, and it stands
// at data, there is nothing to seek.
func (w *pass) come(slot shardmap.Slot) error {
	if slot < w.spec.Slots.From || slot >= w.spec.Slots.To {
		w.over = true
		return nil
	}
	w.slot, w.open = slot, false
	in, some := w.spec.spanOf(slot)
	if !some {
		w.leave()
		return nil
	}
	_, _, isData := state.ParseDataKey(w.probe.at.Key())
	if isData && (w.spec.Reverse && len(in.to) == 0 || !w.spec.Reverse && len(in.from) == 0) {
		w.in, w.open, w.moved = in, true, true
	}
	return nil
}
