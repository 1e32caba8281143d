package state

import (
	"encoding/binary"
)

// What the request table keeps of a result beyond its version: nothing for a
// plain success, and otherwise
//
//	verdict     u8
//	flags       u8: 1 found, 2 else, 4 dropped, 8 previous, 16 number, 32 leaves
//	key version uvarint, if found
//	number      zigzag varint, if flagged
//	previous    uvarint length, a stored value, if flagged
//	leaves      uvarint and so many, if flagged:
//	  flags     u8: 1 found, 8 previous, 16 number, 64 value
//	  number, previous, value as above
//
// A detail over maxDetail is kept without previous value and leaves.
const (
	detailFound    = 1
	detailElse     = 2
	detailDropped  = 4
	detailPrevious = 8
	detailNumber   = 16
	detailLeaves   = 32
	detailValue    = 64
)

// mayDetail reports whether an operation's result may have more than a version.
func (o *Op) mayDetail() bool {
	switch o.Kind {
	case OpPut, OpDelete:
		return o.Condition != Always || o.Previous
	}
	return true
}

// keep is the form in which the request table keeps a result: "" for a success
// with nothing to add.
func (r *Result) keep() string {
	if r.Verdict == Applied && r.Detail == nil {
		return ""
	}
	d := r.Detail
	if d == nil {
		d = new(Detail)
	}
	b := d.appendTo([]byte{byte(r.Verdict)})
	if len(b) > maxDetail {
		short := *d
		short.Previous, short.Leaves, short.Dropped = nil, nil, true
		b = short.appendTo([]byte{byte(r.Verdict)})
	}
	return string(b)
}

// kept is the inverse of keep; ok is false for what keep does not write.
func kept(version uint64, s string) (r Result, ok bool) {
	if s == "" {
		return Result{Verdict: Applied, Version: version}, true
	}
	c := cursor{b: []byte(s)}
	r = Result{Verdict: Verdict(c.byte()), Version: version, Detail: new(Detail)}
	r.Detail.decode(&c)
	if !r.Verdict.decided() || len(s) > maxDetail || c.finish("kept answer") != nil {
		return Result{}, false
	}
	return r, true
}

func setFlag(dst *byte, bit byte, set bool) {
	if set {
		*dst |= bit
	}
}

func (d *Detail) appendTo(dst []byte) []byte {
	var flags byte
	setFlag(&flags, detailFound, d.Found)
	setFlag(&flags, detailElse, d.Else)
	setFlag(&flags, detailDropped, d.Dropped)
	setFlag(&flags, detailPrevious, d.Previous != nil)
	setFlag(&flags, detailNumber, d.Number != 0)
	setFlag(&flags, detailLeaves, len(d.Leaves) > 0)
	dst = append(dst, flags)
	if d.Found {
		dst = binary.AppendUvarint(dst, d.KeyVersion)
	}
	if d.Number != 0 {
		dst = binary.AppendVarint(dst, d.Number)
	}
	if d.Previous != nil {
		dst = appendStored(dst, d.Previous)
	}
	if len(d.Leaves) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.Leaves)))
	for i := range d.Leaves {
		dst = d.Leaves[i].appendTo(dst)
	}
	return dst
}

func (l *Leaf) appendTo(dst []byte) []byte {
	var flags byte
	setFlag(&flags, detailFound, l.Found)
	setFlag(&flags, detailPrevious, l.Previous != nil)
	setFlag(&flags, detailNumber, l.Number != 0)
	setFlag(&flags, detailValue, l.Value.Version != 0)
	dst = append(dst, flags)
	if l.Number != 0 {
		dst = binary.AppendVarint(dst, l.Number)
	}
	if l.Previous != nil {
		dst = appendStored(dst, l.Previous)
	}
	if l.Value.Version != 0 {
		dst = appendStored(dst, &l.Value)
	}
	return dst
}

func appendStored(dst []byte, v *Value) []byte {
	n := valueHeader + len(v.Data)
	if v.Expires != 0 {
		n += deadlineBytes
	}
	return v.AppendTo(binary.AppendUvarint(dst, uint64(n)))
}

func (d *Detail) decode(c *cursor) {
	flags := c.byte()
	if flags&^(detailFound|detailElse|detailDropped|detailPrevious|detailNumber|detailLeaves) != 0 {
		c.spoil()
	}
	d.Found, d.Else, d.Dropped = flags&detailFound != 0, flags&detailElse != 0, flags&detailDropped != 0
	if d.Found {
		d.KeyVersion = c.limited(MaxVersion)
	}
	d.Number = c.number(flags)
	d.Previous = c.previous(flags)
	if flags&detailLeaves == 0 {
		return
	}
	n := c.count(MaxTxnOps, 1)
	if n == 0 {
		c.spoil()
		return
	}
	d.Leaves = make([]Leaf, n)
	for i := range d.Leaves {
		d.Leaves[i].decode(c)
	}
}

func (l *Leaf) decode(c *cursor) {
	flags := c.byte()
	if flags&^(detailFound|detailPrevious|detailNumber|detailValue) != 0 {
		c.spoil()
	}
	l.Found = flags&detailFound != 0
	l.Number = c.number(flags)
	l.Previous = c.previous(flags)
	if flags&detailValue != 0 {
		if v := c.stored(); v != nil {
			l.Value = *v
		}
	}
}

func (c *cursor) number(flags byte) int64 {
	if flags&detailNumber == 0 {
		return 0
	}
	n := int64(c.near(0))
	if n == 0 {
		c.spoil()
	}
	return n
}

func (c *cursor) previous(flags byte) *Value {
	if flags&detailPrevious == 0 {
		return nil
	}
	return c.stored()
}

func (c *cursor) stored() *Value {
	v, err := DecodeValue(c.bytes(c.uvarint()))
	if err != nil {
		c.spoil()
		return nil
	}
	return &v
}
