package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

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
	// before the view is opened, with an index that the view has or follows, and
	// release when that is closed. Nil: no pin.
	Pin func(index uint64) (release func())
	// OpenFailed hears why a snapshot could not be opened to be sent. Raft only
	// logs it, and its leader goes on leading with a follower that gets nothing.
	// It must not block.
	OpenFailed func(error)
	// Logger hears of it as well. Default: nobody.
	Logger *slog.Logger
}

// Store implements raft.SnapshotStore for one group. Safe for concurrent use.
type Store struct {
	opts StoreOptions

	mu struct {
		sync.Mutex
		sinks    uint64
		received *received // the latest, until the next
	}
}

// received is a descriptor that raft has taken from a leader.
type received struct {
	meta       raft.SnapshotMeta
	descriptor []byte
}

var _ raft.SnapshotStore = (*Store)(nil)

// NewStore returns the store of a group.
func NewStore(o StoreOptions) *Store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Store{opts: o}
}

// List answers the one snapshot that the durable state amounts to (SN1).
func (s *Store) List() ([]*raft.SnapshotMeta, error) {
	applied, ok, err := s.opts.Durable()
	if err != nil {
		return nil, fmt.Errorf("snapshot: read durable applied state: %w", err)
	}
	if !ok {
		return nil, nil
	}
	conf, err := decodeConfiguration(applied.Configuration)
	if err != nil {
		return nil, fmt.Errorf("snapshot: read durable applied state: %w", err)
	}
	return []*raft.SnapshotMeta{{
		Version: raft.SnapshotVersionMax, ID: listID(applied.Term, applied.Index),
		Index: applied.Index, Term: applied.Term,
		Configuration: conf, ConfigurationIndex: applied.ConfigurationIndex,
	}}, nil
}

func listID(term, index uint64) string { return fmt.Sprintf("%d-%d", term, index) }

// receivedPrefix tells ids of sinks from those of List.
const receivedPrefix = "received-"

// Create takes a descriptor that a leader sent; at most one is kept, the latest.
func (s *Store) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64,
	_ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sinks++
	return &sink{store: s, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%s%d-%d", receivedPrefix, index, s.mu.sinks),
		Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex,
	}}, nil
}

// sink is a received descriptor on its way into the store. Only raft's main loop
// uses it.
type sink struct {
	store *Store
	meta  raft.SnapshotMeta
	data  []byte
	ended bool
}

// ID implements raft.SnapshotSink.
func (k *sink) ID() string { return k.meta.ID }

// Write implements raft.SnapshotSink.
func (k *sink) Write(p []byte) (int, error) {
	if k.ended || len(k.data)+len(p) > maxDescriptorBytes {
		return 0, kverr.New(kverr.Invalid, "shard %d: more than a snapshot's descriptor", k.store.opts.Group)
	}
	k.data = append(k.data, p...)
	return len(p), nil
}

// Close implements raft.SnapshotSink: the descriptor must be of what raft was told.
func (k *sink) Close() error {
	if k.ended {
		return nil
	}
	k.ended = true
	d, err := DecodeDescriptor(k.data)
	if err != nil {
		return err
	}
	if d.Group != k.store.opts.Group || d.Index != k.meta.Index || d.Term != k.meta.Term {
		return kverr.New(kverr.Invalid, "shard %d: raft takes a snapshot of (%d, %d), its descriptor is of shard %d (%d, %d)",
			k.store.opts.Group, k.meta.Index, k.meta.Term, d.Group, d.Index, d.Term)
	}
	k.meta.Size = int64(len(k.data))
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	k.store.mu.received = &received{k.meta, k.data}
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	k.ended = true
	return nil
}

// Open answers a *View for an id from List, at the position applied now, and the
// received descriptor for the id of a sink. A view is never older than the list.
func (s *Store) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if strings.HasPrefix(id, receivedPrefix) {
		return s.openReceived(id)
	}
	v, err := s.openView(id)
	if err != nil {
		s.opts.Logger.Error("cannot open a snapshot: followers that need one get none",
			"shard", s.opts.Group, "id", id, "err", err)
		if s.opts.OpenFailed != nil {
			s.opts.OpenFailed(err)
		}
		return nil, nil, err
	}
	return v.Meta(id), v, nil
}

func (s *Store) openReceived(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.mu.received
	if r == nil || r.meta.ID != id {
		return nil, nil, kverr.New(kverr.Internal, "shard %d: no snapshot %s was received", s.opts.Group, id)
	}
	meta := r.meta
	return &meta, io.NopCloser(bytes.NewReader(r.descriptor)), nil
}

func (s *Store) openView(id string) (v *View, err error) {
	if s.opts.Open == nil {
		return nil, kverr.New(kverr.Unavailable, "shard %d: this node sends no snapshots", s.opts.Group)
	}
	durable, found, err := s.opts.Durable()
	if err != nil {
		return nil, err
	}
	var index, term uint64
	if n, err := fmt.Sscanf(id, "%d-%d", &term, &index); n != 2 || err != nil || listID(term, index) != id {
		return nil, kverr.New(kverr.Invalid, "shard %d: %q names no snapshot", s.opts.Group, id)
	}
	if !found || durable.Index < index {
		return nil, kverr.New(kverr.Internal, "shard %d: snapshot %s was listed, and durable is only %d",
			s.opts.Group, id, durable.Index)
	}
	release := func() {}
	if s.opts.Pin != nil {
		// Before the view: afterwards the log could be cut past it already.
		release = s.opts.Pin(durable.Index + 1)
	}
	if v, err = s.opts.Open(); err != nil {
		release()
		return nil, err
	}
	v.release = release
	if v.applied.Index < index {
		return nil, errors.Join(v.Close(), kverr.New(kverr.Internal,
			"shard %d: the state is at index %d, below its own durable %d", s.opts.Group, v.applied.Index, index))
	}
	return v, nil
}
