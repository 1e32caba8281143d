package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// storeFormat is the format of the database as a whole; valueFormat begins every
// value. Format 2: boundaries name their replica, records are sealed, replicas
// are retired and not groups.
//
//	entry  format | type u8 | term uvarint | len(extensions) uvarint | extensions | data
//
// AppendedAt is not kept: it serves a metric only and followers never see it.
const (
	storeFormat uint32 = 2
	valueFormat byte   = 1
)

var (
	errFormat    = errors.New("unknown value format")
	errTruncated = errors.New("value is cut short")
	errChecksum  = errors.New("its checksum is wrong")
)

// entrySize is the exact size of an encoded entry.
func entrySize(l *raft.Log) int {
	return 2 + uvarintLen(l.Term) + uvarintLen(uint64(len(l.Extensions))) + len(l.Extensions) + len(l.Data)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// appendEntry encodes an entry; its index is in the key.
func appendEntry(b []byte, l *raft.Log) []byte {
	b = append(b, valueFormat, byte(l.Type))
	b = binary.AppendUvarint(b, l.Term)
	b = binary.AppendUvarint(b, uint64(len(l.Extensions)))
	b = append(b, l.Extensions...)
	return append(b, l.Data...)
}

// decodeEntry aliases b. Empty parts are nil.
func decodeEntry(b []byte, index uint64) (raft.Log, error) {
	if err := checkFormat(b); err != nil {
		return raft.Log{}, err
	}
	if len(b) < 2 {
		return raft.Log{}, errTruncated
	}
	l := raft.Log{Index: index, Type: raft.LogType(b[1])}
	b = b[2:]
	term, n := binary.Uvarint(b)
	if n <= 0 {
		return raft.Log{}, errTruncated
	}
	b = b[n:]
	ext, n := binary.Uvarint(b)
	if n <= 0 || ext > uint64(len(b)-n) {
		return raft.Log{}, errTruncated
	}
	b = b[n:]
	l.Term = term
	if ext > 0 {
		l.Extensions = b[:ext:ext]
	}
	if rest := b[ext:]; len(rest) > 0 {
		l.Data = rest
	}
	return l, nil
}

func checkFormat(b []byte) error {
	if len(b) == 0 {
		return errTruncated
	}
	if b[0] != valueFormat {
		return fmt.Errorf("%w %d", errFormat, b[0])
	}
	return nil
}
