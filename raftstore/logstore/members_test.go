package logstore

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
)

func TestL2_RetireLeavesATombstoneOnly(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 20, 5)))
	setTerm(t, g, 9)
	must(t, castVote(g, 9, "a"))
	must(t, d.MarkIngest(7, 50, 7))
	must(t, d.Quarantine(7, 1, "bad block"))
	other := born(t, d, 8)
	must(t, other.StoreLogs(entries(11, 5, 5)))

	must(t, d.Retire(7, 1))
	must(t, d.Retire(7, 1))
	for _, d := range []*DB{d, openDisk(t, crashed(fs))} {
		if got := d.Retired(); !slices.Equal(got, []Member{{7, 1}}) {
			t.Errorf("retired: %v", got)
		}
		if d.Info(7) != (Info{}) || !slices.Equal(d.Groups(), []uint64{8}) || d.Quarantined() != nil {
			t.Errorf("left of it: %+v, groups %v, quarantined %v", d.Info(7), d.Groups(), d.Quarantined())
		}
		if keys := keysOf(t, d, 7); len(keys) != 0 {
			t.Errorf("keys left: %x", keys)
		}
		wantEntries(t, d.Group(8), 10, entries(11, 5, 5))
	}
}

// keysOf lists the keys stored of a group.
func keysOf(t testing.TB, d *DB, group uint64) (keys [][]byte) {
	t.Helper()
	it, err := d.pebble.NewIter(&pebble.IterOptions{LowerBound: recordKey(group, 0), UpperBound: groupEnd(group)})
	must(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		keys = append(keys, slices.Clone(it.Key()))
	}
	must(t, it.Close())
	return keys
}

func TestL2_RetiredLogsRefuseEverything(t *testing.T) {
	d := openDisk(t, vfs.NewMem())
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 5, 5)))
	release := g.Pin(12)
	must(t, d.Retire(7, 1))
	must(t, d.Birth([]Birth{{7, 2, 40, 6}})) // another replica is there by now
	for name, call := range map[string]func() error{
		"first":    func() error { _, err := g.FirstIndex(); return err },
		"last":     func() error { _, err := g.LastIndex(); return err },
		"read":     func() error { return g.GetLog(12, &raft.Log{}) },
		"append":   func() error { return g.StoreLogs(entries(16, 1, 5)) },
		"truncate": func() error { return g.Truncate(12) },
		"prefix":   func() error { return g.DeleteRange(10, 12) },
		"suffix":   func() error { return g.DeleteRange(14, 15) },
		"term":     func() error { return g.SetUint64([]byte(keyCurrentTerm), 5) },
		"zero":     func() error { return g.SetUint64([]byte(keyCurrentTerm), 0) },
		"vote":     func() error { return castVote(g, 5, "b") },
		"get term": func() error { _, err := g.GetUint64([]byte(keyCurrentTerm)); return err },
		"get vote": func() error { _, err := g.GetUint64([]byte(keyLastVoteTerm)); return err },
		"get cand": func() error { _, err := g.Get([]byte(keyLastVoteCand)); return err },
	} {
		if err := call(); !errors.Is(err, kverr.Closed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if g.Bytes() != 0 || g.CutPoint(0) != 0 {
		t.Error("a retired log has bytes")
	}
	release()
	wantEntries(t, d.Group(7), 40, nil)
}

func TestL2_AnotherReplicaIsBornAfterRetirement(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 30, 5))) // cached
	must(t, castVote(g, 5, "a"))
	if err := d.Birth([]Birth{{7, 2, 10, 5}}); !errors.Is(err, kverr.Conflict) {
		t.Errorf("born beside the old log: %v", err)
	}
	must(t, d.Retire(7, 1))
	must(t, d.Birth([]Birth{{7, 2, 20, 6}}))
	g = d.Group(7)
	wantEntries(t, g, 20, nil)
	wantBoundary(t, g, 20, 6)
	must(t, g.StoreLogs(entries(21, 3, 6)))
	for _, d := range []*DB{d, openDisk(t, crashed(fs))} {
		wantEntries(t, d.Group(7), 20, entries(21, 3, 6))
		if term, vote := lastVote(t, d.Group(7)); term != 0 || vote != "" {
			t.Errorf("voted for %q in term %d, as the other replica did", vote, term)
		}
		if info := d.Info(7); info.Replica != 2 || currentTerm(t, d.Group(7)) != 6 {
			t.Errorf("%+v", info)
		}
		if err := d.Birth([]Birth{{7, 1, 10, 5}}); !errors.Is(err, kverr.Conflict) {
			t.Errorf("the retired replica is back: %v", err)
		}
	}
}

func TestF3_ReplicasThatWereNeverHereAreRetired(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 5, 5)))
	must(t, d.Retire(7, 3))  // the group is here, as another replica
	must(t, d.Retire(99, 1)) // nothing is here
	voter := d.Group(5)      // a log without a birth is nobody's, and stays
	setTerm(t, voter, 4)
	must(t, d.Retire(5, 2))
	if err := d.Retire(7, 0); !errors.Is(err, kverr.Invalid) {
		t.Errorf("retired replica 0: %v", err)
	}
	for _, d := range []*DB{d, openDisk(t, crashed(fs))} {
		if got := d.Retired(); !slices.Equal(got, []Member{{5, 2}, {7, 3}, {99, 1}}) {
			t.Errorf("retired: %v", got)
		}
		wantEntries(t, d.Group(7), 10, entries(11, 5, 5))
		if currentTerm(t, d.Group(5)) != 4 {
			t.Error("a term was lost")
		}
		for _, b := range []Birth{{99, 1, 10, 5}, {5, 2, 10, 5}} {
			if err := d.Birth([]Birth{b}); !errors.Is(err, kverr.Conflict) {
				t.Errorf("born after it was retired: %v", err)
			}
		}
	}
}

func TestQuarantineOutlivesTheProcess(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := openDisk(t, fs)
	g := born(t, d, 7)
	must(t, g.StoreLogs(entries(11, 5, 5)))
	must(t, d.Quarantine(7, 1, "block 12 has a wrong checksum"))
	must(t, d.Quarantine(7, 1, "later"))
	must(t, d.Quarantine(8, 4, strings.Repeat("ä", maxReason)))
	must(t, d.Retire(9, 1))
	must(t, d.Quarantine(9, 1, "too late"))
	if err := d.Quarantine(7, 0, ""); !errors.Is(err, kverr.Invalid) {
		t.Errorf("quarantined replica 0: %v", err)
	}
	want := []QuarantinedMember{{Member{7, 1}, "block 12 has a wrong checksum"}, {Member{8, 4}, strings.Repeat("ä", maxReason/2)}}
	for _, d := range []*DB{d, openDisk(t, crashed(fs))} {
		if got := d.Quarantined(); !slices.Equal(got, want) {
			t.Errorf("quarantined: %v", got)
		}
		if info := d.Info(7); info.Quarantined != want[0].Reason {
			t.Errorf("%+v", info)
		}
		g := d.Group(7)
		wantEntries(t, g, 10, entries(11, 5, 5)) // nothing is thrown away
		if err := castVote(g, 5, "a"); err == nil {
			t.Error("a replica in quarantine voted")
		}
		for _, b := range []Birth{{7, 1, 10, 5}, {8, 4, 10, 5}} {
			if err := d.Birth([]Birth{b}); !errors.Is(err, kverr.Conflict) {
				t.Errorf("born in quarantine: %v", err)
			}
		}
	}
	must(t, d.Retire(7, 1))
	must(t, d.Birth([]Birth{{7, 2, 10, 5}})) // built anew under another id
	if got := d.Quarantined(); len(got) != 1 || d.Info(7).Quarantined != "" {
		t.Errorf("quarantined after retirement: %v", got)
	}
	must(t, castVote(d.Group(7), 5, "a"))
}

// A birth that waits behind a retirement is the other replica's: it must not
// land in the retired log.
func TestL2_BirthBehindARetirement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t, vfs.NewCrashableMem())
		o.BeforeSync = func() { time.Sleep(time.Second) }
		d := mustOpen(t, o)
		defer mustClose(t, d)
		must(t, born(t, d, 7).StoreLogs(entries(11, 5, 5)))
		var wg sync.WaitGroup
		wg.Go(func() { setTerm(t, d.Group(8), 3) }) // keeps the writer busy
		time.Sleep(time.Millisecond)
		wg.Go(func() {
			if err := d.Retire(7, 1); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Millisecond)
		wg.Go(func() {
			if err := d.Birth([]Birth{{7, 2, 20, 6}}); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		wantEntries(t, d.Group(7), 20, nil)
		must(t, d.Group(7).StoreLogs(entries(21, 1, 6)))
	})
}
