package kvserver

import (
	"testing"

	"github.com/ringfort/ringfort/internal/kverr"
)

// A leader whose disk is almost full refuses the puts of a frame and applies its
// deletes; one whose disk is fuller refuses both. Reads go on.
func TestWritesAreRefusedOneByOneWithoutSpace(t *testing.T) {
	full := kverr.New(kverr.NoSpace, "no space left")
	for _, c := range []struct {
		name           string
		puts, deletes  error
		wantPut, wantD kverr.Kind
	}{
		{"low", full, nil, kverr.NoSpace, kverr.None},
		{"critical", full, full, kverr.NoSpace, kverr.NoSpace},
		{"ok", nil, nil, kverr.None, kverr.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(e *env) {
				for _, g := range []*fakeGroup{e.lower, e.upper} {
					g.set(func() { g.noPuts, g.noDeletes = c.puts, c.deletes })
				}
				conn := e.open()
				answers := conn.do(put(1, "a", "v"), del(2, "a"), get(3, "a"), put(4, "b", "v"), del(5, "b"), get(6, "b"))
				for id, want := range map[uint64]kverr.Kind{
					1: c.wantPut, 2: c.wantD, 3: kverr.None, 4: c.wantPut, 5: c.wantD, 6: kverr.None,
				} {
					if got := kindIn(answers[id]); got != want {
						t.Errorf("operation %d: %v; want %v", id, got, want)
					}
				}
			})
		})
	}
}
