package state

import (
	"encoding/binary"
	"fmt"

	"github.com/ringfort/ringfort/internal/kverr"
)

// An encoded entry, the payload of one Raft log entry:
//
//	format     u8 = 1
//	shard time uvarint, µs
//	term       uvarint
//	proposal   replica uvarint, nonce u64 BE, counter uvarint
//	operations uvarint, then each:
//	  head     u8: bits 0-3 kind, bit 4 has a request, bit 5 same client as the
//	           last operation with a request
//	  key      uvarint length, bytes; 16 of them for a verification
//	  value    uvarint length, bytes; puts only
//	  request  only if bit 4: client 16 bytes unless bit 5, number uvarint,
//	           lowest open as distance from the number, not-after as distance
//	           from the shard time (see appendNear)
//
// Merged entries repeat a client many times and its times lie close together;
// bit 5 and the distances make 50 bytes of request identity about 8.
const entryFormat = 1

const (
	headKind       = 0x0f
	headRequest    = 0x10
	headSameClient = 0x20
)

const (
	// EntryOverhead bounds the encoded size of an entry beyond its operations.
	EntryOverhead = 1 + 4*binary.MaxVarintLen64 + 8 + binary.MaxVarintLen32

	opOverhead = 1 + 2*binary.MaxVarintLen32 + len(ClientID{}) + 3*binary.MaxVarintLen64
	minOpBytes = 3 // head, length, one byte of key
)

// Validate reports why an operation could never be applied (kverr.Invalid): an
// unknown kind, a key or value out of bounds. The proposer asks before it
// encodes; see AppendTo.
func (o *Op) Validate() error {
	switch o.Kind {
	case OpPut:
		if len(o.Value) > MaxValueBytes {
			return kverr.New(kverr.Invalid, "value of %d bytes is over the limit of %d", len(o.Value), MaxValueBytes)
		}
	case OpDelete:
		if len(o.Value) != 0 {
			return kverr.New(kverr.Invalid, "delete carries a value")
		}
	case OpVerify:
		if len(o.Key) != len(VerifyID{}) || len(o.Value) != 0 || o.Request.Number != 0 {
			return kverr.New(kverr.Invalid, "a verification has an id of %d bytes, and neither value nor request", len(VerifyID{}))
		}
	default:
		return kverr.New(kverr.Invalid, "unknown operation %d", o.Kind)
	}
	if len(o.Key) == 0 {
		return kverr.New(kverr.Invalid, "key is empty")
	}
	if len(o.Key) > MaxKeyBytes {
		return kverr.New(kverr.Invalid, "key of %d bytes is over the limit of %d", len(o.Key), MaxKeyBytes)
	}
	return nil
}

// OpSize is an upper bound of the bytes an operation adds to an entry. At most
// MaxEntryOps operations whose sizes sum up to at most MaxEntryBytes less
// EntryOverhead always fit into one entry.
func OpSize(op *Op) int { return opOverhead + len(op.Key) + len(op.Value) }

// AppendTo appends the encoded entry to dst. With request number 0 the rest of
// the request identity is not encoded.
//
// It panics when DecodeEntry would refuse the result (an operation that does
// not Validate, too many operations or bytes, shard time over MaxVersion): once
// committed, such an entry would stop the group on every replica for good, and
// one crashed proposer is the smaller harm.
func (e *Entry) AppendTo(dst []byte) []byte {
	if len(e.Ops) > MaxEntryOps || e.ShardTime > MaxVersion {
		panic(fmt.Sprintf("state: entry with %d operations at shard time %d", len(e.Ops), e.ShardTime))
	}
	start := len(dst)
	dst = append(dst, entryFormat)
	dst = binary.AppendUvarint(dst, e.ShardTime)
	dst = binary.AppendUvarint(dst, e.Term)
	dst = binary.AppendUvarint(dst, e.Proposal.Replica)
	dst = binary.BigEndian.AppendUint64(dst, e.Proposal.Nonce)
	dst = binary.AppendUvarint(dst, e.Proposal.Counter)
	dst = binary.AppendUvarint(dst, uint64(len(e.Ops)))
	var last *ClientID
	for i := range e.Ops {
		op := &e.Ops[i]
		if err := op.Validate(); err != nil {
			panic("state: encoding an invalid operation: " + err.Error())
		}
		dst = op.appendTo(dst, e.ShardTime, last)
		if op.Request.Number != 0 {
			last = &op.Request.Client
		}
	}
	if n := len(dst) - start; n > MaxEntryBytes {
		panic(fmt.Sprintf("state: entry of %d bytes", n))
	}
	return dst
}

func (o *Op) appendTo(dst []byte, shardTime uint64, last *ClientID) []byte {
	r := &o.Request
	head := byte(o.Kind)
	if r.Number != 0 {
		head |= headRequest
		if last != nil && *last == r.Client {
			head |= headSameClient
		}
	}
	dst = append(dst, head)
	dst = append(binary.AppendUvarint(dst, uint64(len(o.Key))), o.Key...)
	if o.Kind == OpPut {
		dst = append(binary.AppendUvarint(dst, uint64(len(o.Value))), o.Value...)
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

// DecodeEntry takes an encoded entry apart. Keys and values alias b; the only
// allocation is the slice of operations. The error is of kind Format for a
// format or operation of a newer build and Internal for anything else that
// AppendTo does not write.
func DecodeEntry(b []byte) (Entry, error) {
	if len(b) > MaxEntryBytes {
		return Entry{}, corrupt("log entry of %d bytes", len(b))
	}
	c, err := open("log entry", b, entryFormat)
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	e.ShardTime = c.limited(MaxVersion)
	e.Term = c.uvarint()
	e.Proposal.Replica = c.uvarint()
	if nonce := c.bytes(8); c.ok() {
		e.Proposal.Nonce = binary.BigEndian.Uint64(nonce)
	}
	e.Proposal.Counter = c.uvarint()
	if n := c.count(MaxEntryOps, minOpBytes); n > 0 {
		e.Ops = make([]Op, n)
	}
	var last *ClientID
	for i := range e.Ops {
		op := &e.Ops[i]
		if err := op.decode(&c, e.ShardTime, last); err != nil {
			return Entry{}, err
		}
		if op.Request.Number != 0 {
			last = &op.Request.Client
		}
	}
	if err := c.finish("log entry"); err != nil {
		return Entry{}, err
	}
	return e, nil
}

// decode reads one operation. Damage spoils the cursor; only a kind of a newer
// build is an error of its own.
func (o *Op) decode(c *cursor, shardTime uint64, last *ClientID) error {
	head := c.byte()
	o.Kind = OpKind(head & headKind)
	switch {
	case !c.ok():
		return nil
	case o.Kind != OpPut && o.Kind != OpDelete && o.Kind != OpVerify:
		return kverr.New(kverr.Format, "log entry holds operation %d, which this build does not know", o.Kind)
	}
	if o.Key = c.bytes(c.limited(MaxKeyBytes)); len(o.Key) == 0 {
		c.spoil()
	}
	if o.Kind == OpVerify && (len(o.Key) != len(VerifyID{}) || head&headRequest != 0) {
		c.spoil()
	}
	if o.Kind == OpPut {
		o.Value = c.bytes(c.limited(MaxValueBytes))
	}
	switch head &^ headKind {
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
	return nil
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
