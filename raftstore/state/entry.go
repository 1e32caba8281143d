package state

import (
	"encoding/binary"
	"fmt"
)

// An encoded entry, the payload of one Raft log entry:
//
//	format     u8 = 2
//	shard time uvarint, µs
//	term       uvarint
//	proposal   replica uvarint, nonce u64 BE, counter uvarint
//	operations uvarint, then each as in opcodec.go
//
// Format 1 had puts, deletes and verifications only.
const entryFormat = 2

// EntryOverhead bounds the encoded size of an entry beyond its operations.
const EntryOverhead = 1 + 4*binary.MaxVarintLen64 + 8 + binary.MaxVarintLen32

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

// DecodeEntry takes an encoded entry apart. Keys and values alias b; the only
// allocations are the slice of operations and those of transactions. The error is of kind Format for a
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
