package snapshot

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// descriptorFormat numbers the encoding of a Descriptor.
const descriptorFormat = 1

// maxNameBytes is above the length of every name that newName makes.
const maxNameBytes = 128

// maxDescriptorBytes is above the length of every encoded descriptor.
const maxDescriptorBytes = 512

// Descriptor names a complete staging. It is what Raft gets instead of the data.
type Descriptor struct {
	Group   uint64
	Replica shardmap.ReplicaID // the receiving one
	Index   uint64             // of the last entry that the state reflects
	Term    uint64             // of that entry
	Arc     shardmap.Arc       // the shard's, in that state
	Name    string             // of the staging's directory
	Files   uint64
	Bytes   uint64 // of all files
	Sum     uint64 // of the sums of all files, as in Sink.End
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode is the descriptor as bytes, for raft's InstallSnapshot.
func (d Descriptor) Encode() []byte {
	b := append(make([]byte, 0, 128), descriptorFormat)
	for _, v := range [...]uint64{d.Group, uint64(d.Replica), d.Index, d.Term, uint64(d.Arc.From), uint64(d.Arc.To),
		d.Files, d.Bytes, d.Sum} {
		b = binary.AppendUvarint(b, v)
	}
	b = append(b, byte(len(d.Name)))
	b = append(b, d.Name...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeDescriptor is the inverse of Encode. It accepts nothing else.
func DecodeDescriptor(b []byte) (Descriptor, error) {
	if len(b) > 0 && b[0] != descriptorFormat {
		return Descriptor{}, kverr.New(kverr.Format, "snapshot descriptor of format %d, this build knows %d", b[0], descriptorFormat)
	}
	if len(b) < 5 || len(b) > maxDescriptorBytes ||
		crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return Descriptor{}, errDescriptor()
	}
	rest := b[1 : len(b)-4]
	var v [9]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(rest); n <= 0 || n > 1 && rest[n-1] == 0 {
			return Descriptor{}, errDescriptor()
		}
		rest = rest[n:]
	}
	arc := shardmap.Arc{From: shardmap.Slot(v[4]), To: shardmap.Slot(v[5])}
	if v[4] > uint64(shardmap.SlotEnd) || v[5] > uint64(shardmap.SlotEnd) || !arc.Valid() ||
		len(rest) == 0 || len(rest) != 1+int(rest[0]) || !validName(string(rest[1:])) {
		return Descriptor{}, errDescriptor()
	}
	return Descriptor{
		Group: v[0], Replica: shardmap.ReplicaID(v[1]), Index: v[2], Term: v[3], Arc: arc,
		Name: string(rest[1:]), Files: v[6], Bytes: v[7], Sum: v[8],
	}, nil
}

// ReadDescriptor reads a descriptor from what raft gives to Restore.
func ReadDescriptor(r io.Reader) (Descriptor, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDescriptorBytes+1))
	if err != nil {
		return Descriptor{}, kverr.New(kverr.Internal, "read a snapshot descriptor: %w", err)
	}
	return DecodeDescriptor(b)
}

func errDescriptor() error {
	return kverr.New(kverr.Internal, "malformed snapshot descriptor")
}

// validName reports whether a name could be a staging's: nothing in it leads out
// of the staging directory.
func validName(name string) bool {
	for _, c := range []byte(name) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c == '-') {
			return false
		}
	}
	return name != "" && len(name) <= maxNameBytes
}
