package logstore

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/failpoint"
)

// A crash at a failpoint of ours finds the disk as the point's name says.
func TestFailpointsStandWhereTheySay(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := options(t, fs)
	points := new(failpoint.Set)
	o.Failpoints = points
	d := mustOpen(t, o)
	defer mustClose(t, d)
	g := born(t, d, 7)
	if hits := points.Hits(); len(hits) != 0 {
		t.Errorf("a birth hit %v", hits)
	}
	left := make(map[failpoint.Name]*vfs.MemFS)
	points.Hook(func(n failpoint.Name) { left[n] = crashed(fs) })
	must(t, g.StoreLogs(entries(11, 5, 5)))
	must(t, castVote(g, 5, "a"))
	setTerm(t, g, 6) // is no vote
	must(t, g.Truncate(13))
	points.Hook(nil)
	must(t, g.Truncate(12)) // nothing to do
	want := map[failpoint.Name]int{
		failpoint.LogAppendBefore: 1, failpoint.LogAppendAfter: 1, failpoint.VoteAfter: 1, failpoint.LogCut: 1,
	}
	for name, n := range want {
		if got := points.Hits()[name]; got != n || len(points.Hits()) != len(want) {
			t.Errorf("hit %s %d times, want %d: %v", name, got, n, points.Hits())
		}
	}
	wantEntries(t, openDisk(t, left[failpoint.LogAppendBefore]).Group(7), 10, nil)
	wantEntries(t, openDisk(t, left[failpoint.LogAppendAfter]).Group(7), 10, entries(11, 5, 5))
	if term, vote := lastVote(t, openDisk(t, left[failpoint.VoteAfter]).Group(7)); term != 5 || vote != "a" {
		t.Errorf("after the vote: %d %q", term, vote)
	}
	wantEntries(t, openDisk(t, left[failpoint.LogCut]).Group(7), 10, entries(11, 5, 5)) // in memory only
}
