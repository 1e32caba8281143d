package scan

import (
	"bytes"
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// Cursor is a position among the keys of a view of the store. A new one is at no
// key. Key and value are valid until it moves.
type Cursor interface {
	// SeekGE goes to the first key at or behind the given one, SeekLT to the last
	// before it; Next and Prev go on from a key. They report whether there is one.
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Key() []byte
	ValueAndErr() ([]byte, error)
	// Error is why a move found no key, nil when there is none.
	Error() error
}

// Order is that of a scan.
type Order uint8

// The orders.
const (
	BySlot Order = iota
	ByKey
)

// Spec says what to scan.
type Spec struct {
	Shard shardmap.ShardID
	Slots shardmap.Arc // not empty
	// Keys in [From, To); an empty To has no bound.
	From, To []byte
	Reverse  bool
	Order    Order
	// Only keys behind this one in the order of the scan; empty for all.
	After []byte
	// How many keys at most; 0 for all.
	Limit uint64
	// KeysOnly leaves values out, CountOnly the items.
	KeysOnly, CountOnly bool
	// Now is the shard time by which keys are due and passed over.
	Now uint64
}

// Validate says why there can be no such scan (kverr.Invalid).
func (s *Spec) Validate() error {
	switch {
	case s.Slots.From >= s.Slots.To || s.Slots.To > shardmap.SlotEnd:
		return kverr.New(kverr.Invalid, "slots [%d,%d) are none", s.Slots.From, s.Slots.To)
	case s.Order > ByKey:
		return kverr.New(kverr.Invalid, "order %d of a scan is not known to this node", s.Order)
	case len(s.To) > 0 && bytes.Compare(s.From, s.To) > 0:
		return kverr.New(kverr.Invalid, "the range begins behind its end")
	}
	for _, key := range [][]byte{s.From, s.To, s.After} {
		if len(key) > state.MaxKeyBytes+1 { // the successor of the longest key is a good bound
			return kverr.New(kverr.Invalid, "a bound of the range has %d bytes; keys have at most %d", len(key), state.MaxKeyBytes)
		}
	}
	return nil
}

// Item is one key. Its slices are the receiver's to keep.
type Item struct {
	Key, Value       []byte
	Version, Expires uint64
}

// bytes is about what an item takes, in memory and on the wire.
func (i *Item) bytes() int { return itemOverhead + len(i.Key) + len(i.Value) }

const itemOverhead = 64

// Page is the next part of a scan.
type Page struct {
	Items []Item // none with CountOnly
	Count uint64 // keys that the page covers and that are not due
	Bytes int    // about what the items take
	// Last is the last key that this and all earlier pages cover; Spec.After while
	// there is none.
	Last []byte
	// Done: nothing more will come.
	Done bool
}

// Bounds are what a page may hold and how much may be done for it. At least one
// step is made.
type Bounds struct {
	Items, Bytes int
	// Steps are seeks and keys looked at. A page may end for them with nothing in it.
	Steps int
}

// Cost is what a scan has done.
type Cost struct {
	Seeks    uint64
	Examined uint64 // keys looked at, due ones included
}

// Scan is a scan under way.
type Scan struct {
	spec Spec
	walk walker
	cost Cost
	left uint64 // of the limit
	last []byte // the last key covered; of its own memory once there is one
	done bool
	room []byte // for keys and values of items
}

// walker finds one key after the other.
type walker interface {
	// step makes one step. With found it is at a key: within the range and not due.
	step() (found bool, err error)
	// done reports that there is nothing more.
	done() bool
	// key is the one found, or the last one passed over; valid until the next step.
	key() []byte
	// item fills in the rest of what was found.
	item(i *Item, withValue bool) error
	// held is about how many bytes of memory it holds.
	held() int
}

// New begins a scan that passed Validate.
func New(spec Spec, at Cursor) *Scan {
	s := &Scan{spec: spec, left: spec.Limit, last: bytes.Clone(spec.After)}
	p := &probe{at: at, cost: &s.cost, now: spec.Now}
	if spec.Order == ByKey && spec.Slots.To-spec.Slots.From > 1 {
		s.walk = newMerge(&s.spec, p)
	} else {
		s.walk = newPass(&s.spec, p)
	}
	return s
}

// Cost is what was done so far.
func (s *Scan) Cost() Cost { return s.cost }

// Held is about how many bytes the scan holds beside its pages.
func (s *Scan) Held() int { return s.walk.held() }

// Page returns the next part. After an error the scan is of no use any more.
func (s *Scan) Page(b Bounds) (Page, error) {
	var p Page
	end := s.cost.Seeks + s.cost.Examined + uint64(max(b.Steps, 1))
	for !s.done {
		found, err := s.walk.step()
		if err != nil {
			return Page{}, err
		}
		if found {
			p.Count++
			if !s.spec.CountOnly {
				if err := s.take(&p); err != nil {
					return Page{}, err
				}
			}
			if s.left--; s.left == 0 { // without a limit it never comes to 0
				s.done = true
			}
		}
		s.done = s.done || s.walk.done()
		if key := s.walk.key(); key != nil {
			s.last = append(s.last[:0], key...)
		}
		if len(p.Items) >= max(b.Items, 1) || p.Bytes >= b.Bytes && len(p.Items) > 0 || s.cost.Seeks+s.cost.Examined >= end {
			break
		}
	}
	p.Last, p.Done = bytes.Clone(s.last), s.done
	return p, nil
}

// take adds what was found to the page.
func (s *Scan) take(p *Page) error {
	var i Item
	if err := s.walk.item(&i, !s.spec.KeysOnly); err != nil {
		return err
	}
	i.Key, i.Value = s.keep(s.walk.key()), s.keep(i.Value)
	p.Items = append(p.Items, i)
	p.Bytes += i.bytes()
	return nil
}

// roomBytes is how much room for items is made at a time.
const roomBytes = 32 << 10

// keep copies b to where it can stay. Items share allocations, so one that is kept
// for long keeps its neighbours.
func (s *Scan) keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if len(b) > roomBytes/4 {
		return bytes.Clone(b)
	}
	if cap(s.room)-len(s.room) < len(b) {
		s.room = make([]byte, 0, roomBytes)
	}
	n := len(s.room)
	s.room = append(s.room, b...)
	return s.room[n:len(s.room):len(s.room)]
}

// probe moves a cursor and counts.
type probe struct {
	at   Cursor
	cost *Cost
	now  uint64
	buf  []byte
}

// seek goes to the first data key of a slot at or behind a user's key, or to the
// last one before it.
func (p *probe) seek(slot shardmap.Slot, key []byte, reverse bool) (bool, error) {
	p.cost.Seeks++
	p.buf = state.DataKey(p.buf[:0], slot, key)
	if reverse {
		return p.moved(p.at.SeekLT(p.buf))
	}
	return p.moved(p.at.SeekGE(p.buf))
}

// seekEnd goes to the last data key of a slot, or to one before all of them.
func (p *probe) seekEnd(slot shardmap.Slot) (bool, error) {
	p.cost.Seeks++
	_, end := state.SlotDataSpan(slot)
	return p.moved(p.at.SeekLT(end))
}

func (p *probe) move(reverse bool) (bool, error) {
	if reverse {
		return p.moved(p.at.Prev())
	}
	return p.moved(p.at.Next())
}

func (p *probe) moved(ok bool) (bool, error) {
	if ok {
		return true, nil
	}
	return false, p.at.Error()
}

// slot is that of the key at the cursor, whatever kind of key it is: all begin with
// their slot.
func (p *probe) slot() (shardmap.Slot, error) {
	k := p.at.Key()
	if len(k) < 2 {
		return 0, kverr.New(kverr.Internal, "the store has the key %x", k)
	}
	return shardmap.Slot(binary.BigEndian.Uint16(k)), nil
}

// value decodes the value at the cursor. It counts the key as looked at.
func (p *probe) value() (state.Value, error) {
	p.cost.Examined++
	raw, err := p.at.ValueAndErr()
	if err != nil {
		return state.Value{}, err
	}
	return state.DecodeValue(raw)
}

// span is the part of a slot that a scan covers, as user's keys: [from, to), and an
// empty to has no bound.
type span struct{ from, to []byte }

// empty reports that nothing can be in it.
func (s span) empty() bool { return len(s.to) > 0 && bytes.Compare(s.from, s.to) >= 0 }

// spanOf is what is left of a slot behind After.
func (s *Spec) spanOf(slot shardmap.Slot) (span, bool) {
	in := span{s.From, s.To}
	if len(s.After) == 0 {
		return in, !in.empty()
	}
	if s.Order == BySlot {
		switch after := state.SlotFor(s.Shard, s.After); {
		case slot == after:
		case (slot > after) == s.Reverse:
			return span{}, false
		default:
			return in, !in.empty()
		}
	}
	if s.Reverse {
		if len(in.to) == 0 || bytes.Compare(s.After, in.to) < 0 {
			in.to = s.After
		}
	} else if bytes.Compare(s.After, in.from) >= 0 {
		in.from = append(bytes.Clone(s.After), 0)
	}
	return in, !in.empty()
}
