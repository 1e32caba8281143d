// Package snapshot derives Raft's list of snapshots from the state machine: a
// snapshot of a group is the fact that its state is durable up to an index, and
// nothing else is stored.
//
// It neither builds nor installs snapshots. Logs reach back to the group's
// birth in this version, so no follower can need one; Create and Open answer
// with typed errors that Raft logs, should that ever be untrue.
//
// Invariant SN1: List is read from what is durable in the state database, never
// from a separate file, so it cannot claim more than a crash would leave.
package snapshot

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/raftstore/state"
)

// Store implements raft.SnapshotStore for one group.
type Store struct {
	durable func() (state.AppliedState, bool, error)
}

var _ raft.SnapshotStore = (*Store)(nil)

// New returns the derived store of a group. durable reads the group's applied
// state from a view that holds only durable data; false means there is none.
func New(durable func() (state.AppliedState, bool, error)) *Store {
	return &Store{durable: durable}
}

// List answers the one snapshot that the durable state amounts to.
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	applied, ok, err := s.durable()
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

// Create refuses: nothing takes snapshots through Raft.
func (s *Store) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64,
	raft.Transport) (raft.SnapshotSink, error) {
	return nil, kverr.New(kverr.Internal, "snapshot: this version installs no snapshots")
}

// Open refuses: nothing ships snapshots.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return nil, nil, kverr.New(kverr.Internal, "snapshot %s: this version ships no snapshots", id)
}
