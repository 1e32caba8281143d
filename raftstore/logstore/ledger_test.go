package logstore

import (
	"testing"

	"pgregory.net/rapid"
)

// exactLedger keeps the size of every entry.
type exactLedger struct {
	boundary uint64
	sizes    []int64
}

func (e *exactLedger) last() uint64 { return e.boundary + uint64(len(e.sizes)) }

func (e *exactLedger) after(index uint64) (n int64) {
	for _, size := range e.sizes[index-e.boundary:] {
		n += size
	}
	return n
}

func TestLedgerIsCloseToTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const largest = 40_000
		var l ledger
		l.reset(10)
		exact := exactLedger{boundary: 10}
		var most, slack int64
		ends := int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"add", "add", "add", "end", "beginning"}).Draw(t, "op") {
			case "add":
				size := rapid.SampledFrom([]int{20, 300, 5000, largest}).Draw(t, "size")
				for range rapid.IntRange(1, 200).Draw(t, "n") {
					l.add(exact.last()+1, size)
					exact.sizes = append(exact.sizes, int64(size))
				}
			case "end":
				to := rapid.Uint64Range(exact.boundary, exact.last()).Draw(t, "to")
				if to < exact.last() {
					ends++
				}
				l.cutEnd(to)
				exact.sizes = exact.sizes[:to-exact.boundary]
			case "beginning":
				to := rapid.Uint64Range(exact.boundary, exact.last()).Draw(t, "to")
				l.cutBeginning(to)
				exact.sizes, exact.boundary = exact.sizes[to-exact.boundary:], to
			}
			most = max(most, exact.after(exact.boundary))
			interval := max(minPointDistance, most/pointShare) + largest
			slack = (1 + ends) * interval
			if l.points[0].index != exact.boundary || l.end().index != exact.last() {
				t.Fatalf("ledger of %d..%d says %+v", exact.boundary, exact.last(), l.points)
			}
			if got, want := l.bytes(), exact.after(exact.boundary); got < want-slack || got > want+slack {
				t.Fatalf("%d bytes, really %d, off by more than %d", got, want, slack)
			}
			index := rapid.Uint64Range(exact.boundary, exact.last()).Draw(t, "index")
			if got, want := l.after(index), exact.after(index); got < want-slack || got > want+slack {
				t.Fatalf("%d bytes after %d, really %d", got, index, want)
			}
			keep := rapid.Int64Range(0, 2*most+1).Draw(t, "keep")
			cut := l.cutPoint(keep)
			if cut < exact.boundary || cut > exact.last() {
				t.Fatalf("cut point %d of %d..%d", cut, exact.boundary, exact.last())
			}
			left := exact.after(cut)
			if ends == 0 && left < keep && cut != exact.boundary {
				t.Fatalf("cut point %d leaves %d bytes, not %d", cut, left, keep)
			}
			if left > keep+2*slack && exact.after(exact.boundary) > keep+2*slack {
				t.Fatalf("cut point %d leaves %d bytes for %d", cut, left, keep)
			}
			if len(l.points) > 5000 {
				t.Fatalf("%d points for %d bytes", len(l.points), exact.after(exact.boundary))
			}
		}
	})
}

// A log that was never cut for want of something newer than the last start could
// grow from restart to restart.
func TestLedgerCutsWhatItOnlyEstimates(t *testing.T) {
	var l ledger
	l.restore(10, 1010, 1_000_000)
	if got := l.cutPoint(250_000); got != 760 {
		t.Errorf("cut point %d of an estimated log", got)
	}
	if got := l.cutPoint(2_000_000); got != 10 {
		t.Errorf("cut point %d when more is to be kept than there is", got)
	}
	for i := range uint64(100) {
		l.add(1011+i, 1000)
	}
	if got := l.cutPoint(50_000); got < 1058 || got > 1060 {
		t.Errorf("cut point %d after 100 new entries", got)
	}
	if got := l.cutPoint(600_000); got < 500 || got > 511 {
		t.Errorf("cut point %d in the estimated part", got)
	}
	if got := l.cutPoint(0); got != 1110 {
		t.Errorf("cut point %d for nothing to keep", got)
	}
}

func TestLedgerPointsStayFew(t *testing.T) {
	var l ledger
	l.reset(10)
	index := uint64(10)
	for ; l.bytes() < 1<<36; index++ {
		l.add(index+1, 1<<20)
	}
	if len(l.points) > 3000 {
		t.Errorf("%d points for %d bytes", len(l.points), l.bytes())
	}
	l.cutBeginning(l.cutPoint(64 << 20))
	for range 10_000 {
		index++
		l.add(index, 10_000)
		l.cutBeginning(l.cutPoint(64 << 20))
	}
	if len(l.points) > 2*pointShare || l.bytes() > 66<<20 {
		t.Errorf("%d points for %d bytes", len(l.points), l.bytes())
	}
}
