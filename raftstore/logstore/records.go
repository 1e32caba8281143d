package logstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Records are everything that is no entry. A record is sealed with a checksum
// over its key and value: it decides what may vote, and one that is read under
// another key or with another byte must not pass for a sound one.
//
//	sealed       format u8 | body | crc32c(key | format | body) u32
//	boundary     index u64 | term u64 | replica u64
//	term         term u64
//	vote         term u64 | candidate
//	ingest       index u64 | term u64
//	retired      empty
//	quarantined  reason
const sealLen = 1 + 4

func seal(key, body []byte) []byte {
	b := make([]byte, 0, len(body)+sealLen)
	b = append(b, valueFormat)
	b = append(b, body...)
	return binary.BigEndian.AppendUint32(b, sealSum(key, b))
}

func sealSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// unseal returns the body, which aliases value.
func unseal(key, value []byte) ([]byte, error) {
	if err := checkFormat(value); err != nil {
		return nil, err
	}
	if len(value) < sealLen {
		return nil, errTruncated
	}
	signed := value[:len(value)-4]
	if sealSum(key, signed) != binary.BigEndian.Uint32(value[len(signed):]) {
		return nil, errChecksum
	}
	return signed[1:], nil
}

// numbers encodes a body of fixed length.
func numbers(vs ...uint64) []byte {
	b := make([]byte, 0, 8*len(vs))
	for _, v := range vs {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

// readNumbers decodes one, and refuses one of another length.
func readNumbers(b []byte, vs ...*uint64) error {
	if len(b) != 8*len(vs) {
		return fmt.Errorf("%d bytes where %d belong", len(b), 8*len(vs))
	}
	for i, v := range vs {
		*v = binary.BigEndian.Uint64(b[8*i:])
	}
	return nil
}

func encodeVote(v vote) []byte { return append(numbers(v.term), v.candidate...) }

// decodeVote copies.
func decodeVote(b []byte) (v vote, err error) {
	if len(b) < 8 {
		return vote{}, errTruncated
	}
	// Never nil: raft takes a nil candidate for "no vote in this term".
	return vote{term: binary.BigEndian.Uint64(b), candidate: append([]byte{}, b[8:]...)}, nil
}
