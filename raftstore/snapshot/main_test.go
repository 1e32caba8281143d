package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testShard   = 11
	testReplica = 12
	testIndex   = 700
	testTerm    = 6
)

var testArc = shardmap.Arc{From: 100, To: 200}

// batchWriter writes into a Pebble batch.
type batchWriter struct{ *pebble.Batch }

func (w batchWriter) Set(k, v []byte) error { return w.Batch.Set(k, v, nil) }
func (w batchWriter) Delete(k []byte) error { return w.Batch.Delete(k, nil) }

// database is a state database as raftstore has it.
type database struct {
	t    testing.TB
	fs   vfs.FS
	opts *pebble.Options
	*pebble.DB
}

func openDatabase(t testing.TB, fs vfs.FS, dir string) *database {
	t.Helper()
	o := &pebble.Options{
		FS: fs, FormatMajorVersion: pebble.FormatNewest, DisableWAL: true,
		Logger: quiet{}, MemTableSize: 16 << 20,
	}
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &database{t, fs, o, db}
}

type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, a ...any)    { panic(fmt.Sprintf(f, a...)) }
func (d *database) do(err error)           { d.t.Helper(); fatal(d.t, err) }
func (d *database) source() *Source        { return d.sourceOf(SourceOptions{}) }
func (d *database) set(k []byte, v []byte) { d.t.Helper(); d.do(d.Set(k, v, pebble.NoSync)) }

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *database) sourceOf(o SourceOptions) *Source {
	o.DB, o.Options = d.DB, d.opts
	return NewSource(o)
}

func testConfiguration() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{ID: "a/r11", Address: "a/r11"}, {ID: "b/r12", Address: "b/r12"}}}
}

func testRecord(shard shardmap.ShardID, arc shardmap.Arc) shardmap.Record {
	return shardmap.Record{
		Shard: shard, Arc: arc, ArcEpoch: 1, MemberEpoch: 1,
		Replicas: []shardmap.Replica{{ID: 11, Node: "a", Role: shardmap.Voter}, {ID: testReplica, Node: "b", Role: shardmap.Voter}},
	}
}

// bear gives a shard a record and a position.
func (d *database) bear(shard shardmap.ShardID, arc shardmap.Arc, index, term uint64) {
	d.t.Helper()
	b := d.NewBatch()
	d.do(state.Birth(batchWriter{b}, testRecord(shard, arc), index, term, raft.EncodeConfiguration(testConfiguration())))
	d.do(b.Commit(pebble.NoSync))
}

// fill writes n keys of about the given size into an arc.
func (d *database) fill(arc shardmap.Arc, n, size int, seed uint64) {
	d.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	value := make([]byte, size)
	for i := range n {
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		slot := arc.From + shardmap.Slot(i*arc.Len()/n)
		d.set(state.DataKey(nil, slot, fmt.Appendf(nil, "key-%06d", i)), value)
	}
}

// dump is all that a reader shows of an arc.
func dump(t testing.TB, r pebble.Reader, arc shardmap.Arc) map[string]string {
	t.Helper()
	m := map[string]string{}
	from, to := state.Span(arc)
	fatal(t, reader{r}.Scan(from, to, func(k, v []byte) error {
		m[string(k)] = string(v)
		return nil
	}))
	return m
}

func wantKind(t testing.TB, what string, err error, kind kverr.Kind) {
	t.Helper()
	if kverr.KindOf(err) != kind {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

// recorded is what a sink was given.
type recorded struct {
	steps    []func(Sink) error
	kinds    string // c, f, e
	largest  int
	pieces   int // in which chunks are kept; 0: as they come
	bytes    int
	failAt   int // 0: never; otherwise the step that fails
	failWith error
}

func (r *recorded) step(kind string, do func(Sink) error) error {
	if len(r.steps)+1 == r.failAt {
		return r.failWith
	}
	r.steps, r.kinds = append(r.steps, do), r.kinds+kind
	return nil
}

func (r *recorded) Chunk(data []byte, crc uint32) error {
	data = append([]byte(nil), data...)
	r.largest, r.bytes = max(r.largest, len(data)), r.bytes+len(data)
	if r.pieces == 0 {
		return r.step("c", func(s Sink) error { return s.Chunk(bytes.Clone(data), crc) })
	}
	for piece := range slices.Chunk(data, r.pieces) {
		if err := r.step("c", func(s Sink) error { return s.Chunk(bytes.Clone(piece), crcOf(piece)) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorded) EndFile(bytes, sum uint64) error {
	return r.step("f", func(s Sink) error { return s.EndFile(bytes, sum) })
}

func (r *recorded) End(files, bytes, sum uint64) error {
	return r.step("e", func(s Sink) error { return s.End(files, bytes, sum) })
}

func (r *recorded) play(to Sink) error {
	for _, step := range r.steps {
		if err := step(to); err != nil {
			return err
		}
	}
	return nil
}

// record streams a small shard of a few files.
func record(t testing.TB, files int) *recorded {
	t.Helper()
	db := openDatabase(t, vfs.NewMem(), "db")
	db.bear(testShard, testArc, testIndex, testTerm)
	db.fill(testArc, 4*files, 256, 1)
	v, err := db.sourceOf(SourceOptions{FileBytes: 1024}).Open(testShard, testArc.From)
	fatal(t, err)
	r := recorded{pieces: 400}
	fatal(t, v.Stream(context.Background(), &r))
	fatal(t, v.Close())
	return &r
}

type stagingRig struct {
	t testing.TB
	*Staging
	fs vfs.FS
}

func openStaging(t testing.TB, fs vfs.FS, points *failpoint.Set, change func(*StagingOptions)) *stagingRig {
	t.Helper()
	o := StagingOptions{FS: fs, Dir: "data/staging", Nonce: 77, TableFormat: 7, Failpoints: points}
	if change != nil {
		change(&o)
	}
	fatal(t, fs.MkdirAll("data", 0o700))
	fatal(t, syncDir(fs, "")) // Dir's parent is its owner's business
	s, err := OpenStaging(o)
	fatal(t, err)
	return &stagingRig{t, s, fs}
}

func nothing(Descriptor) bool    { return false }
func everything(Descriptor) bool { return true }

func (s *stagingRig) recover(referred func(Descriptor) bool) *stagingRig {
	s.t.Helper()
	_, err := s.Recover(referred)
	fatal(s.t, err)
	return s
}

func testOffer() Offer {
	return Offer{Group: testShard, Replica: testReplica, Index: testIndex, Term: testTerm, Arc: testArc, Bytes: 4096, TableFormat: 7}
}

// receive stages a recorded stream.
func (s *stagingRig) receive(r *recorded) Descriptor {
	s.t.Helper()
	in, err := s.Begin(testOffer())
	fatal(s.t, err)
	fatal(s.t, r.play(in))
	d, err := DecodeDescriptor(in.Descriptor())
	fatal(s.t, err)
	return d
}

// names are the stagings on disk.
func (s *stagingRig) names() []string {
	s.t.Helper()
	names, err := s.fs.List("data/staging")
	fatal(s.t, err)
	return names
}
