package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "node/log"

// options are small. A death that no test expects ends the process: callers on a
// dead database wait for a Close that would not come.
func options(t testing.TB, fs vfs.FS) Options {
	return Options{
		FS: fs, Dir: testDir, MemTableBytes: 256 << 10, LogCacheBytes: 64 << 10, minSweepBytes: 1,
		Fatal: func(err error) { panic(fmt.Sprintf("%s: the database died: %v", t.Name(), err)) },
	}
}

func mustOpen(t testing.TB, o Options) *DB {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return d
}

// openDisk opens a database that is closed with the test.
func openDisk(t testing.TB, fs vfs.FS) *DB {
	t.Helper()
	d := mustOpen(t, options(t, fs))
	t.Cleanup(func() { d.Close() })
	return d
}

func mustClose(t testing.TB, d *DB) {
	t.Helper()
	must(t, d.Close())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// born returns a group with the boundary that all groups of a node are born with.
func born(t testing.TB, d *DB, group uint64) *Group {
	t.Helper()
	must(t, d.Birth([]Birth{{Group: group, Replica: 1, Index: 10, Term: 5}}))
	return d.Group(group)
}

// entries makes count entries from index on, whose data names them.
func entries(index uint64, count int, term uint64) []*raft.Log {
	logs := make([]*raft.Log, count)
	for i := range logs {
		at := index + uint64(i)
		logs[i] = &raft.Log{Index: at, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d of term %d", at, term)}
	}
	return logs
}

func first(t testing.TB, g *Group) uint64 {
	t.Helper()
	i, err := g.FirstIndex()
	must(t, err)
	return i
}

func last(t testing.TB, g *Group) uint64 {
	t.Helper()
	i, err := g.LastIndex()
	must(t, err)
	return i
}

func currentTerm(t testing.TB, g *Group) uint64 {
	t.Helper()
	v, err := g.GetUint64([]byte(keyCurrentTerm))
	must(t, err)
	return v
}

func lastVote(t testing.TB, g *Group) (uint64, string) {
	t.Helper()
	term, err := g.GetUint64([]byte(keyLastVoteTerm))
	must(t, err)
	candidate, err := g.Get([]byte(keyLastVoteCand))
	must(t, err)
	return term, string(candidate)
}

func setTerm(t testing.TB, g *Group, term uint64) {
	t.Helper()
	must(t, g.SetUint64([]byte(keyCurrentTerm), term))
}

// castVote does what raft's persistVote does.
func castVote(g *Group, term uint64, candidate string) error {
	if err := g.SetUint64([]byte(keyLastVoteTerm), term); err != nil {
		return err
	}
	return g.Set([]byte(keyLastVoteCand), []byte(candidate))
}

// wantEntries checks that the log holds exactly these entries after its boundary.
func wantEntries(t testing.TB, g *Group, boundary uint64, want []*raft.Log) {
	t.Helper()
	end := boundary
	if n := len(want); n > 0 {
		end = want[n-1].Index
	}
	if got := first(t, g); got != boundary {
		t.Errorf("first index %d, want the boundary %d", got, boundary)
	}
	if got := last(t, g); got != end {
		t.Errorf("last index %d, want %d", got, end)
	}
	for _, w := range want {
		var l raft.Log
		if err := g.GetLog(w.Index, &l); err != nil {
			t.Errorf("entry %d: %v", w.Index, err)
		} else if l.Index != w.Index || l.Term != w.Term || l.Type != w.Type ||
			!bytes.Equal(l.Data, w.Data) || !bytes.Equal(l.Extensions, w.Extensions) {
			t.Errorf("entry %d is %+v, want %+v", w.Index, l, *w)
		}
	}
	for _, index := range []uint64{0, 1, boundary - 1, end + 1} {
		var l raft.Log
		if err := g.GetLog(index, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d outside %d..%d: %v %+v", index, boundary, end, err, l)
		}
	}
}

// crashed is the disk after a crash that loses all that was not synced.
func crashed(fs *vfs.MemFS) *vfs.MemFS { return fs.CrashClone(vfs.CrashCloneCfg{}) }
