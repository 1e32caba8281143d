package client

import (
	"encoding/json"
	"errors"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/shardmap"
)

func drawArc(t *rapid.T) shardmap.Arc {
	from := rapid.IntRange(0, shardmap.Slots-1).Draw(t, "from")
	return shardmap.Arc{From: shardmap.Slot(from), To: shardmap.Slot(rapid.IntRange(from+1, shardmap.Slots).Draw(t, "to"))}
}

// A session never forgets, whatever it merges to stay small, and is exact while
// it has room.
func TestSessionAgainstAPlainArray(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var plain [shardmap.Slots]uint64
		s := NewSession()
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			arc := drawArc(t)
			if rapid.Bool().Draw(t, "one slot") {
				arc.To = arc.From + 1
			}
			v := rapid.Uint64Range(1, 1<<52).Draw(t, "version")
			s.saw("c", arc, v)
			for slot := arc.From; slot < arc.To; slot++ {
				plain[slot] = max(plain[slot], v)
			}
		}
		token := s.Token()
		if len(token.marks) > maxSessionMarks {
			t.Fatalf("%d marks", len(token.marks))
		}
		back, err := ParseToken(token.String())
		if err != nil || !reflect.DeepEqual(back, token) {
			t.Fatalf("%v came back as %v, %v", token, back, err)
		}
		exact, last := len(token.marks) < maxSessionMarks, shardmap.Slot(0)
		for _, m := range token.marks {
			if m.from < last || m.to <= m.from {
				t.Fatalf("marks out of order: %v", token.marks)
			}
			last = m.to
		}
		for slot := range shardmap.Slot(shardmap.Slots) {
			if got := back.at(slot); got < plain[slot] || exact && got != plain[slot] || got != s.at(slot) {
				t.Fatalf("slot %d: %d, want %d", slot, got, plain[slot])
			}
		}
		other := NewSession()
		other.saw("c", drawArc(t), 5)
		if err := other.Merge(token); err != nil {
			t.Fatal(err)
		}
		for slot := range shardmap.Slot(shardmap.Slots) {
			if other.at(slot) < token.at(slot) {
				t.Fatalf("slot %d was lost in a merge", slot)
			}
		}
	})
}

func TestGarbledTokens(t *testing.T) {
	s := NewSession()
	s.saw("cluster-7", shardmap.Arc{From: 3, To: 90}, 1<<40)
	s.saw("cluster-7", shardmap.Arc{From: 200, To: shardmap.Slots}, 5)
	text := s.Token().String()
	if got, err := ParseToken(text); err != nil || got.at(3) != 1<<40 || got.at(90) != 0 || got.at(16383) != 5 {
		t.Fatal(got, err)
	}
	for i := range text {
		for _, with := range []string{"", "A", "_", "=", "é"} {
			bad := text[:i] + with + text[i+1:]
			if got, err := ParseToken(bad); bad != text && !errors.Is(err, ErrBadToken) {
				t.Fatalf("%q is %v, %v", bad, got, err)
			}
		}
		if _, err := ParseToken(text[:i]); i > 0 && !errors.Is(err, ErrBadToken) {
			t.Fatalf("%q: %v", text[:i], err)
		}
	}
	var back Token
	b, err := json.Marshal(s.Token())
	if err != nil || json.Unmarshal(b, &back) != nil || back.String() != text {
		t.Fatal(string(b), err)
	}
	if got, err := ParseToken(""); err != nil || !got.IsZero() || got.String() != "" {
		t.Fatal(got, err)
	}
}

func FuzzParseToken(f *testing.F) {
	s := NewSession()
	s.saw("c", shardmap.Arc{From: 3, To: 90}, 7)
	f.Add(s.Token().String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			if !errors.Is(err, ErrBadToken) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseToken(token.String()); err != nil || !reflect.DeepEqual(again, token) {
			t.Fatalf("%v came back as %v, %v", token, again, err)
		}
	})
}

func TestSessionIsSafeForConcurrentUse(t *testing.T) {
	s := NewSession()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				slot := shardmap.Slot((i*31 + j*7) % shardmap.Slots)
				s.saw("c", shardmap.Arc{From: slot, To: slot + 1}, uint64(j+1))
				before := s.Token()
				if before.at(slot) < uint64(j+1) || s.at(slot) < before.at(slot) {
					t.Error("a session went back")
				}
			}
		})
	}
	wg.Wait()
}
