package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"sync"
	"time"

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
	// Dir is the staging directory, this package's alone, in a directory that lasts.
	// Required.
	Dir string
	// Nonce is random and new for every process start: it keeps the names of
	// stagings apart. Required.
	Nonce uint64
	// TableFormat is the newest version of the table format that the state
	// database can read: TableFormat of it. Required.
	TableFormat uint32
	// MaxIncoming is how many transfers are received at a time. Default 2.
	MaxIncoming int
	// Room reports whether the disk has room for so many more bytes. Nil: it has.
	Room func(bytes uint64) bool
	// Logger hears of what was removed. Default: nobody.
	Logger *slog.Logger
	// Failpoints let a test crash the node between steps. Nil in production.
	Failpoints *failpoint.Set
}

// Staging is the directory where a node keeps what is sent to it until it is
// ingested. Safe for concurrent use.
type Staging struct {
	opts StagingOptions

	mu struct {
		sync.Mutex
		recovered bool
		names     uint64               // how many were given out
		incoming  map[uint64]*Incoming // by group: a node has one replica of each
		complete  map[string]*complete // by name
	}
}

// complete is a staging with its manifest.
type complete struct {
	Descriptor
	taken bool // somebody ingests it: only Done removes it
}

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
	if o.MaxIncoming == 0 {
		o.MaxIncoming = 2
	}
	if o.Room == nil {
		o.Room = func(uint64) bool { return true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil || o.Dir == "" || o.Nonce == 0 || o.TableFormat == 0 {
		return nil, kverr.New(kverr.Invalid, "snapshot: file system, directory, nonce and table format are required")
	}
	s := &Staging{opts: o}
	s.mu.incoming = make(map[uint64]*Incoming)
	s.mu.complete = make(map[string]*complete)
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("snapshot: make %s: %w", o.Dir, err)
	}
	if err := syncDir(o.FS, o.FS.PathDir(o.Dir)); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return s, nil
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open directory %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// Recover finds what an earlier life left. It removes every staging that is not
// complete or that referred says no ingest marker refers to, and says how many.
func (s *Staging) Recover(referred func(Descriptor) bool) (removed int, err error) {
	names, err := s.opts.FS.List(s.opts.Dir)
	if err != nil {
		return 0, fmt.Errorf("snapshot: list %s: %w", s.opts.Dir, err)
	}
	kept := make(map[string]*complete)
	for _, name := range names {
		m, why := readManifest(s.opts.FS, s.opts.Dir, name)
		if why == nil {
			why = s.sizes(m)
		}
		if why == nil && referred(m.descriptor) {
			kept[name] = &complete{Descriptor: m.descriptor}
			continue
		}
		if err := s.remove(name); err != nil {
			return removed, err
		}
		removed++
		s.opts.Logger.Info("removed the rest of a snapshot's transfer", "staging", name, "incomplete", why)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.complete, s.mu.recovered = kept, true
	return removed, nil
}

// sizes checks that all files are there; Take reads them.
func (s *Staging) sizes(m manifest) error {
	for i, f := range m.files {
		name := s.path(m.descriptor.Name, fileName(i))
		info, err := s.opts.FS.Stat(name)
		if err != nil {
			return err
		}
		if uint64(info.Size()) != f.bytes {
			return kverr.New(kverr.Internal, "%s has %d bytes instead of %d", name, info.Size(), f.bytes)
		}
	}
	return nil
}

func (s *Staging) path(name, file string) string {
	return s.opts.FS.PathJoin(s.opts.Dir, name, file)
}

// remove need not last: what comes back after a crash is removed by Recover.
func (s *Staging) remove(name string) error {
	if err := s.opts.FS.RemoveAll(s.opts.FS.PathJoin(s.opts.Dir, name)); err != nil {
		return fmt.Errorf("snapshot: remove staging %s: %w", name, err)
	}
	return nil
}

// Begin admits a transfer and makes its directory. What is complete of the same
// group, and not taken, is removed first. Errors: Overloaded when one is being received or
// ingested for this replica already, or too many are for the node; Unavailable
// when there is no room on disk; Format when the tables are newer than this
// build.
func (s *Staging) Begin(o Offer) (*Incoming, error) {
	if o.TableFormat == 0 || o.TableFormat > s.opts.TableFormat {
		return nil, kverr.New(kverr.Format, "snapshot in table format %d, this build reads up to %d: upgrade this node",
			o.TableFormat, s.opts.TableFormat)
	}
	if !o.Arc.Valid() {
		return nil, kverr.New(kverr.Invalid, "snapshot of the malformed arc %s", o.Arc)
	}
	in, stale, err := s.reserve(o)
	if err != nil {
		return nil, err
	}
	for _, name := range stale {
		if err := s.remove(name); err != nil {
			in.Abort()
			return nil, errStaging(err)
		}
	}
	if err := s.room(); err != nil {
		in.Abort()
		return nil, err
	}
	if err := in.start(); err != nil {
		in.Abort()
		return nil, errStaging(err)
	}
	s.opts.Failpoints.Hit(failpoint.SnapshotStaging)
	return in, nil
}

// reserve takes one of the places.
func (s *Staging) reserve(o Offer) (in *Incoming, stale []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := func(format string, args ...any) (*Incoming, []string, error) {
		e := kverr.New(kverr.Overloaded, format, args...)
		e.Shard, e.RetryAfter = o.Group, time.Second
		return nil, nil, e
	}
	if !s.mu.recovered {
		return nil, nil, kverr.New(kverr.Internal, "snapshot: Begin before Recover")
	}
	if s.mu.incoming[o.Group] != nil {
		return busy("a snapshot of shard %d is being received already", o.Group)
	}
	if len(s.mu.incoming) >= s.opts.MaxIncoming {
		return busy("%d snapshots are being received already", len(s.mu.incoming))
	}
	for name, c := range s.mu.complete {
		if c.Group != o.Group {
			continue
		}
		if c.taken {
			return busy("a snapshot of shard %d is being ingested", o.Group)
		}
		stale = append(stale, name)
	}
	for _, name := range stale {
		delete(s.mu.complete, name)
	}
	s.mu.names++
	in = newIncoming(s, o, fmt.Sprintf("g%d-r%d-i%d-%x-%d", o.Group, o.Replica, o.Index, s.opts.Nonce, s.mu.names))
	s.mu.incoming[o.Group] = in
	return in, stale, nil
}

// room is an error unless what was announced and has not come yet fits the disk
// (SN5).
func (s *Staging) room() error {
	var need uint64
	s.mu.Lock()
	for _, in := range s.mu.incoming {
		sum, carry := bits.Add64(need, in.expected(), 0)
		if need = sum; carry != 0 {
			need = ^uint64(0)
			break
		}
	}
	s.mu.Unlock()
	if !s.opts.Room(need) {
		return kverr.New(kverr.Unavailable, "no room for snapshots of %d more bytes in %s: free space on this node's disk", need, s.opts.Dir)
	}
	return nil
}

// errStaging says that this node could not keep a snapshot. The node lives on.
func errStaging(err error) error {
	return kverr.New(kverr.Unavailable, "keep a snapshot: %w", err)
}

// StagingStats are figures of a Staging.
type StagingStats struct {
	Incoming int    // being received
	Complete int    // waiting to be ingested or removed
	Bytes    uint64 // received of both
}

// Stats are the figures now.
func (s *Staging) Stats() StagingStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := StagingStats{Incoming: len(s.mu.incoming), Complete: len(s.mu.complete)}
	for _, in := range s.mu.incoming {
		st.Bytes += in.received.Load()
	}
	for _, c := range s.mu.complete {
		st.Bytes += c.Bytes
	}
	return st
}
