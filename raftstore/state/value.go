package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A stored value:
//
//	+--------+-------+------------+----------------------------+
//	| format | flags | version    | data                       |
//	| u8 = 1 | u8    | u64 BE     | to the end                 |
//	+--------+-------+------------+----------------------------+
//
// Each flag that is set will add a field of its own between version and data
// (the first will be an expiry of 8 bytes); a flag this build does not know
// makes the whole value unreadable, so it is refused as a format.
const (
	valueFormat = 1
	valueHeader = 10
)

// Value is a decoded stored value. Data aliases what was decoded.
type Value struct {
	Version uint64 // shard-time stamp of the write, 1 to MaxVersion
	Data    []byte
}

// AppendValue appends the stored form of a value to dst.
func AppendValue(dst []byte, version uint64, value []byte) []byte {
	dst = append(dst, valueFormat, 0)
	dst = binary.BigEndian.AppendUint64(dst, version)
	return append(dst, value...)
}

// DecodeValue takes a stored value apart. The error is of kind Format for a
// format or flag of a newer build and Internal for a damaged value.
func DecodeValue(b []byte) (Value, error) {
	if _, err := open("stored value", b, valueFormat); err != nil {
		return Value{}, err
	}
	if len(b) < valueHeader {
		return Value{}, corrupt("stored value is cut short at %d bytes", len(b))
	}
	if flags := b[1]; flags != 0 {
		return Value{}, kverr.New(kverr.Format, "stored value has flags %#x, which this build does not know", flags)
	}
	version := binary.BigEndian.Uint64(b[2:])
	if version == 0 || version > MaxVersion {
		return Value{}, corrupt("stored value has version %d", version)
	}
	return Value{Version: version, Data: b[valueHeader:]}, nil
}
