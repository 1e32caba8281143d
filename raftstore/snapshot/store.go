package snapshot

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// StoreOptions configure a Store.
type StoreOptions struct {
	// Group is whose store it is.
	Group uint64
	// Durable reads the group's applied state from a view that holds only durable
	// data; false means there is none. Required.
	Durable func() (state.AppliedState, bool, error)
	// Open opens a view of the group's live state, to be sent. Nil: nothing is.
	Open func() (*View, error)
	// Pin keeps the log from index on until release is called; it is called
	// before the view is opened, release when that is closed. Nil: no pin.
	Pin func(index uint64) (release func())
	// OpenFailed hears why a snapshot could not be opened to be sent. Raft only
	// logs it, and its leader goes on leading with a follower that gets nothing.
	// It must not block.
	OpenFailed func(error)
	// Logger hears of it as well. Default: nobody.
	Logger *slog.Logger
}

// Store implements raft.SnapshotStore for one group. Safe for concurrent use.
type Store struct{ opts StoreOptions }

var _ raft.SnapshotStore = (*Store)(nil)

// NewStore returns the store of a group.
func NewStore(o StoreOptions) *Store { return &Store{opts: o} }

// List answers the one snapshot that the durable state amounts to (SN1).
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	applied, ok, err := s.opts.Durable()
	if err != nil {
		return nil, fmt.Errorf("snapshot: read durable applied state: %w", err)
	}
	if !ok {
		return nil, nil
	}
	return []*raft.SnapshotMeta{{
		Version:            raft.SnapshotVersionMax,
		ID:                 fmt.Sprintf("%d-%d", applied.Term, applied.Index),
		Index:              applied.Index,
		Term:               applied.Term,
		Configuration:      raft.DecodeConfiguration(applied.Configuration),
		ConfigurationIndex: applied.ConfigurationIndex,
	}}, nil
}

// Create takes a received descriptor; at most one is kept, the latest.
func (s *Store) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64,
	raft.Transport) (raft.SnapshotSink, error) {
	return nil, kverr.New(kverr.Internal, "being built")
}

// Open answers a *View for an id from List, at the position applied now, and the
// received descriptor for the id of a sink. A view is never older than the list.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, kverr.New(kverr.Internal, "snapshot %s: being built", id)
}
