package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// storeFormat is the format of the database as a whole; valueFormat begins every
// value of a group.
//
//	entry     format | type u8 | term uvarint | len(extensions) uvarint | extensions | data
//	boundary  format | index u64 | term u64
//	term      format | term u64
//	vote      format | term u64 | candidate
//
// AppendedAt is not kept: it serves a metric only and followers never see it.
const (
	storeFormat uint32 = 1
	valueFormat byte   = 1
)

var (
	errFormat    = errors.New("unknown value format")
	errTruncated = errors.New("value is cut short")
	errTrailing  = errors.New("value is too long")
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

func encodeBoundary(index, term uint64) []byte {
	b := append(make([]byte, 0, 17), valueFormat)
	b = binary.BigEndian.AppendUint64(b, index)
	return binary.BigEndian.AppendUint64(b, term)
}

func decodeBoundary(b []byte) (index, term uint64, err error) {
	if err := checkSize(b, 17); err != nil {
		return 0, 0, err
	}
	return binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), nil
}

func encodeTerm(term uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{valueFormat}, term)
}

func decodeTerm(b []byte) (uint64, error) {
	if err := checkSize(b, 9); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[1:]), nil
}

func encodeVote(v vote) []byte {
	return append(encodeTerm(v.term), v.candidate...)
}

// decodeVote copies.
func decodeVote(b []byte) (vote, error) {
	if err := checkFormat(b); err != nil {
		return vote{}, err
	}
	if len(b) < 9 {
		return vote{}, errTruncated
	}
	// Never nil: raft takes a nil candidate for "no vote in this term".
	return vote{term: binary.BigEndian.Uint64(b[1:]), candidate: append([]byte{}, b[9:]...)}, nil
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

func checkSize(b []byte, size int) error {
	if err := checkFormat(b); err != nil {
		return err
	}
	if len(b) < size {
		return errTruncated
	}
	if len(b) > size {
		return errTrailing
	}
	return nil
}
