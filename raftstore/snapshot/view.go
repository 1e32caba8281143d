package snapshot

import (
	"io"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// SourceOptions configure a Source.
type SourceOptions struct {
	// DB is the state database. Required.
	DB *pebble.DB
	// Options are those DB was opened with. Required: tables must be written as
	// the database would write them.
	Options *pebble.Options
	// Limiter bounds what all views together stream. Nil: no limit.
	Limiter *Limiter
	// FileBytes is about how much of keys and values goes into one table. Default
	// 32 MiB.
	FileBytes int
	// Failpoints let a test crash the node between steps. Nil in production.
	Failpoints *failpoint.Set
}

// Source is what a node's snapshots are made of. Safe for concurrent use.
type Source struct {
	opts    SourceOptions
	tables  sstable.WriterOptions
	version uint32
}

const defaultFileBytes = 32 << 20

// bottom is the level that an ingest into an empty span puts files into.
const bottom = 6

// NewSource returns the source of a node's snapshots.
func NewSource(o SourceOptions) *Source {
	if o.FileBytes == 0 {
		o.FileBytes = defaultFileBytes
	}
	full := o.Options.Clone() // without defaults an option may be nil that the database has
	full.EnsureDefaults()
	format := o.DB.TableFormat()
	return &Source{opts: o, tables: full.MakeWriterOptions(bottom, format), version: TableFormat(o.DB)}
}

// TableFormat is the version number of the table format that a database writes,
// and the newest one it can read. It is the number in the tables themselves.
func TableFormat(db *pebble.DB) uint32 {
	magic, version := db.TableFormat().AsTuple()
	_ = magic // all formats since Pebble's own have the same
	return version
}

// View is the state of one shard at one position, ready to be streamed. It pins
// what it shows until it is closed.
type View struct {
	source   *Source
	pinned   *pebble.EventuallyFileOnlySnapshot
	record   shardmap.Record
	applied  state.AppliedState
	conf     raft.Configuration
	estimate uint64
	release  func() // of the log; may be nil
}

var _ io.ReadCloser = (*View)(nil)

// arcAttempts is how often Open follows an arc that changes while it looks.
const arcAttempts = 16

// Open returns a view of the shard whose arc begins at from, at the position that
// it has applied now. The caller closes it.
func (s *Source) Open(group uint64, from shardmap.Slot) (*View, error) {
	// The span must be named before there is a view of it, and only the record in
	// the view says whether it was the right one (SN2).
	for range arcAttempts {
		now, found, err := state.ReadRecord(reader{s.opts.DB}, from)
		if err == nil && !found {
			err = kverr.New(kverr.Unavailable, "no shard begins at slot %d", from)
		}
		if err != nil {
			return nil, errOpen(group, err)
		}
		v, err := s.view(group, now.Arc)
		if err != nil {
			return nil, errOpen(group, err)
		}
		if v != nil {
			return v, nil
		}
	}
	return nil, errOpen(group, kverr.New(kverr.Unavailable, "its arc does not come to rest"))
}

// view is nil when the shard has another arc by now.
func (s *Source) view(group uint64, arc shardmap.Arc) (v *View, err error) {
	start, end := state.Span(arc)
	pinned := s.opts.DB.NewEventuallyFileOnlySnapshot([]pebble.KeyRange{{Start: start, End: end}})
	defer func() {
		if v == nil {
			_ = pinned.Close() // never fails: it only counts references
		}
	}()
	s.opts.Failpoints.Hit(failpoint.SnapshotOpened)
	record, found, err := state.ReadRecord(reader{pinned}, arc.From)
	if err != nil || !found || record.Arc != arc {
		return nil, err
	}
	if uint64(record.Shard) != group {
		return nil, kverr.New(kverr.Conflict, "slot %d belongs to shard %d", arc.From, record.Shard)
	}
	applied, found, err := state.LoadApplied(reader{pinned}, arc.From)
	if err == nil && !found {
		err = kverr.New(kverr.Internal, "a record without an applied position")
	}
	if err != nil {
		return nil, err
	}
	conf, err := decodeConfiguration(applied.Configuration)
	if err != nil {
		return nil, err
	}
	estimate, err := s.opts.DB.EstimateDiskUsage(start, end)
	if err != nil {
		return nil, err
	}
	return &View{source: s, pinned: pinned, record: record, applied: applied, conf: conf, estimate: estimate}, nil
}

func errOpen(group uint64, err error) error {
	e := kverr.New(kverr.KindOf(err), "shard %d: open a snapshot to send: %w", group, err)
	e.Shard = group
	return e
}

// decodeConfiguration is raft's, which panics at what is not a configuration.
func decodeConfiguration(b []byte) (c raft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = kverr.New(kverr.Internal, "malformed raft configuration: %v", r)
		}
	}()
	return raft.DecodeConfiguration(b), nil
}

// Meta is the view as Raft sees it, with the given id.
func (v *View) Meta(id string) *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: id, Index: v.applied.Index, Term: v.applied.Term,
		Configuration: v.conf, ConfigurationIndex: v.applied.ConfigurationIndex, Size: int64(min(v.estimate, math.MaxInt64)),
	}
}

// Applied is the position in the view.
func (v *View) Applied() state.AppliedState { return v.applied }

// Record is the shard's record in the view.
func (v *View) Record() shardmap.Record { return v.record }

// Arc is the shard's arc in the view.
func (v *View) Arc() shardmap.Arc { return v.record.Arc }

// EstimatedBytes is about how much Stream will send. What is still in memory is
// not counted.
func (v *View) EstimatedBytes() uint64 { return v.estimate }

// TableFormat is the version of the format of the tables that Stream builds.
func (v *View) TableFormat() uint32 { return v.source.version }

// Read implements io.Reader by failing: a view is streamed as files, and whoever
// reads it as bytes would send something that nobody can install.
func (v *View) Read([]byte) (int, error) {
	return 0, kverr.New(kverr.Internal, "shard %d: a snapshot's view was read as bytes: it can only be streamed",
		v.record.Shard)
}

// Close releases what the view pins. It may be called twice.
func (v *View) Close() error {
	if v.pinned == nil {
		return nil
	}
	err := v.pinned.Close()
	v.pinned = nil
	if v.release != nil {
		v.release()
	}
	return err
}
