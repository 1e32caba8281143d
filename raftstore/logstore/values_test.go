package logstore

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := raft.Log{
			Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
			Type:       raft.LogType(rapid.Byte().Draw(t, "type")),
			Data:       rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
			Extensions: rapid.SliceOf(rapid.Byte()).Draw(t, "extensions"),
		}
		b := appendEntry(nil, &l)
		if len(b) != entrySize(&l) {
			t.Fatalf("%d bytes, %d foretold", len(b), entrySize(&l))
		}
		got, err := decodeEntry(b, l.Index)
		if err != nil || got.Index != l.Index || got.Term != l.Term || got.Type != l.Type ||
			!bytes.Equal(got.Data, l.Data) || !bytes.Equal(got.Extensions, l.Extensions) {
			t.Fatalf("%+v is decoded as %+v: %v", l, got, err)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(appendEntry(nil, &raft.Log{Term: 300, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("x")}))
	f.Add([]byte{valueFormat})
	f.Add([]byte{valueFormat, 0, 5, 200, 1})
	f.Add([]byte{valueFormat, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := decodeEntry(b, 1)
		if err != nil {
			return
		}
		again, err := decodeEntry(appendEntry(nil, &l), 1)
		if err != nil || again.Term != l.Term || !bytes.Equal(again.Data, l.Data) || !bytes.Equal(again.Extensions, l.Extensions) {
			t.Fatalf("%+v: %v", again, err)
		}
	})
}

func FuzzDecodeRecords(f *testing.F) {
	key := recordKey(7, kindBoundary)
	f.Add(seal(key, numbers(10, 5, 3)))
	f.Add(seal(key, encodeVote(vote{7, []byte("n1/r2")})))
	f.Add(seal(key, nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= sealLen { // or nothing would get past the checksum
			signed := b[:len(b)-4]
			b = binary.BigEndian.AppendUint32(signed[:len(signed):len(signed)], sealSum(key, signed))
		}
		body, err := unseal(key, b)
		if err != nil {
			return
		}
		if !bytes.Equal(seal(key, body), b) {
			t.Fatalf("body %x", body)
		}
		var x, y, z uint64
		if err := readNumbers(body, &x, &y, &z); err == nil && !bytes.Equal(numbers(x, y, z), body) {
			t.Fatalf("boundary %d, %d, %d", x, y, z)
		}
		if v, err := decodeVote(body); err == nil && (!bytes.Equal(encodeVote(v), body) || v.candidate == nil) {
			t.Fatalf("vote %+v", v)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(entryKey(7, 11))
	f.Add(recordKey(7, kindVote))
	f.Add(formatKey)
	f.Add(memberKey(kindRetired, Member{7, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, m, ok := parseMemberKey(b); ok && !bytes.Equal(memberKey(k, m), b) {
			t.Fatalf("%x is %d of %+v", b, k, m)
		}
		k, ok := parseKey(b)
		if !ok {
			return
		}
		again := recordKey(k.group, k.kind)
		if k.kind == kindEntry {
			again = entryKey(k.group, k.index)
		}
		if !bytes.Equal(again, b) || bytes.Compare(b, groupEnd(k.group)) >= 0 {
			t.Fatalf("%x is %+v", b, k)
		}
	})
}
