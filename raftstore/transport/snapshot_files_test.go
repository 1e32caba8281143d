package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/snapshot"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

var filesArc = shardmap.Arc{From: 10, To: 1000}

type pebbleWriter struct{ *pebble.Batch }

func (w pebbleWriter) Set(k, v []byte) error { return w.Batch.Set(k, v, nil) }
func (w pebbleWriter) Delete(k []byte) error { return w.Batch.Delete(k, nil) }

// shardDB is a state database; with bytes it holds a shard of about so many.
func shardDB(t testing.TB, fs vfs.FS, dir string, bytes, valueBytes int) (*pebble.DB, *pebble.Options) {
	t.Helper()
	o := &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, DisableWAL: true, MemTableSize: 64 << 20,
		L0StopWritesThreshold: 1000, Logger: silent{}}
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if bytes == 0 {
		return db, o
	}
	b := db.NewBatch()
	record := shardmap.Record{Shard: testGroup, Arc: filesArc, ArcEpoch: 1, MemberEpoch: 1, Replicas: []shardmap.Replica{
		{ID: 101, Node: "n1", Role: shardmap.Voter}, {ID: 102, Node: "n2", Role: shardmap.Voter}}}
	if err := state.Birth(pebbleWriter{b}, record, 700, 8, testRequest().Configuration); err != nil {
		t.Fatal(err)
	}
	rng := rand.NewChaCha8([32]byte{1})
	value := make([]byte, valueBytes)
	for i := range bytes / valueBytes {
		_, _ = rng.Read(value)
		slot := filesArc.From + shardmap.Slot(i%filesArc.Len())
		if err := b.Set(state.DataKey(nil, slot, fmt.Appendf(nil, "key-%08d", i)), value, nil); err != nil {
			t.Fatal(err)
		}
		if b.Len() > 4<<20 {
			if err := errors.Join(b.Commit(pebble.NoSync), b.Close()); err != nil {
				t.Fatal(err)
			}
			b = db.NewBatch()
		}
	}
	if err := errors.Join(b.Commit(pebble.NoSync), b.Close(), db.Flush()); err != nil {
		t.Fatal(err)
	}
	return db, o
}

type silent struct{}

func (silent) Infof(string, ...any)      {}
func (silent) Errorf(string, ...any)     {}
func (silent) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// admitted is a staging's transfer with a check, as raftstore would have it.
type admitted struct{ *snapshot.Incoming }

func (admitted) Check() error { return nil }

func admitInto(s *snapshot.Staging) func(SnapshotOffer) (SnapshotReceiver, error) {
	return func(o SnapshotOffer) (SnapshotReceiver, error) {
		in, err := s.Begin(snapshot.Offer{Group: o.Group, Replica: o.To, Index: o.Index, Term: o.IndexTerm, Arc: o.Arc,
			Bytes: o.Bytes, TableFormat: o.TableFormat})
		if err != nil {
			return nil, err
		}
		return admitted{in}, nil
	}
}

// ingesting is raft with raftstore's Restore, as far as this test needs it.
func ingesting(t testing.TB, g *Group, db *pebble.DB, staging *snapshot.Staging) {
	store := snapshot.NewStore(snapshot.StoreOptions{Group: testGroup,
		Durable: func() (state.AppliedState, bool, error) { return state.AppliedState{}, false, nil }})
	restore := func(rpc raft.RPC, r *raft.InstallSnapshotRequest) error {
		sink, err := store.Create(1, r.LastLogIndex, r.LastLogTerm, raft.DecodeConfiguration(r.Configuration), r.ConfigurationIndex, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(sink, rpc.Reader); err != nil {
			return errors.Join(err, sink.Cancel())
		}
		if err := sink.Close(); err != nil {
			return err
		}
		_, body, err := store.Open(sink.ID())
		if err != nil {
			return err
		}
		d, err := snapshot.ReadDescriptor(body)
		if err != nil {
			return err
		}
		paths, err := staging.Take(d)
		if err != nil {
			return err
		}
		start, end := state.Span(d.Arc)
		_, err = db.IngestAndExcise(context.Background(), paths, nil, nil, pebble.KeyRange{Start: start, End: end})
		return errors.Join(err, staging.Done(d))
	}
	go func() {
		for {
			select {
			case <-g.closed:
				return
			case rpc := <-g.Consumer():
				r, ok := rpc.Command.(*raft.InstallSnapshotRequest)
				if !ok {
					answer(rpc)
					continue
				}
				err := restore(rpc, r)
				rpc.Respond(&raft.InstallSnapshotResponse{Term: r.Term, Success: err == nil}, err)
			}
		}
	}()
}

// sendView sends in a new tenure (see shipment.request).
func sendView(g *Group, source *snapshot.Source, term uint64) (bytes uint64, err error) {
	v, err := source.Open(testGroup, filesArc.From)
	if err != nil {
		return 0, err
	}
	defer v.Close()
	m := v.Meta("x")
	r := testRequest()
	r.Term, r.LastLogIndex, r.LastLogTerm = term, m.Index, m.Term
	var resp raft.InstallSnapshotResponse
	err = g.InstallSnapshot("", raft.ServerAddress(ServerID("n2", 102)), r, &resp, v)
	if err == nil && !resp.Success {
		err = errors.New("raft said no")
	}
	return v.EstimatedBytes(), err
}

func contents(t testing.TB, db *pebble.DB) []byte {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for ok := it.First(); ok; ok = it.Next() {
		fmt.Fprintf(&all, "%q=%q\n", it.Key(), it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return all.Bytes()
}

// TestSnapshot_RealFiles: a shard goes from one database into another; and a disk
// that fills up on the way refuses it, kills nothing, and takes the next one.
func TestSnapshot_RealFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, a, b := pair(t, nil)
		defer l.close()
		var full atomic.Int64
		full.Store(1 << 62)
		fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileWrite && full.Add(-1) < 0 {
				return syscall.ENOSPC
			}
			return nil
		}))
		from, o := shardDB(t, vfs.NewMem(), "db", 3<<20, 1000)
		to, _ := shardDB(t, fs, "db", 0, 0)
		defer func() { full.Store(1 << 62) }() // the databases close after it
		staging, err := snapshot.OpenStaging(snapshot.StagingOptions{FS: fs, Dir: "staging", Nonce: 1, TableFormat: snapshot.TableFormat(to)})
		if err == nil {
			_, err = staging.Recover(func(snapshot.Descriptor) bool { return false })
		}
		if err != nil {
			t.Fatal(err)
		}
		l.nodes[1].net.OnSnapshot(admitInto(staging))
		ingesting(t, b, to, staging)
		source := snapshot.NewSource(snapshot.SourceOptions{DB: from, Options: o, FileBytes: 1 << 20, Limiter: snapshot.NewLimiter(1 << 20)})
		for term, writes := range []int64{0, 1, 5, 9} {
			full.Store(writes)
			_, err := sendView(a, source, uint64(20+term))
			wantKind(t, fmt.Sprint("full after ", writes, " writes"), err, kverr.Unavailable)
			synctest.Wait()
			if names, err := fs.List("staging"); err != nil || len(names) != 0 || staging.Stats() != (snapshot.StagingStats{}) {
				t.Errorf("left %v, %+v, %v", names, staging.Stats(), err)
			}
		}
		full.Store(1 << 62)
		start := time.Now()
		if _, err := sendView(a, source, 30); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 2*time.Second || took > 5*time.Second {
			t.Errorf("3 MB at 1 MiB/s took %s", took)
		}
		if want := contents(t, from); !bytes.Equal(want, contents(t, to)) || len(want) < 3<<20 {
			t.Error("the shard differs")
		}
	})
}

// BenchmarkSnapshot1GiB sends a shard of 1 GiB over loopback TCP from disk to disk
// and ingests it, without a rate limit. heap-MB is the largest heap seen.
func BenchmarkSnapshot1GiB(b *testing.B) { benchmarkSnapshot(b, 1<<30, nil) }

// BenchmarkSnapshotControlDelay sends with the default limit, and as fast as it
// goes, while another group's heartbeats are timed. (Compare p99 with rate=none.)
func BenchmarkSnapshotControlDelay(b *testing.B) {
	for _, c := range []struct {
		name    string
		send    bool
		limiter *snapshot.Limiter
	}{{"rate=none", false, nil}, {"rate=64MiB", true, snapshot.NewLimiter(snapshot.DefaultRate)}, {"rate=unlimited", true, nil}} {
		b.Run(c.name, func(b *testing.B) {
			w := newCable(b)
			from, _ := w.a.Group(1, 101)
			to, _ := w.b.Group(1, 102)
			go answerAll(to)
			stop := make(chan struct{})
			if c.send {
				done := make(chan struct{})
				send := shipper(b, w, 128<<20, c.limiter)
				go func() {
					defer close(done)
					for {
						select {
						case <-stop:
							return
						default:
							if _, err := send(); err != nil {
								b.Error(err)
								return
							}
						}
					}
				}()
				defer func() { <-done }()
			}
			delays := make([]time.Duration, 0, 4096)
			b.ResetTimer()
			for b.Loop() {
				start := time.Now()
				if err := heartbeat(from, to); err != nil {
					b.Fatal(err)
				}
				delays = append(delays, time.Since(start))
			}
			b.StopTimer()
			close(stop)
			slices.Sort(delays)
			b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(delays[len(delays)-1].Microseconds()), "max-µs")
		})
	}
}

// shipper is a function that sends a shard of so many bytes from a to b.
func shipper(b *testing.B, w *cable, bytes int, limiter *snapshot.Limiter) func() (uint64, error) {
	fs, dir := vfs.Default, b.TempDir()
	from, o := shardDB(b, fs, dir+"/from", bytes, 1024)
	to, _ := shardDB(b, fs, dir+"/to", 0, 0)
	staging, err := snapshot.OpenStaging(snapshot.StagingOptions{FS: fs, Dir: dir + "/staging", Nonce: 1, TableFormat: snapshot.TableFormat(to)})
	if err == nil {
		_, err = staging.Recover(func(snapshot.Descriptor) bool { return false })
	}
	if err != nil {
		b.Fatal(err)
	}
	ga, _ := w.a.Group(testGroup, 101)
	gb, _ := w.b.Group(testGroup, 102)
	w.b.OnSnapshot(admitInto(staging))
	ingesting(b, gb, to, staging)
	source := snapshot.NewSource(snapshot.SourceOptions{DB: from, Options: o, Limiter: limiter})
	return func() (uint64, error) { return sendView(ga, source, 20) }
}

func benchmarkSnapshot(b *testing.B, bytes int, limiter *snapshot.Limiter) {
	w := newCable(b)
	send := shipper(b, w, bytes, limiter)
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var most uint64
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			}
		}
	}()
	b.SetBytes(int64(bytes))
	before := cpu()
	b.ResetTimer()
	for range b.N {
		if _, err := send(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpu()-before).Seconds()/float64(b.N), "cpu-s/op")
	close(stop)
	b.ReportMetric(float64(<-peak>>20), "heap-MB")
}
