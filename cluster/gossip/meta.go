package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// metaFormat numbers the layout below. It is on the wire.
const metaFormat = 1

// Bounds in bytes of what a node may say about itself. Together they stay
// within memberlist's limit, over which it panics.
const (
	MaxMeta    = 512
	MaxName    = 64
	MaxZone    = 64
	MaxAddress = 255
	maxCluster = 64

	nodeIDBytes = 20
	metaFixed   = 1 + nodeIDBytes + 8 + 4
)

// The parts cannot add up to more than memberlist takes (G-META).
const _ = uint(MaxMeta - (metaFixed + maxCluster + MaxName + MaxAddress + MaxZone))

// meta is what a member says about itself.
//
//	| format 1 | node id 20 | run 8 | len+cluster | len+name | len+address | len+zone |
type meta struct {
	node    shardmap.NodeID
	run     uint64
	cluster string // empty: belongs to none yet
	name    string
	address string // gRPC
	zone    string
}

func (m meta) validate() error {
	var faults []error
	if _, err := nodeIDToBytes(m.node); err != nil {
		faults = append(faults, err)
	}
	for _, part := range []struct {
		what, value string
		limit       int
	}{
		{"cluster id", m.cluster, maxCluster}, {"name", m.name, MaxName},
		{"address", m.address, MaxAddress}, {"zone", m.zone, MaxZone},
	} {
		if len(part.value) > part.limit {
			faults = append(faults, fmt.Errorf("%s has %d bytes, the limit is %d", part.what, len(part.value), part.limit))
		}
	}
	return errors.Join(faults...)
}

// encode returns the bytes; m must be valid.
func (m meta) encode() []byte {
	id, err := nodeIDToBytes(m.node)
	if err != nil {
		panic("gossip: encoding metadata that was never validated: " + err.Error())
	}
	b := make([]byte, 0, MaxMeta)
	b = append(b, metaFormat)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, m.run)
	for _, s := range []string{m.cluster, m.name, m.address, m.zone} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	return b
}

func decodeMeta(b []byte) (meta, error) {
	if len(b) == 0 {
		return meta{}, kverr.New(kverr.Format, "gossip: a member without metadata")
	}
	if b[0] != metaFormat {
		return meta{}, kverr.New(kverr.Format, "gossip: metadata of format %d, this build knows %d", b[0], metaFormat)
	}
	if len(b) < metaFixed || len(b) > MaxMeta {
		return meta{}, kverr.New(kverr.Format, "gossip: metadata of %d bytes", len(b))
	}
	m := meta{
		node: nodeIDFromBytes(b[1 : 1+nodeIDBytes]),
		run:  binary.BigEndian.Uint64(b[1+nodeIDBytes:]),
	}
	rest := b[1+nodeIDBytes+8:]
	for _, into := range []*string{&m.cluster, &m.name, &m.address, &m.zone} {
		if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
			return meta{}, kverr.New(kverr.Format, "gossip: metadata is cut short")
		}
		*into = string(rest[1 : 1+int(rest[0])])
		rest = rest[1+int(rest[0]):]
	}
	if len(rest) > 0 {
		return meta{}, kverr.New(kverr.Format, "gossip: %d stray bytes after metadata", len(rest))
	}
	if err := m.validate(); err != nil {
		return meta{}, kverr.New(kverr.Format, "gossip: metadata: %w", err)
	}
	return m, nil
}

func nodeIDToBytes(id shardmap.NodeID) (out [nodeIDBytes]byte, err error) {
	if len(id) != 2*nodeIDBytes {
		return out, fmt.Errorf("node id %q is not %d hex digits", string(id), 2*nodeIDBytes)
	}
	if _, err := hex.Decode(out[:], []byte(id)); err != nil {
		return out, fmt.Errorf("node id %q is not hex", string(id))
	}
	return out, nil
}

func nodeIDFromBytes(b []byte) shardmap.NodeID {
	return shardmap.NodeID(hex.EncodeToString(b[:nodeIDBytes]))
}
