package logstore

import (
	"encoding/binary"
	"math"
)

// Layout of the database. Numbers are big-endian; kinds are on disk.
//
//	00                                  → store format u32
//	01 | group u64 | kind u8            → the group's record of that kind
//	01 | group u64 | 10 | index u64     → log entry
//	02 | kind u8 | group u64 | replica u64 → what is known of a replica for ever
//
// Entries come last, so that one seek past a group's few records finds the
// beginning of its log and one seek before the next group its end. Records of
// replicas outlive their group's, so that a group goes with one range.
const (
	metaSpace   = 0x00
	groupSpace  = 0x01
	memberSpace = 0x02
)

type kind uint8

const (
	kindBoundary kind = 2 // index and term below which nothing exists (L1), and whose log it is
	kindTerm     kind = 3 // CurrentTerm
	kindVote     kind = 4 // last vote: term and candidate in one value (S3)
	kindIngest   kind = 5 // a snapshot is being ingested (L2)
	kindEntry    kind = 16
)

// Kinds of a replica's records, in their own space.
const (
	kindRetired     kind = 1 // it was removed for ever (L2, F3)
	kindQuarantined kind = 2 // its data was found corrupt
)

const (
	recordKeyLen = 1 + 8 + 1
	entryKeyLen  = recordKeyLen + 8
	memberKeyLen = 1 + 1 + 8 + 8
)

var formatKey = []byte{metaSpace}

func recordKey(group uint64, k kind) []byte {
	b := make([]byte, 0, recordKeyLen)
	b = append(b, groupSpace)
	b = binary.BigEndian.AppendUint64(b, group)
	return append(b, byte(k))
}

func entryKey(group, index uint64) []byte {
	b := make([]byte, entryKeyLen)
	putEntryKey(b, group, index)
	return b
}

func putEntryKey(b []byte, group, index uint64) {
	b[0] = groupSpace
	binary.BigEndian.PutUint64(b[1:], group)
	b[9] = byte(kindEntry)
	binary.BigEndian.PutUint64(b[10:], index)
}

// groupEnd is the first key after all keys of a group.
func groupEnd(group uint64) []byte {
	if group == math.MaxUint64 {
		return []byte{groupSpace + 1}
	}
	return recordKey(group+1, 0)
}

// parsedKey is a key of a group; index is 0 unless it is an entry's.
type parsedKey struct {
	group uint64
	kind  kind
	index uint64
}

// parseKey takes a group's key apart. ok is false for any other form.
func parseKey(b []byte) (k parsedKey, ok bool) {
	if len(b) < recordKeyLen || b[0] != groupSpace {
		return parsedKey{}, false
	}
	k = parsedKey{group: binary.BigEndian.Uint64(b[1:]), kind: kind(b[9])}
	if k.kind != kindEntry {
		return k, len(b) == recordKeyLen
	}
	if len(b) != entryKeyLen {
		return parsedKey{}, false
	}
	k.index = binary.BigEndian.Uint64(b[10:])
	return k, true
}

func memberKey(k kind, m Member) []byte {
	b := append(make([]byte, 0, memberKeyLen), memberSpace, byte(k))
	b = binary.BigEndian.AppendUint64(b, m.Group)
	return binary.BigEndian.AppendUint64(b, m.Replica)
}

// parseMemberKey takes a replica's key apart. ok is false for any other form.
func parseMemberKey(b []byte) (k kind, m Member, ok bool) {
	if len(b) != memberKeyLen || b[0] != memberSpace {
		return 0, Member{}, false
	}
	return kind(b[1]), Member{binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])}, true
}
