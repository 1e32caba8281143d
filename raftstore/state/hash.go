package state

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/ringfort/ringfort/shardmap"
)

// Digest sums up a shard's span.
type Digest struct {
	Hash  uint64
	Keys  uint64 // the shard's own ones included
	Bytes uint64 // of keys and values
}

// Hash is Sum's hash.
func Hash(r Reader, arc shardmap.Arc) (uint64, error) {
	d, err := Sum(r, arc)
	return d.Hash, err
}

// Sum sums up every key and value of a shard's span, its own keys included. It
// is equal on all replicas that have applied the same index (RS2); that is why
// no node may keep a fact of its own inside the span.
func Sum(r Reader, arc shardmap.Arc) (Digest, error) {
	var d Digest
	from, to := Span(arc)
	sum := xxhash.New()
	var lengths [8]byte
	err := r.Scan(from, to, func(key, value []byte) error {
		// Lengths first, so that bytes cannot move between neighbours unseen.
		binary.BigEndian.PutUint32(lengths[:4], uint32(len(key)))
		binary.BigEndian.PutUint32(lengths[4:], uint32(len(value)))
		sum.Write(lengths[:]) // a Digest's Write does not fail
		sum.Write(key)
		sum.Write(value)
		d.Keys++
		d.Bytes += uint64(len(key) + len(value))
		return nil
	})
	if err != nil {
		return Digest{}, err
	}
	d.Hash = sum.Sum64()
	return d, nil
}
