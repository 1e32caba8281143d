package state

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/shardmap"
)

func TestKeyLayout(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"data", DataKey(nil, 0x1234, []byte("ab")), "\x12\x34\x10ab"},
		{"deadline", DeadlineKey(nil, 0x1234, 0x0102, []byte("ab")), "\x12\x34\x20\x00\x00\x00\x00\x00\x00\x01\x02ab"},
		{"record", RecordKey(0x1234), "\x12\x34\x00\x01"},
		{"applied", AppliedKey(0x1234), "\x12\x34\x00\x02"},
		{"configuration", ConfigurationKey(0x1234), "\x12\x34\x00\x03"},
		{"requests", appendRequestKey(nil, 0x1234, 0x0102), "\x12\x34\x00\x04\x00\x00\x00\x00\x00\x00\x01\x02"},
	} {
		if string(tc.got) != tc.want {
			t.Errorf("%s: got %x, want %x", tc.name, tc.got, tc.want)
		}
	}
}

func TestSpansAreBareSlots(t *testing.T) {
	from, to := Span(shardmap.SystemArc)
	if string(from) != "\x40\x00" || string(to) != "\x40\x01" {
		t.Errorf("system span is [%x, %x)", from, to)
	}
	from, to = Span(shardmap.Arc{From: 5, To: 0x100})
	if string(from) != "\x00\x05" || string(to) != "\x01\x00" {
		t.Errorf("span is [%x, %x)", from, to)
	}
}

func TestKeysSortIntoTheirSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slot := shardmap.Slot(rapid.Uint16Max(uint16(shardmap.SystemSlot)).Draw(t, "slot"))
		key := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key")
		k := DataKey([]byte("x"), slot, key)[1:]

		gotSlot, gotKey, ok := ParseDataKey(k)
		if !ok || gotSlot != slot || !bytes.Equal(gotKey, key) {
			t.Fatalf("%x parses as slot %d, key %x, %t", k, gotSlot, gotKey, ok)
		}
		within := func(k, from, to []byte) bool { return bytes.Compare(from, k) <= 0 && bytes.Compare(k, to) < 0 }
		from, to := SlotDataSpan(slot)
		if !within(k, from, to) {
			t.Fatalf("%x is outside the data of its slot [%x, %x)", k, from, to)
		}
		at := rapid.Uint64().Draw(t, "deadline")
		indexed := DeadlineKey(nil, slot, at, key)
		if gotSlot, gotAt, gotKey, ok := ParseDeadlineKey(indexed); !ok || gotSlot != slot || gotAt != at || !bytes.Equal(gotKey, key) {
			t.Fatalf("%x parses as slot %d, deadline %d, key %x, %t", indexed, gotSlot, gotAt, gotKey, ok)
		}
		if _, _, _, ok := ParseDeadlineKey(k); ok {
			t.Fatalf("data key %x parses as one of the index", k)
		}
		if from, to := DeadlineSpan(slot); !within(indexed, from, to) {
			t.Fatalf("%x is outside its span [%x, %x)", indexed, from, to)
		}
		from, to = Span(shardmap.Arc{From: slot, To: slot + 1})
		index := rapid.Uint64().Draw(t, "index")
		request := appendRequestKey(nil, slot, index)
		for _, k := range [][]byte{k, RecordKey(slot), AppliedKey(slot), ConfigurationKey(slot), request} {
			if !within(k, from, to) {
				t.Fatalf("%x is outside the span of its slot [%x, %x)", k, from, to)
			}
		}
		for _, own := range [][]byte{RecordKey(slot), AppliedKey(slot), ConfigurationKey(slot), request} {
			if bytes.Compare(own, k) >= 0 {
				t.Fatalf("own key %x does not sort before data key %x", own, k)
			}
			if _, _, ok := ParseDataKey(own); ok {
				t.Fatalf("own key %x parses as data", own)
			}
		}
		if got, ok := parseRequestKey(request, slot); !ok || got != index {
			t.Fatalf("request key %x parses as %d, %t", request, got, ok)
		}
		if _, ok := parseRequestKey(request, slot+1); ok {
			t.Fatalf("request key %x parses under another slot", request)
		}
		from, to = requestSpan(slot)
		if !within(request, from, to) || within(RecordKey(slot), from, to) || within(ConfigurationKey(slot), from, to) {
			t.Fatal("request span is wrong")
		}
	})
}

func TestSlotForSystemShard(t *testing.T) {
	if got := SlotFor(shardmap.SystemShard, []byte("foo")); got != shardmap.SystemSlot {
		t.Errorf("system shard keeps foo under slot %d", got)
	}
	if got := SlotFor(2, []byte("foo")); got != 12182 {
		t.Errorf("data shard keeps foo under slot %d", got)
	}
}

func TestParseDataKeyRefuses(t *testing.T) {
	for name, k := range map[string][]byte{
		"nothing":      nil,
		"bare slot":    {0, 7},
		"empty key":    {0, 7, 0x10},
		"other kind":   {0, 7, 0x11, 'a'},
		"no slot":      {0x40, 0x01, 0x10, 'a'},
		"key too long": DataKey(nil, 7, make([]byte, MaxKeyBytes+1)),
	} {
		if slot, key, ok := ParseDataKey(k); ok {
			t.Errorf("%s: parses as slot %d, key %x", name, slot, key)
		}
	}
	if _, _, ok := ParseDataKey(DataKey(nil, 7, make([]byte, MaxKeyBytes))); !ok {
		t.Error("the longest key is refused")
	}
}

func FuzzParseDataKey(f *testing.F) {
	f.Add(DataKey(nil, 7, []byte("key")))
	f.Add(RecordKey(7))
	f.Add([]byte{0x40, 0x01, 0x10, 'a'})
	f.Fuzz(func(t *testing.T, k []byte) {
		slot, key, ok := ParseDataKey(k)
		if !ok {
			return
		}
		if slot >= shardmap.SlotEnd || len(key) == 0 || len(key) > MaxKeyBytes {
			t.Fatalf("slot %d, key of %d bytes", slot, len(key))
		}
		if again := DataKey(nil, slot, key); !bytes.Equal(again, k) {
			t.Fatalf("%x parses to what is written as %x", k, again)
		}
	})
}
