package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/shardmap"
)

// Every key of the state store begins with its slot, so a shard is one
// contiguous span and a slot's data, indexes and history lie together:
//
//	 0        2      3
//	+--------+------+-----------------------------+
//	| slot   | kind | rest, by kind               |
//	| u16 BE | u8   |                             |
//	+--------+------+-----------------------------+
//	           0x00   the shard's own keys, under its first slot only:
//	                    0x01            the record
//	                    0x02            the applied position
//	                    0x03            the raft configuration
//	                    0x04 index u64  a page of the request table
//	           0x10   data: the user's key, to the end
//	           0x20   index of deadlines: deadline u64 BE, the user's key
//	           0x30   room for intents
//	           0x40   room for history
//
// Kind 0x00 sorts first under a slot, so a shard's own keys are the first of its
// span. A span's bounds are bare slots, two bytes long.
const (
	kindOwn      = 0x00
	kindData     = 0x10
	kindDeadline = 0x20
	// kindIntent = 0x30 and kindHistory = 0x40 are taken.
)

const (
	ownRecord        = 0x01
	ownApplied       = 0x02
	ownConfiguration = 0x03
	ownRequests      = 0x04
)

const keyHeader = 3 // slot and kind

// SlotFor is the slot under which a shard keeps a key. Keys of the system shard
// are not hashed: all of them lie in SystemSlot. Everywhere else the key's own
// hash decides, and the result may lie outside the shard's arc.
func SlotFor(shard shardmap.ShardID, key []byte) shardmap.Slot {
	if shard == shardmap.SystemShard {
		return shardmap.SystemSlot
	}
	return shardmap.SlotOf(key)
}

// DataKey appends the store's key of a user's key to dst.
func DataKey(dst []byte, slot shardmap.Slot, key []byte) []byte {
	return append(appendHeader(dst, slot, kindData), key...)
}

// ParseDataKey takes a data key apart; ok is false for every other key. The
// user's key aliases k.
func ParseDataKey(k []byte) (slot shardmap.Slot, key []byte, ok bool) {
	if len(k) <= keyHeader || len(k) > keyHeader+MaxKeyBytes || k[2] != kindData {
		return 0, nil, false
	}
	slot = shardmap.Slot(binary.BigEndian.Uint16(k))
	if slot >= shardmap.SlotEnd {
		return 0, nil, false
	}
	return slot, k[keyHeader:], true
}

// DeadlineKey appends the key under which the index of deadlines has a user's key.
// Its value is deadlineFormat. An entry whose key was overwritten or deleted stays
// until it is due: a plain put reads nothing, so it cannot know.
func DeadlineKey(dst []byte, slot shardmap.Slot, deadline uint64, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(appendHeader(dst, slot, kindDeadline), deadline)
	return append(dst, key...)
}

// ParseDeadlineKey takes a key of the index of deadlines apart; ok is false for
// every other key. The user's key aliases k.
func ParseDeadlineKey(k []byte) (slot shardmap.Slot, deadline uint64, key []byte, ok bool) {
	if len(k) <= keyHeader+8 || len(k) > keyHeader+8+MaxKeyBytes || k[2] != kindDeadline {
		return 0, 0, nil, false
	}
	slot = shardmap.Slot(binary.BigEndian.Uint16(k))
	if slot >= shardmap.SlotEnd {
		return 0, 0, nil, false
	}
	return slot, binary.BigEndian.Uint64(k[keyHeader:]), k[keyHeader+8:], true
}

// DeadlineSpan is the index of deadlines of one slot, [from, to).
func DeadlineSpan(slot shardmap.Slot) (from, to []byte) {
	return appendHeader(nil, slot, kindDeadline), appendHeader(nil, slot, kindDeadline+1)
}

var deadlineFormat = []byte{1}

// Span is everything of an arc, [from, to): data and, if the arc is a shard's,
// the shard's own keys.
func Span(arc shardmap.Arc) (from, to []byte) {
	return appendSlot(nil, arc.From), appendSlot(nil, arc.To)
}

// SlotDataSpan is the data of one slot, [from, to).
func SlotDataSpan(slot shardmap.Slot) (from, to []byte) {
	return appendHeader(nil, slot, kindData), appendHeader(nil, slot, kindData+1)
}

// RecordKey is where the shard whose arc begins at from keeps its record.
func RecordKey(from shardmap.Slot) []byte { return ownKey(from, ownRecord) }

// AppliedKey is where it keeps the position it has applied.
func AppliedKey(from shardmap.Slot) []byte { return ownKey(from, ownApplied) }

// ConfigurationKey is where it keeps its latest raft configuration.
func ConfigurationKey(from shardmap.Slot) []byte { return ownKey(from, ownConfiguration) }

// requestSpan is the request table, [from, to).
func requestSpan(slot shardmap.Slot) (from, to []byte) {
	return ownKey(slot, ownRequests), ownKey(slot, ownRequests+1)
}

// appendRequestKey appends the key of the page that the entry at index wrote.
func appendRequestKey(dst []byte, from shardmap.Slot, index uint64) []byte {
	dst = append(appendHeader(dst, from, kindOwn), ownRequests)
	return binary.BigEndian.AppendUint64(dst, index)
}

// parseRequestKey is its inverse.
func parseRequestKey(k []byte, from shardmap.Slot) (index uint64, ok bool) {
	if len(k) != keyHeader+1+8 || shardmap.Slot(binary.BigEndian.Uint16(k)) != from ||
		k[2] != kindOwn || k[3] != ownRequests {
		return 0, false
	}
	return binary.BigEndian.Uint64(k[keyHeader+1:]), true
}

func ownKey(from shardmap.Slot, what byte) []byte {
	return append(appendHeader(nil, from, kindOwn), what)
}

func appendHeader(dst []byte, slot shardmap.Slot, kind byte) []byte {
	return append(appendSlot(dst, slot), kind)
}

func appendSlot(dst []byte, slot shardmap.Slot) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(slot))
}

// SlotOfKey is the slot under which a key of the store lies.
func SlotOfKey(k []byte) (shardmap.Slot, error) {
	if len(k) < keyHeader {
		return 0, corrupt("key %x has no slot", k)
	}
	return shardmap.Slot(binary.BigEndian.Uint16(k)), nil
}
