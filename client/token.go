package client

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sort"

	"github.com/ringfort/ringfort/shardmap"
)

// Token says how far somebody has seen: for parts of the ring, a version of the
// shard that has them. It is an immutable value. Its text may be stored, sent to
// another process and used there, whatever was split or moved in the meantime. The
// zero value has seen nothing.
//
// A session's token goes with AtLeast; it asks a read for nothing older. A
// position, which scans and watches give, goes with From too; it is exact, so a
// watch continues from there without a gap.
type Token struct {
	cluster string
	exact   bool   // a position
	marks   []mark // by slot, without overlaps; never changed
}

// mark is a version of the slots [from, to).
type mark struct {
	from, to shardmap.Slot
	version  uint64
}

// maxSessionMarks bounds a session's token. Beyond it neighbours are merged by
// maximum: that asks for more than was seen, never for less.
const maxSessionMarks = 64

// IsZero reports whether the token has seen nothing.
func (t Token) IsZero() bool { return len(t.marks) == 0 }

// at is the version that the token has for a slot, 0 for none.
func (t Token) at(s shardmap.Slot) uint64 {
	if m, ok := findMark(t.marks, s); ok {
		return m.version
	}
	return 0
}

// most is the highest version that the token has in an arc.
func (t Token) most(arc shardmap.Arc) (v uint64) {
	for _, m := range t.marks {
		if m.from < arc.To && arc.From < m.to {
			v = max(v, m.version)
		}
	}
	return v
}

func findMark(marks []mark, s shardmap.Slot) (mark, bool) {
	i := sort.Search(len(marks), func(i int) bool { return marks[i].to > s })
	if i < len(marks) && marks[i].from <= s {
		return marks[i], true
	}
	return mark{}, false
}

// raised returns the marks with those in an arc raised to a version.
func raised(marks []mark, arc shardmap.Arc, version uint64) []mark {
	out := make([]mark, 0, len(marks)+2)
	at := arc.From // what of the arc is still to come
	for _, m := range marks {
		if m.from >= arc.To || m.to <= arc.From {
			if m.from >= arc.To && at < arc.To {
				out = joined(out, mark{at, arc.To, version})
				at = arc.To
			}
			out = joined(out, m)
			continue
		}
		low, high := max(m.from, arc.From), min(m.to, arc.To)
		if m.from < low {
			out = joined(out, mark{m.from, low, m.version})
		}
		if at < low {
			out = joined(out, mark{at, low, version})
		}
		out = joined(out, mark{low, high, max(m.version, version)})
		at = high
		if m.to > high {
			out = joined(out, mark{high, m.to, m.version})
		}
	}
	if at < arc.To {
		out = joined(out, mark{at, arc.To, version})
	}
	return out
}

// joined appends a mark, or makes it part of the last one.
func joined(marks []mark, m mark) []mark {
	if n := len(marks); n > 0 && marks[n-1].to == m.from && marks[n-1].version == m.version {
		marks[n-1].to = m.to
		return marks
	}
	return append(marks, m)
}

// bounded merges neighbours, those first that lose least by it, until there are
// at most the given number.
func bounded(marks []mark, most int) []mark {
	for len(marks) > most {
		best, cost := 0, ^uint64(0)
		for i := range len(marks) - 1 {
			a, b := marks[i].version, marks[i+1].version
			if c := max(a, b) - min(a, b); c < cost {
				best, cost = i, c
			}
		}
		marks[best].to = marks[best+1].to
		marks[best].version = max(marks[best].version, marks[best+1].version)
		marks = slices.Delete(marks, best+1, best+2)
	}
	return marks
}

// The text of a token is base64 of
//
//	+--------+------+---------+--------+-------+-----------------------------+---------+
//	| format | kind | cluster | id     | count | count x (slots passed over, | CRC-32C |
//	| u8 = 1 | u8   | u8      |        | uvar  |   slots, version), uvar     | u32 BE  |
//	+--------+------+---------+--------+-------+-----------------------------+---------+
const (
	tokenFormat   = 1
	tokenSession  = 0
	tokenPosition = 1
	tokenSum      = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// String is the token's text: one word of letters, digits, '-' and '_'. The zero
// token's is empty.
func (t Token) String() string {
	if t.IsZero() {
		return ""
	}
	kind := byte(tokenSession)
	if t.exact {
		kind = tokenPosition
	}
	b := append([]byte{tokenFormat, kind, byte(len(t.cluster))}, t.cluster...)
	b = binary.AppendUvarint(b, uint64(len(t.marks)))
	var at shardmap.Slot
	for _, m := range t.marks {
		b = binary.AppendUvarint(b, uint64(m.from-at))
		b = binary.AppendUvarint(b, uint64(m.to-m.from))
		b = binary.AppendUvarint(b, m.version)
		at = m.to
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

// MarshalText implements encoding.TextMarshaler.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Token) UnmarshalText(text []byte) error {
	parsed, err := ParseToken(string(text))
	if err == nil {
		*t = parsed
	}
	return err
}

// ParseToken reads the text of a token. Anything else is ErrBadToken.
func ParseToken(text string) (Token, error) {
	if text == "" {
		return Token{}, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return Token{}, badToken("token", "%s is not the text of a token", quoteKey(text))
	}
	t, why := decodeToken(b)
	if why != "" {
		return Token{}, badToken("token", "%s is not the text of a token: %s", quoteKey(text), why)
	}
	return t, nil
}

func decodeToken(b []byte) (t Token, why string) {
	if len(b) < 3+tokenSum {
		return Token{}, "it is too short"
	}
	body, sum := b[:len(b)-tokenSum], binary.BigEndian.Uint32(b[len(b)-tokenSum:])
	if crc32.Checksum(body, castagnoli) != sum {
		return Token{}, "its checksum is wrong"
	}
	if body[0] != tokenFormat || body[1] > tokenPosition {
		return Token{}, fmt.Sprintf("its format is %d.%d, which this client does not know", body[0], body[1])
	}
	t.exact = body[1] == tokenPosition
	length, rest := int(body[2]), body[3:]
	if length > len(rest) {
		return Token{}, "it is cut short"
	}
	t.cluster, rest = string(rest[:length]), rest[length:]
	number := func() uint64 {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			why = "it is cut short"
			return 0
		}
		rest = rest[size:]
		return n
	}
	count := number()
	if why == "" && (count == 0 || count > shardmap.Slots) {
		return Token{}, "it has no sensible number of marks"
	}
	var at uint64
	for range count {
		gap, width, version := number(), number(), number()
		if why != "" {
			return Token{}, why
		}
		if gap > shardmap.Slots || width == 0 || width > shardmap.Slots || at+gap+width > shardmap.Slots || version >= 1<<53 {
			return Token{}, "it has marks outside the ring"
		}
		from := at + gap
		at = from + width
		t.marks = append(t.marks, mark{shardmap.Slot(from), shardmap.Slot(at), version})
	}
	if len(rest) > 0 {
		return Token{}, "it has more than it should"
	}
	return t, why
}

func badToken(op, format string, args ...any) *Error {
	return &Error{Op: op, Kind: ErrBadToken, Err: fmt.Errorf(format, args...)}
}
