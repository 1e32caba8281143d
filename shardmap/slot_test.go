package shardmap

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestCRC16Vectors(t *testing.T) {
	for _, tc := range []struct {
		data string
		want uint16
	}{
		{"", 0},
		{"123456789", 0x31C3}, // the check value of CRC16/XMODEM
		{"A", 0x58E5},
		{"\x00", 0},
		{"\xff", 0x1EF0},
	} {
		if got := crc16([]byte(tc.data)); got != tc.want {
			t.Errorf("crc16(%q) = %#04x, want %#04x", tc.data, got, tc.want)
		}
	}
}

// The examples of the Redis Cluster specification, and its corners.
func TestSlotOfLikeRedis(t *testing.T) {
	for _, tc := range []struct {
		key, hashed string
	}{
		{"foo", "foo"},
		{"", ""},
		{"{user1000}.following", "user1000"},
		{"{user1000}.followers", "user1000"},
		{"foo{}{bar}", "foo{}{bar}"}, // the first pair is empty: no tag at all
		{"foo{{bar}}zap", "{bar"},
		{"foo{bar}{zap}", "bar"},
		{"foo{bar", "foo{bar"},
		{"foo}bar{", "foo}bar{"},
		{"}foo{bar}", "bar"},
		{"{}", "{}"},
		{"{", "{"},
		{"}", "}"},
		{"{a}", "a"},
		{"{{}}", "{"},
		{"\x00{\xff\x00}\x80", "\xff\x00"},
	} {
		if got := string(HashTag([]byte(tc.key))); got != tc.hashed {
			t.Errorf("HashTag(%q) = %q, want %q", tc.key, got, tc.hashed)
		}
		if got, want := SlotOf([]byte(tc.key)), Slot(crc16([]byte(tc.hashed))%Slots); got != want {
			t.Errorf("SlotOf(%q) = %d, want %d", tc.key, got, want)
		}
	}
}

// Numbers that Redis itself answers to CLUSTER KEYSLOT.
func TestSlotOfVectors(t *testing.T) {
	for key, want := range map[string]Slot{
		"foo": 12182, "bar": 5061, "hello": 866, "somekey": 11058, "foo{hash_tag}": 2515, "bar{hash_tag}": 2515, "": 0,
	} {
		if got := SlotOf([]byte(key)); got != want {
			t.Errorf("SlotOf(%q) = %d, want %d", key, got, want)
		}
	}
}

// redisSlot follows keyHashSlot of Redis loop by loop, with a bitwise CRC.
func redisSlot(key []byte) Slot {
	s, e := 0, 0
	for s = 0; s < len(key) && key[s] != '{'; s++ {
	}
	if s < len(key) {
		for e = s + 1; e < len(key) && key[e] != '}'; e++ {
		}
		if e < len(key) && e != s+1 {
			key = key[s+1 : e]
		}
	}
	var crc uint16
	for _, b := range key {
		for bit := 7; bit >= 0; bit-- {
			carry := crc>>15 ^ uint16(b>>bit)&1
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return Slot(crc & 0x3FFF)
}

func TestSlotOfAgainstTwin(t *testing.T) {
	// Few distinct bytes, so that braces meet often.
	alphabet := rapid.SampledFrom([]byte("{}{}ab\x00\xff"))
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(alphabet, 0, 24).Draw(t, "key")
		if got, want := SlotOf(key), redisSlot(key); got != want {
			t.Fatalf("SlotOf(%q) = %d, twin says %d", key, got, want)
		}
	})
}

func FuzzSlotOf(f *testing.F) {
	for _, seed := range []string{"", "foo", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "{", "}{", "\x00{\xff}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, key []byte) {
		before := bytes.Clone(key)
		if got, want := SlotOf(key), redisSlot(key); got != want || got >= Slots {
			t.Fatalf("SlotOf(%q) = %d, twin says %d", key, got, want)
		}
		if !bytes.Equal(key, before) {
			t.Fatalf("SlotOf changed its argument")
		}
	})
}

func BenchmarkSlotOf(b *testing.B) {
	for _, key := range []string{"user:12345678", "{user1000}.following", string(bytes.Repeat([]byte("k"), 256))} {
		b.Run(key[:min(len(key), 20)], func(b *testing.B) {
			data := []byte(key)
			for b.Loop() {
				SlotOf(data)
			}
		})
	}
}
