package logstore

import (
	"bytes"
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
	f.Add(encodeBoundary(10, 5))
	f.Add(encodeTerm(7))
	f.Add(encodeVote(vote{7, []byte("n1/r2")}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if index, term, err := decodeBoundary(b); err == nil && !bytes.Equal(encodeBoundary(index, term), b) {
			t.Fatalf("boundary %d, %d", index, term)
		}
		if term, err := decodeTerm(b); err == nil && !bytes.Equal(encodeTerm(term), b) {
			t.Fatalf("term %d", term)
		}
		if v, err := decodeVote(b); err == nil && (!bytes.Equal(encodeVote(v), b) || v.candidate == nil) {
			t.Fatalf("vote %+v", v)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(entryKey(7, 11))
	f.Add(recordKey(7, kindVote))
	f.Add(formatKey)
	f.Fuzz(func(t *testing.T, b []byte) {
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
