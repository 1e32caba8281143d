package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A stored value:
//
//	+--------+-------+------------+-----------------+-------------+
//	| format | flags | version    | deadline        | data        |
//	| u8 = 1 | u8    | u64 BE     | u64 BE, if flag | to the end  |
//	+--------+-------+------------+-----------------+-------------+
//
// Each flag that is set adds a field of its own between version and data; a flag
// this build does not know makes the whole value unreadable, so it is refused as
// a format.
const (
	valueFormat   = 1
	valueHeader   = 10
	flagDeadline  = 0x01
	deadlineBytes = 8
)

// Value is a decoded stored value. Data aliases what was decoded.
type Value struct {
	Version uint64 // shard-time stamp of the write, 1 to MaxVersion
	Expires uint64 // shard time in µs from which the key is due; 0 for never
	Data    []byte
}

// Due reports whether the value's deadline has come at shard time now.
func (v *Value) Due(now uint64) bool { return v.Expires != 0 && v.Expires <= now }

// AppendTo appends the stored form of the value to dst.
func (v *Value) AppendTo(dst []byte) []byte {
	flags := byte(0)
	if v.Expires != 0 {
		flags |= flagDeadline
	}
	dst = append(dst, valueFormat, flags)
	dst = binary.BigEndian.AppendUint64(dst, v.Version)
	if v.Expires != 0 {
		dst = binary.BigEndian.AppendUint64(dst, v.Expires)
	}
	return append(dst, v.Data...)
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
	flags := b[1]
	if flags&^flagDeadline != 0 {
		return Value{}, kverr.New(kverr.Format, "stored value has flags %#x, which this build does not know", flags)
	}
	v := Value{Version: binary.BigEndian.Uint64(b[2:]), Data: b[valueHeader:]}
	if v.Version == 0 || v.Version > MaxVersion {
		return Value{}, corrupt("stored value has version %d", v.Version)
	}
	if flags&flagDeadline != 0 {
		if len(v.Data) < deadlineBytes {
			return Value{}, corrupt("stored value is cut short at %d bytes", len(b))
		}
		v.Expires, v.Data = binary.BigEndian.Uint64(v.Data), v.Data[deadlineBytes:]
		if v.Expires == 0 || v.Expires > MaxVersion {
			return Value{}, corrupt("stored value has deadline %d", v.Expires)
		}
	}
	return v, nil
}
