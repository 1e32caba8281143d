package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
)

// cursor reads a value field by field. The first field that does not fit spoils
// it: everything after reads as zero, and finish reports it. So decoders read
// straight on and check once, but must check ok before they trust a count.
//
// Every value has one encoding: a number with needless bytes is refused like a
// truncated one.
type cursor struct {
	b   []byte
	bad bool
}

// ok reports whether all fields so far were well formed.
func (c *cursor) ok() bool { return !c.bad }

func (c *cursor) spoil() {
	c.bad = true
	c.b = nil
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.spoil()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// bytes returns the next n bytes, aliasing the input and unable to grow into
// what follows.
func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.spoil()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || n > 1 && c.b[n-1] == 0 {
		c.spoil()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// limited reads a number that may not exceed limit.
func (c *cursor) limited(limit uint64) uint64 {
	v := c.uvarint()
	if v > limit {
		c.spoil()
		return 0
	}
	return v
}

// count reads the number of items that follow, each of at least size bytes, so
// that a damaged count cannot allocate more than the input justifies.
func (c *cursor) count(limit, size uint64) int {
	n := c.limited(limit)
	if n > uint64(len(c.b))/size {
		c.spoil()
		return 0
	}
	return int(n)
}

// near reads a number written by appendNear with the same base.
func (c *cursor) near(base uint64) uint64 {
	u := c.uvarint()
	return base + uint64(int64(u>>1)^-int64(u&1))
}

// appendNear writes v as its distance from base, which is short when v is near
// and correct for every pair: the arithmetic wraps both ways.
func appendNear(dst []byte, base, v uint64) []byte {
	return binary.AppendVarint(dst, int64(v-base))
}

// finish reports the verdict over the whole value.
func (c *cursor) finish(what string) error {
	if c.bad {
		return corrupt("%s is cut short or malformed", what)
	}
	if len(c.b) != 0 {
		return corrupt("%s is followed by %d stray bytes", what, len(c.b))
	}
	return nil
}

// open begins a value whose first byte is its format.
func open(what string, b []byte, known byte) (cursor, error) {
	if len(b) == 0 {
		return cursor{}, corrupt("%s is empty", what)
	}
	return cursor{b: b[1:]}, checkFormat(what, b[0], known)
}

// checkFormat refuses every format but the one known.
func checkFormat(what string, got, known byte) error {
	if got == known {
		return nil
	}
	return kverr.New(kverr.Format, "%s has format %d, this build knows %d: run a build that knows it", what, got, known)
}

// corrupt reports bytes or a sequence of calls that no correct replica produces.
func corrupt(format string, args ...any) error {
	return kverr.New(kverr.Internal, "state: "+format, args...)
}
