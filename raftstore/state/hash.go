package state

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/ringfort/ringfort/shardmap"
)

// Hash sums up every key and value of a shard's span, its own keys included. It
// is equal on all replicas that have applied the same index (RS2); that is why
// no node may keep a fact of its own inside the span.
func Hash(r Reader, arc shardmap.Arc) (uint64, error) {
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
		return nil
	})
	if err != nil {
		return 0, err
	}
	return sum.Sum64(), nil
}
