package snapshot

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	_ "github.com/ringfort/ringfort/internal/racebubble"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

var (
	left  = shardmap.Arc{From: 50, To: 100}
	right = shardmap.Arc{From: 200, To: 300}
)

// threeShards are neighbours; the middle one is testShard.
func threeShards(t testing.TB, fs vfs.FS, dir string, seed uint64) *database {
	db := openDatabase(t, fs, dir)
	for i, arc := range []shardmap.Arc{left, testArc, right} {
		db.bear(shardmap.ShardID(testShard-1+i), arc, testIndex+uint64(i)-1, testTerm)
		db.fill(arc, 300, 100, seed+uint64(i))
	}
	return db
}

// TestSnapshot_FromViewToIngest takes a shard from one database to another, whose
// replica of it is old, by way of many files.
func TestSnapshot_FromViewToIngest(t *testing.T) {
	fs := vfs.NewMem()
	from := threeShards(t, fs, "from", 1)
	to := threeShards(t, fs, "to", 50)
	to.set(state.DataKey(nil, 150, []byte("only here")), []byte("must go"))
	fatal(t, to.Flush())
	to.set(state.DataKey(nil, 151, []byte("only here, in memory")), []byte("must go"))
	beside := [2]map[string]string{dump(t, to, left), dump(t, to, right)}

	var points failpoint.Set
	v, err := from.sourceOf(SourceOptions{FileBytes: 4 << 10, Failpoints: &points}).Open(testShard, testArc.From)
	fatal(t, err)
	defer func() { fatal(t, v.Close()) }()
	s := openStaging(t, fs, nil, func(o *StagingOptions) { o.TableFormat = TableFormat(to.DB) }).recover(nothing)
	offer := testOffer()
	offer.TableFormat = v.TableFormat()
	in, err := s.Begin(offer)
	fatal(t, err)
	fatal(t, v.Stream(context.Background(), in))
	d, err := ReadDescriptor(strings.NewReader(string(in.Descriptor())))
	fatal(t, err)
	if d.Files < 5 || d.Index != testIndex || d.Term != testTerm || d.Arc != testArc || d.Group != testShard || d.Replica != testReplica {
		t.Errorf("got %+v", d)
	}
	if hits := points.Hits(); hits[failpoint.SnapshotOpened] != 1 || hits[failpoint.SnapshotFileSent] != int(d.Files) {
		t.Errorf("hits %v", hits)
	}
	paths, err := s.Take(d)
	fatal(t, err)
	fatal(t, to.Flush())
	start, end := state.Span(testArc)
	_, err = to.IngestAndExcise(context.Background(), paths, nil, nil, pebble.KeyRange{Start: start, End: end})
	fatal(t, err)
	fatal(t, s.Done(d))

	if diff := cmp.Diff(dump(t, from, testArc), dump(t, to, testArc)); diff != "" {
		t.Error(diff)
	}
	for i, arc := range []shardmap.Arc{left, right} {
		if diff := cmp.Diff(beside[i], dump(t, to, arc)); diff != "" {
			t.Error("neighbour: ", diff)
		}
	}
	want, err := state.Hash(reader{from}, testArc)
	fatal(t, err)
	if got, err := state.Hash(reader{to}, testArc); err != nil || got != want {
		t.Errorf("hash %x, want %x (%v)", got, want, err)
	}
	if names := s.names(); len(names) != 0 {
		t.Errorf("left in the staging directory: %v", names)
	}
}

// TestSN2_ViewStaysWhatItWas: nothing that happens to the database after Open
// changes what is streamed, not even an excise.
func TestSN2_ViewStaysWhatItWas(t *testing.T) {
	whole := pebble.KeyRange{}
	whole.Start, whole.End = state.Span(testArc)
	for name, change := range map[string]func(db *database){
		"nothing": func(*database) {},
		"writes": func(db *database) {
			db.bear(testShard, testArc, testIndex+1, testTerm+1)
			db.fill(testArc, 300, 50, 9)
			db.do(db.DeleteRange(state.DataKey(nil, 150, nil), state.DataKey(nil, 170, nil), pebble.NoSync))
		},
		"writes, flush, compaction": func(db *database) {
			db.bear(testShard, testArc, testIndex+1, testTerm+1)
			db.fill(testArc, 300, 50, 9)
			db.do(db.Flush())
			db.do(db.Compact(context.Background(), whole.Start, whole.End, false))
		},
		"flush": func(db *database) { db.do(db.Flush()) },
		"excise of memory": func(db *database) {
			db.do(db.Excise(context.Background(), whole))
		},
		"flush and excise": func(db *database) {
			db.do(db.Flush())
			db.do(db.Excise(context.Background(), whole))
		},
	} {
		for _, flushed := range []bool{false, true} {
			db := threeShards(t, vfs.NewMem(), "db", 1)
			if flushed {
				fatal(t, db.Flush())
			}
			want := dump(t, db, testArc)
			v, err := db.sourceOf(SourceOptions{FileBytes: 8 << 10}).Open(testShard, testArc.From)
			fatal(t, err)
			change(db)
			var r recorded
			fatal(t, v.Stream(context.Background(), &r))
			if v.Applied().Index != testIndex || v.Applied().Term != testTerm {
				t.Errorf("%s: the view is at %d", name, v.Applied().Index)
			}
			fatal(t, v.Close())
			to := openDatabase(t, vfs.NewMem(), "to")
			to.ingest(&r)
			if diff := cmp.Diff(want, dump(t, to, testArc)); diff != "" {
				t.Errorf("%s, flushed %t: %s", name, flushed, diff)
			}
		}
	}
}

// ingest puts a recorded stream into an empty database.
func (d *database) ingest(r *recorded) {
	d.t.Helper()
	s := openStaging(d.t, d.fs, nil, nil).recover(nothing)
	desc := s.receive(r)
	paths, err := s.Take(desc)
	d.do(err)
	start, end := state.Span(testArc)
	_, err = d.IngestAndExcise(context.Background(), paths, nil, nil, pebble.KeyRange{Start: start, End: end})
	d.do(err)
}

// TestSN2_MetaIsInsideTheView also when the arc changes while it is opened.
func TestSN2_MetaIsInsideTheView(t *testing.T) {
	db := threeShards(t, vfs.NewMem(), "db", 1)
	s := db.source()
	v, err := s.Open(testShard, testArc.From)
	fatal(t, err)
	m := v.Meta("x")
	if m.ID != "x" || m.Index != testIndex || m.Term != testTerm || m.ConfigurationIndex != testIndex || m.Version != 1 {
		t.Errorf("got %+v", m)
	}
	if diff := cmp.Diff(testConfiguration(), m.Configuration); diff != "" {
		t.Error(diff)
	}
	if v.Arc() != testArc || v.Record().Shard != testShard || v.TableFormat() == 0 || v.TableFormat() != TableFormat(db.DB) {
		t.Errorf("got arc %s, format %d", v.Arc(), v.TableFormat())
	}
	fatal(t, v.Close())
	fatal(t, v.Close())
	wantKind(t, "stream of a closed view", v.Stream(context.Background(), &recorded{}), kverr.Closed)

	// The database moves on between the view and what is read of it.
	var points failpoint.Set
	points.Hook(func(failpoint.Name) {
		points.Hook(nil)
		db.bear(testShard, testArc, testIndex+5, testTerm+1)
	})
	v, err = db.sourceOf(SourceOptions{Failpoints: &points}).Open(testShard, testArc.From)
	fatal(t, err)
	if m := v.Meta("x"); m.Index != testIndex || m.Term != testTerm || m.ConfigurationIndex != testIndex {
		t.Errorf("got %+v", m)
	}
	fatal(t, v.Close())
	db.bear(testShard, testArc, testIndex, testTerm)

	if v, err := s.view(testShard, shardmap.Arc{From: testArc.From, To: 150}); v != nil || err != nil {
		t.Errorf("a view of an arc that is no more: %v, %v", v, err)
	}
	_, err = s.Open(testShard+1, testArc.From)
	wantKind(t, "another shard", err, kverr.Conflict)
	_, err = s.Open(testShard, 77)
	wantKind(t, "no shard", err, kverr.Unavailable)

	fatal(t, db.Flush())
	v, err = s.Open(testShard, testArc.From)
	fatal(t, err)
	if v.EstimatedBytes() < 10<<10 {
		t.Errorf("30 kB are estimated as %d", v.EstimatedBytes())
	}
	fatal(t, v.Close())
}

func TestView_CannotBeReadAsBytes(t *testing.T) {
	db := threeShards(t, vfs.NewMem(), "db", 1)
	v, err := db.source().Open(testShard, testArc.From)
	fatal(t, err)
	n, err := v.Read(make([]byte, 8))
	wantKind(t, "read", err, kverr.Internal)
	if n != 0 {
		t.Errorf("read %d bytes", n)
	}
	fatal(t, v.Close())
}

// TestStream_EndsWithItsSink: an error at any step comes out as it is, and no
// goroutine of a table writer stays behind (TestMain looks).
func TestStream_EndsWithItsSink(t *testing.T) {
	db := threeShards(t, vfs.NewMem(), "db", 1)
	v, err := db.sourceOf(SourceOptions{FileBytes: 4 << 10, Limiter: nil}).Open(testShard, testArc.From)
	fatal(t, err)
	defer func() { fatal(t, v.Close()) }()
	var whole recorded
	fatal(t, v.Stream(context.Background(), &whole))
	broken := errors.New("the line is cut")
	for n := range whole.steps {
		r := recorded{failAt: n + 1, failWith: broken}
		if err := v.Stream(context.Background(), &r); !errors.Is(err, broken) {
			t.Errorf("step %d: %v", n, err)
		}
		if len(r.steps) != n {
			t.Errorf("step %d: the sink had %d steps", n, len(r.steps))
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(broken)
	if err := v.Stream(ctx, &recorded{}); !errors.Is(err, broken) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestStream_SinkMayChangeWhatItIsGiven: sums are of what was sent.
func TestStream_SinkMayChangeWhatItIsGiven(t *testing.T) {
	db := threeShards(t, vfs.NewMem(), "db", 1)
	v, err := db.source().Open(testShard, testArc.From)
	fatal(t, err)
	var r recorded
	fatal(t, v.Stream(context.Background(), &scribbler{&r}))
	fatal(t, v.Close())
	to := openDatabase(t, vfs.NewMem(), "to")
	to.ingest(&r)
}

type scribbler struct{ Sink }

func (s *scribbler) Chunk(data []byte, crc uint32) error {
	err := s.Sink.Chunk(data, crc)
	clear(data)
	return err
}

// TestStream_PiecesAndRate: pieces are bounded, a rate is kept, also by several
// views together, and slow ones give signs of life.
func TestStream_PiecesAndRate(t *testing.T) {
	db := openDatabase(t, vfs.NewMem(), "db")
	db.bear(testShard, testArc, testIndex, testTerm)
	db.fill(testArc, 400, 4096, 1)
	var free recorded
	stream := func(l *Limiter, r *recorded) {
		v, err := db.sourceOf(SourceOptions{FileBytes: 1 << 20, Limiter: l}).Open(testShard, testArc.From)
		fatal(t, err)
		fatal(t, v.Stream(context.Background(), r))
		fatal(t, v.Close())
	}
	stream(NewLimiter(0), &free)
	if free.largest != maxPiece || free.bytes < 1<<20 {
		t.Errorf("largest piece %d of %d bytes", free.largest, free.bytes)
	}
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(100 << 10)
		start := time.Now()
		var slow recorded
		stream(l, &slow)
		stream(l, &slow)
		took, want := time.Since(start).Seconds(), 2*float64(free.bytes)/(100<<10)
		if took < 0.97*want || took > 1.03*want {
			t.Errorf("took %.1f s instead of %.1f", took, want)
		}
		if slow.largest > 100<<10/8 {
			t.Errorf("largest piece %d", slow.largest)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		v, err := db.sourceOf(SourceOptions{Limiter: l}).Open(testShard, testArc.From)
		fatal(t, err)
		start = time.Now()
		if err := v.Stream(ctx, &recorded{}); err == nil || time.Since(start) > time.Second {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
		fatal(t, v.Close())
	})
}
