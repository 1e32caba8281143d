package shardmap

import "bytes"

// SlotOf returns the slot that a key hashes to: CRC16/XMODEM of its hash tag,
// modulo Slots, exactly as in Redis Cluster. It is never SystemSlot.
func SlotOf(key []byte) Slot { return Slot(crc16(HashTag(key)) % Slots) }

// HashTag returns the part of a key that is hashed: what stands between its
// first '{' and the first '}' after that, when this is not empty; otherwise the
// whole key. The result aliases key.
func HashTag(key []byte) []byte {
	open := bytes.IndexByte(key, '{')
	if open < 0 {
		return key
	}
	tag := key[open+1:]
	if end := bytes.IndexByte(tag, '}'); end > 0 {
		return tag[:end]
	}
	return key // no '}', or "{}": Redis hashes the whole key, later tags included
}

// crc16 is CRC16/XMODEM: polynomial 0x1021, start 0, nothing reflected.
func crc16(data []byte) uint16 {
	var crc uint16
	for _, b := range data {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^b]
	}
	return crc
}

var crcTable = makeCRCTable()

func makeCRCTable() (table [256]uint16) {
	const polynomial = 0x1021
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}
