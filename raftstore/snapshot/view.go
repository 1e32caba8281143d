package snapshot

import (
	"context"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
	"github.com/ringfort/ringfort/shardmap"
)

// maxPiece is the largest piece of a file that is handed to a Sink.
const maxPiece = 256 << 10

// Sink takes a shard's tables in pieces: those of the first file, its end, those
// of the second one, and after the last file the end of it all. It keeps no data
// after a call returns. An alias, so that packages that do not import each other
// can name the same type.
type Sink = interface {
	// Chunk is the next bytes of the current file and their CRC-32C.
	Chunk(data []byte, crc uint32) error
	// EndFile completes the current file: its length and XXH64.
	EndFile(bytes, sum uint64) error
	// End completes the snapshot: how many files, the bytes of all, and the
	// XXH64 of their sums, each as 8 bytes, big-endian.
	End(files, bytes, sum uint64) error
}

// SourceOptions configure a Source.
type SourceOptions struct {
	// DB is the state database. Required.
	DB *pebble.DB
	// Options are those DB was opened with. Required: tables must be written as
	// the database would write them.
	Options *pebble.Options
	// Limiter bounds what all views together stream. Nil: no limit.
	Limiter *Limiter
	// FileBytes is about how large a table becomes. Default 32 MiB.
	FileBytes int
	// Failpoints let a test crash the node between steps. Nil in production.
	Failpoints *failpoint.Set
}

// Source is what a node's snapshots are made of. Safe for concurrent use.
type Source struct{ opts SourceOptions }

// NewSource returns the source of a node's snapshots.
func NewSource(o SourceOptions) *Source { return &Source{o} }

// Open returns a view of the shard whose arc begins at from, at the position that
// it has applied now. The caller closes it.
func (s *Source) Open(group uint64, from shardmap.Slot) (*View, error) {
	return nil, kverr.New(kverr.Internal, "being built")
}

// View is the state of one shard at one position, ready to be streamed. It pins
// what it shows until it is closed.
type View struct {
	applied state.AppliedState
	arc     shardmap.Arc
}

var _ io.ReadCloser = (*View)(nil)

// Meta is the view as Raft sees it, with the given id.
func (v *View) Meta(id string) *raft.SnapshotMeta { return nil }

// Applied is the position in the view.
func (v *View) Applied() state.AppliedState { return v.applied }

// Arc is the shard's arc in the view.
func (v *View) Arc() shardmap.Arc { return v.arc }

// EstimatedBytes is about how much Stream will send.
func (v *View) EstimatedBytes() uint64 { return 0 }

// TableFormat is the version of the format of the tables that Stream builds.
func (v *View) TableFormat() uint32 { return 0 }

// Stream builds the tables and gives them to the sink, at no more than the
// source's rate. It returns when all was taken, or with the first error. Every
// call builds the same content again.
func (v *View) Stream(ctx context.Context, to Sink) error {
	return kverr.New(kverr.Internal, "being built")
}

// Read implements io.Reader by failing: a view is streamed as files, and whoever
// reads it as bytes would send something that nobody can install.
func (v *View) Read([]byte) (int, error) {
	return 0, kverr.New(kverr.Internal, "a snapshot's view was read as bytes: it can only be streamed")
}

// Close releases what the view pins. It may be called twice.
func (v *View) Close() error { return nil }
