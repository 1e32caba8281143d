package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
)

// An encoded operation:
//
//	head      u8: bits 0-3 kind, bit 4 has a request, bit 5 same client as the
//	          last operation with a request, bit 6 has options
//	options   u8, only if bit 6, not 0: bits 0-1 condition, 2-3 expiry, 4 previous
//	key       uvarint length, bytes; 16 of them for a verification
//	value     uvarint length, bytes; puts only
//	version   uvarint, if the condition is IfVersion
//	ttl       uvarint, µs, if the expiry is ExpireAfter
//	delta     zigzag varint; adds only
//	deadline  uvarint; sweeps only
//	txn       transactions only: compares, then, else, each uvarint and so many
//	            compare  kind u8, key, version uvarint or value, by kind
//	            leaf     an operation without request
//	request   only if bit 4: client 16 bytes unless bit 5, number uvarint,
//	          lowest open as distance from the number, not-after as distance
//	          from the shard time (see appendNear)
//
// Merged entries repeat a client many times and its times lie close together;
// bit 5 and the distances make 50 bytes of request identity about 8.
const (
	headKind       = 0x0f
	headRequest    = 0x10
	headSameClient = 0x20
	headOptions    = 0x40

	optionCondition = 0x03
	optionExpiry    = 0x0c
	optionPrevious  = 0x10
)

const (
	opOverhead      = 1 + 2*binary.MaxVarintLen32 + len(ClientID{}) + 3*binary.MaxVarintLen64
	detailOverhead  = 1 + 3*binary.MaxVarintLen64 // of options and what they bring
	compareOverhead = 1 + binary.MaxVarintLen32 + binary.MaxVarintLen64
	minOpBytes      = 3 // head, length, one byte of key
)

// OpSize is an upper bound of the bytes an operation adds to an entry. At most
// MaxEntryOps operations whose sizes sum up to at most MaxEntryBytes less
// EntryOverhead always fit into one entry.
func OpSize(op *Op) int {
	n := opOverhead + len(op.Key) + len(op.Value)
	if op.Kind == OpPut && op.options() == 0 || op.Kind == OpDelete && op.options() == 0 {
		return n
	}
	n += detailOverhead
	if op.Txn == nil {
		return n
	}
	n += 3 * binary.MaxVarintLen32
	for i := range op.Txn.Compares {
		c := &op.Txn.Compares[i]
		n += compareOverhead + len(c.Key) + len(c.Value)
	}
	for i := range op.Txn.Then {
		n += OpSize(&op.Txn.Then[i])
	}
	for i := range op.Txn.Else {
		n += OpSize(&op.Txn.Else[i])
	}
	return n
}

func (o *Op) options() byte {
	b := byte(o.Condition) | byte(o.Expiry)<<2
	if o.Previous {
		b |= optionPrevious
	}
	return b
}

func (o *Op) appendTo(dst []byte, shardTime uint64, last *ClientID) []byte {
	r := &o.Request
	head := byte(o.Kind)
	options := o.options()
	if options != 0 {
		head |= headOptions
	}
	if r.Number != 0 {
		head |= headRequest
		if last != nil && *last == r.Client {
			head |= headSameClient
		}
	}
	dst = append(dst, head)
	if options != 0 {
		dst = append(dst, options)
	}
	dst = appendBytes(dst, o.Key)
	if o.Kind == OpPut {
		dst = appendBytes(dst, o.Value)
	}
	if o.Condition == IfVersion {
		dst = binary.AppendUvarint(dst, o.IfVersion)
	}
	if o.Expiry == ExpireAfter {
		dst = binary.AppendUvarint(dst, o.TTL)
	}
	switch o.Kind {
	case OpAdd:
		dst = binary.AppendVarint(dst, o.Delta)
	case OpSweep:
		dst = binary.AppendUvarint(dst, o.Deadline)
	case OpTxn:
		dst = o.Txn.appendTo(dst)
	}
	if head&headRequest == 0 {
		return dst
	}
	if head&headSameClient == 0 {
		dst = append(dst, r.Client[:]...)
	}
	dst = binary.AppendUvarint(dst, r.Number)
	dst = appendNear(dst, r.Number, r.LowestOpen)
	return appendNear(dst, shardTime, r.NotAfter)
}

func (t *Txn) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.Compares)))
	for i := range t.Compares {
		c := &t.Compares[i]
		dst = appendBytes(append(dst, byte(c.Kind)), c.Key)
		switch {
		case c.Kind.ofVersion():
			dst = binary.AppendUvarint(dst, c.Version)
		case c.Kind.ofValue():
			dst = appendBytes(dst, c.Value)
		}
	}
	for _, leaves := range [][]Op{t.Then, t.Else} {
		dst = binary.AppendUvarint(dst, uint64(len(leaves)))
		for i := range leaves {
			dst = leaves[i].appendTo(dst, 0, nil)
		}
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// decode reads one operation. Damage spoils the cursor; only a kind of a newer
// build is an error of its own.
func (o *Op) decode(c *cursor, shardTime uint64, last *ClientID) error {
	head := c.byte()
	if err := o.decodeBody(c, head); err != nil || !c.ok() {
		return err
	}
	switch head & (headRequest | headSameClient) {
	case 0:
	case headRequest:
		o.Request.decode(c, shardTime, nil)
		if last != nil && *last == o.Request.Client {
			c.spoil() // bit 5 was due: one value, one encoding
		}
	case headRequest | headSameClient:
		if last == nil {
			c.spoil()
		}
		o.Request.decode(c, shardTime, last)
	default:
		c.spoil()
	}
	if c.ok() && o.Validate() != nil {
		c.spoil()
	}
	return nil
}

// decodeBody reads what stands between head and request.
func (o *Op) decodeBody(c *cursor, head byte) error {
	o.Kind = OpKind(head & headKind)
	switch {
	case !c.ok():
		return nil
	case o.Kind == 0 || o.Kind > OpSweep:
		return kverr.New(kverr.Format, "log entry holds operation %d, which this build does not know", o.Kind)
	case head&^(headKind|headRequest|headSameClient|headOptions) != 0:
		c.spoil()
	}
	if head&headOptions != 0 {
		options := c.byte()
		if options == 0 || options&^(optionCondition|optionExpiry|optionPrevious) != 0 {
			c.spoil()
		}
		o.Condition = Condition(options & optionCondition)
		o.Expiry = Expiry(options & optionExpiry >> 2)
		o.Previous = options&optionPrevious != 0
	}
	o.Key = c.bytes(c.limited(MaxKeyBytes))
	if o.Kind == OpPut {
		o.Value = c.bytes(c.limited(MaxValueBytes))
	}
	if o.Condition == IfVersion {
		o.IfVersion = c.uvarint()
	}
	if o.Expiry == ExpireAfter {
		o.TTL = c.uvarint()
	}
	switch o.Kind {
	case OpAdd:
		o.Delta = int64(c.near(0))
	case OpSweep:
		o.Deadline = c.uvarint()
	case OpTxn:
		o.Txn = new(Txn)
		return o.Txn.decode(c)
	}
	return nil
}

func (t *Txn) decode(c *cursor) error {
	if n := c.count(MaxTxnOps, minOpBytes-1); n > 0 {
		t.Compares = make([]Compare, n)
	}
	for i := range t.Compares {
		p := &t.Compares[i]
		p.Kind = CompareKind(c.byte())
		if c.ok() && (p.Kind == 0 || p.Kind > CompareValueGreater) {
			return kverr.New(kverr.Format, "log entry holds compare %d, which this build does not know", p.Kind)
		}
		p.Key = c.bytes(c.limited(MaxKeyBytes))
		switch {
		case p.Kind.ofVersion():
			p.Version = c.uvarint()
		case p.Kind.ofValue():
			p.Value = c.bytes(c.limited(MaxValueBytes))
		}
	}
	for _, leaves := range []*[]Op{&t.Then, &t.Else} {
		if n := c.count(MaxTxnOps, minOpBytes); n > 0 {
			*leaves = make([]Op, n)
		}
		for i := range *leaves {
			if err := (*leaves)[i].decodeLeaf(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Op) decodeLeaf(c *cursor) error {
	head := c.byte()
	if head&(headRequest|headSameClient) != 0 || OpKind(head&headKind) == OpTxn {
		c.spoil() // before it can nest
		return nil
	}
	return o.decodeBody(c, head)
}

func (r *RequestID) decode(c *cursor, shardTime uint64, client *ClientID) {
	if client == nil {
		copy(r.Client[:], c.bytes(uint64(len(r.Client))))
	} else {
		r.Client = *client
	}
	if r.Number = c.uvarint(); r.Number == 0 {
		c.spoil()
	}
	r.LowestOpen = c.near(r.Number)
	r.NotAfter = c.near(shardTime)
}
