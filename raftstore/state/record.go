package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/shardmap"
)

// A stored record: format u8 = 1, shard, from, to, arc epoch, member epoch,
// count of replicas as uvarints, then for each replica its id as uvarint, its
// role u8, and its node as uvarint length and bytes.
const recordFormat = 1

const minReplicaBytes = 4 // id, role, length, one byte of node

// ReadRecord reads the record of the shard whose arc begins at from; found is
// false when there is none.
func ReadRecord(r Reader, from shardmap.Slot) (rec shardmap.Record, found bool, err error) {
	b, found, err := r.Get(RecordKey(from))
	if err != nil || !found {
		return shardmap.Record{}, false, err
	}
	rec, err = decodeRecord(b)
	if err == nil && rec.Arc.From != from {
		err = corrupt("record of shard %d with arc %v is stored under slot %d", rec.Shard, rec.Arc, from)
	}
	if err != nil {
		return shardmap.Record{}, false, err
	}
	return rec, true, nil
}

func appendRecord(dst []byte, rec *shardmap.Record) []byte {
	dst = append(dst, recordFormat)
	for _, v := range [...]uint64{
		uint64(rec.Shard), uint64(rec.Arc.From), uint64(rec.Arc.To),
		rec.ArcEpoch, rec.MemberEpoch, uint64(len(rec.Replicas)),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, m := range rec.Replicas {
		dst = binary.AppendUvarint(dst, uint64(m.ID))
		dst = append(dst, byte(m.Role))
		dst = binary.AppendUvarint(dst, uint64(len(m.Node)))
		dst = append(dst, m.Node...)
	}
	return dst
}

func decodeRecord(b []byte) (shardmap.Record, error) {
	c, err := open("stored record", b, recordFormat)
	if err != nil {
		return shardmap.Record{}, err
	}
	rec := shardmap.Record{
		Shard:       shardmap.ShardID(c.uvarint()),
		Arc:         shardmap.Arc{From: c.slot(), To: c.slot()},
		ArcEpoch:    c.uvarint(),
		MemberEpoch: c.uvarint(),
	}
	rec.Replicas = make([]shardmap.Replica, c.count(maxReplicas, minReplicaBytes))
	for i := range rec.Replicas {
		rec.Replicas[i] = shardmap.Replica{
			ID:   shardmap.ReplicaID(c.uvarint()),
			Role: shardmap.Role(c.byte()),
			Node: shardmap.NodeID(c.bytes(c.limited(maxNodeIDBytes))),
		}
	}
	if err := c.finish("stored record"); err != nil {
		return shardmap.Record{}, err
	}
	return rec, checkRecord(&rec)
}

// checkRecord is asserted when a record is written and when it is read back.
func checkRecord(rec *shardmap.Record) error {
	switch {
	case rec.Shard == 0 || !rec.Arc.Valid():
		return corrupt("record of shard %d with arc %v", rec.Shard, rec.Arc)
	case (rec.Shard == shardmap.SystemShard) != rec.Arc.Contains(shardmap.SystemSlot),
		rec.Shard == shardmap.SystemShard && rec.Arc != shardmap.SystemArc:
		return corrupt("record of shard %d with arc %v: slot %d is all of the system shard's and nobody else's",
			rec.Shard, rec.Arc, shardmap.SystemSlot)
	case len(rec.Replicas) == 0 || len(rec.Replicas) > maxReplicas:
		return corrupt("record of shard %d has %d replicas", rec.Shard, len(rec.Replicas))
	}
	for i, m := range rec.Replicas {
		if m.ID == 0 || m.Node == "" || len(m.Node) > maxNodeIDBytes || m.Role != shardmap.Voter && m.Role != shardmap.Learner {
			return corrupt("record of shard %d has a replica %d on node %q as %v", rec.Shard, m.ID, m.Node, m.Role)
		}
		for _, other := range rec.Replicas[:i] {
			if other.ID == m.ID || other.Node == m.Node {
				return corrupt("record of shard %d names replica %d on node %q twice", rec.Shard, m.ID, m.Node)
			}
		}
	}
	return nil
}

func (c *cursor) slot() shardmap.Slot { return shardmap.Slot(c.limited(uint64(shardmap.SlotEnd))) }
