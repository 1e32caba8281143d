package snapshot

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// StagingOptions configure a Staging. Zero means the default where one is named.
type StagingOptions struct {
	// FS is that of the state database: files must be on the same one to be
	// ingested without a copy. Required.
	FS vfs.FS
	// Dir is the staging directory, this package's alone. Required.
	Dir string
	// Nonce is random and new for every process start: it keeps the names of
	// stagings apart. Required.
	Nonce uint64
	// TableFormat is the newest version of the table format that the state
	// database can read. Required.
	TableFormat uint32
	// MaxIncoming is how many transfers are received at a time. Default 2.
	MaxIncoming int
	// ReserveBytes of the disk stay free of stagings. Default 256 MiB.
	ReserveBytes uint64
	// Logger hears of what was removed. Default: nobody.
	Logger *slog.Logger
	// Failpoints let a test crash the node between steps. Nil in production.
	Failpoints *failpoint.Set
}

// Staging is the directory where a node keeps what is sent to it until it is
// ingested. Safe for concurrent use.
type Staging struct{ opts StagingOptions }

// Offer describes what somebody wants to send to a replica of this node.
type Offer struct {
	Group       uint64
	Replica     shardmap.ReplicaID
	Index, Term uint64
	Arc         shardmap.Arc
	Bytes       uint64 // about
	TableFormat uint32
}

// OpenStaging makes the directory, durably, if it is not there. Recover must be
// called before the first Begin.
func OpenStaging(o StagingOptions) (*Staging, error) {
	return nil, kverr.New(kverr.Internal, "being built")
}

// Recover finds what an earlier life left. It removes every staging that is not
// complete or that referred says no ingest marker refers to, and says how many.
func (s *Staging) Recover(referred func(Descriptor) bool) (removed int, err error) {
	return 0, kverr.New(kverr.Internal, "being built")
}

// Begin admits a transfer and makes its directory. A complete staging of the same
// replica is removed first. Errors: Overloaded when one is being received for this
// replica already or too many are for the node; Unavailable when there is no
// room on disk; Format when the tables are newer than this build.
func (s *Staging) Begin(o Offer) (*Incoming, error) {
	return nil, kverr.New(kverr.Internal, "being built")
}

// Take answers the absolute names of a complete staging's files, in the order of
// their keys, to be ingested. It reads all of them again: an error means that not
// a byte of it may be used, and that the transfer must be repeated.
func (s *Staging) Take(d Descriptor) ([]string, error) {
	return nil, kverr.New(kverr.Internal, "being built")
}

// Done removes a staging that was ingested or will not be. It is no error when
// it is gone already.
func (s *Staging) Done(d Descriptor) error { return kverr.New(kverr.Internal, "being built") }

// Find answers the complete staging of a group's state at an index, for an ingest
// that a crash interrupted. Take says whether it is whole.
func (s *Staging) Find(group, index uint64) (Descriptor, bool, error) {
	return Descriptor{}, false, kverr.New(kverr.Internal, "being built")
}

// StagingStats are figures of a Staging.
type StagingStats struct {
	Incoming int    // being received
	Complete int    // waiting to be ingested or removed
	Bytes    uint64 // on disk, of both
}

// Stats are the figures now.
func (s *Staging) Stats() StagingStats { return StagingStats{} }

// Incoming is one transfer being received. It implements Sink. It belongs to one
// goroutine. Abort must be called if it is not handed to Raft.
type Incoming struct{}

var _ Sink = (*Incoming)(nil)

// Chunk implements Sink.
func (in *Incoming) Chunk(data []byte, crc uint32) error { return nil }

// EndFile implements Sink: the file is synced and closed.
func (in *Incoming) EndFile(bytes, sum uint64) error { return nil }

// End implements Sink: names and manifest are synced, the staging is complete.
func (in *Incoming) End(files, bytes, sum uint64) error { return nil }

// Descriptor is what Raft gets, encoded. It is nil before End has succeeded.
func (in *Incoming) Descriptor() []byte { return nil }

// Abort removes all of it. It may be called at any time and more than once; after
// Done it does nothing.
func (in *Incoming) Abort() {}
