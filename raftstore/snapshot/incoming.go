package snapshot

import (
	"errors"
	"hash/crc32"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/failpoint"
	"github.com/ringfort/ringfort/internal/kverr"
)

const (
	// bytesPerSync lets the disk write while bytes still come: one sync of a whole
	// file would hold up the log's syncs.
	bytesPerSync = 1 << 20
	// roomEvery is after how many received bytes the disk is looked at again: an
	// estimate may be low, and others write too.
	roomEvery = 32 << 20
)

// diskWrites is how Pebble's statistics call what is written here.
const diskWrites vfs.DiskWriteCategory = "snapshot-staging"

// Incoming is one transfer being received. It implements Sink. It belongs to one
// goroutine. Abort must be called if Raft does not take what it received.
type Incoming struct {
	staging *Staging
	offer   Offer
	name    string

	err   error    // the first one; nothing is taken any more
	file  vfs.File // nil between files
	bytes uint64   // of it
	sum   *xxhash.Digest
	files []file
	all   *totals

	received atomic.Uint64
	looked   uint64 // received when the disk was last looked at
	done     *Descriptor
	aborted  bool
}

var _ Sink = (*Incoming)(nil)

func newIncoming(s *Staging, o Offer, name string) *Incoming {
	return &Incoming{staging: s, offer: o, name: name, sum: xxhash.New(), all: newTotals()}
}

// expected is what may still come.
func (in *Incoming) expected() uint64 {
	if got := in.received.Load(); got < in.offer.Bytes {
		return in.offer.Bytes - got
	}
	return 0
}

func (in *Incoming) start() error {
	fs := in.staging.opts.FS
	if err := fs.MkdirAll(fs.PathJoin(in.staging.opts.Dir, in.name), 0o700); err != nil {
		return err
	}
	return syncDir(fs, in.staging.opts.Dir)
}

// Chunk implements Sink.
func (in *Incoming) Chunk(data []byte, crc uint32) error {
	return in.step(func() error {
		if len(data) == 0 || len(data) > maxPiece {
			return in.damaged("a chunk of %d bytes", len(data))
		}
		if got := crc32.Checksum(data, castagnoli); got != crc {
			return in.damaged("a chunk with checksum %08x instead of %08x", got, crc)
		}
		if in.file == nil {
			if err := in.create(); err != nil {
				return errStaging(err)
			}
		}
		_, _ = in.sum.Write(data) // never fails
		if _, err := in.file.Write(data); err != nil {
			return errStaging(err)
		}
		in.bytes += uint64(len(data))
		if got := in.received.Add(uint64(len(data))); got-in.looked >= roomEvery {
			in.looked = got
			return in.staging.room()
		}
		return nil
	})
}

func (in *Incoming) create() error {
	f, err := in.staging.opts.FS.Create(in.staging.path(in.name, fileName(len(in.files))), diskWrites)
	if err != nil {
		return err
	}
	in.file = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: bytesPerSync, NoSyncOnClose: true})
	in.bytes = 0
	in.sum.Reset()
	return nil
}

// EndFile implements Sink: the file is synced and closed.
func (in *Incoming) EndFile(bytes, sum uint64) error {
	return in.step(func() error {
		if in.file == nil {
			return in.damaged("the end of a file that did not begin")
		}
		if got := in.sum.Sum64(); in.bytes != bytes || got != sum {
			return in.damaged("a file of %d bytes with sum %016x instead of %d with %016x", in.bytes, got, bytes, sum)
		}
		if err := in.closeFile(); err != nil {
			return errStaging(err)
		}
		in.files = append(in.files, file{bytes, sum})
		in.all.add(bytes, sum)
		in.staging.opts.Failpoints.Hit(failpoint.SnapshotFileKept)
		return nil
	})
}

// closeFile syncs the current file, if there is one, and closes it.
func (in *Incoming) closeFile() error {
	f := in.file
	in.file = nil
	return errors.Join(f.Sync(), f.Close())
}

// End implements Sink: names and manifest are synced, the staging is complete.
func (in *Incoming) End(files, bytes, sum uint64) error {
	return in.step(func() error {
		if got := in.all.sums.Sum64(); in.file != nil || files == 0 ||
			in.all.files != files || in.all.bytes != bytes || got != sum {
			return in.damaged("%d files of %d bytes with sum %016x instead of %d of %d with %016x",
				in.all.files, in.all.bytes, got, files, bytes, sum)
		}
		d := Descriptor{
			Group: in.offer.Group, Replica: in.offer.Replica, Index: in.offer.Index, Term: in.offer.Term,
			Arc: in.offer.Arc, Name: in.name, Files: files, Bytes: bytes, Sum: sum,
		}
		if err := in.seal(manifest{d, in.files}); err != nil {
			return errStaging(err)
		}
		in.done = &d
		s := in.staging
		s.mu.Lock()
		delete(s.mu.incoming, in.offer.Group)
		s.mu.complete[d.Name] = &complete{Descriptor: d}
		s.mu.Unlock()
		s.opts.Failpoints.Hit(failpoint.SnapshotStaged)
		return nil
	})
}

// seal writes the manifest, after all bytes that it speaks of (SN3). Of names a crash
// may leave some and not others: Recover looks for all of them.
func (in *Incoming) seal(m manifest) error {
	fs, dir := in.staging.opts.FS, in.staging.opts.FS.PathJoin(in.staging.opts.Dir, in.name)
	f, err := fs.Create(in.staging.path(in.name, manifestName), diskWrites)
	if err != nil {
		return err
	}
	_, err = f.Write(m.encode())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// step does one step unless an earlier one failed.
func (in *Incoming) step(do func() error) error {
	switch {
	case in.err != nil:
		return in.err
	case in.done != nil:
		return in.damaged("more after the end")
	case in.aborted:
		return kverr.New(kverr.Closed, "the transfer was aborted")
	}
	in.err = do()
	return in.err
}

func (in *Incoming) damaged(format string, args ...any) error {
	e := kverr.New(kverr.Invalid, "snapshot of shard %d: damaged on its way: "+format, append([]any{in.offer.Group}, args...)...)
	e.Shard = in.offer.Group
	return e
}

// Descriptor is what Raft gets, encoded. It is nil before End has succeeded.
func (in *Incoming) Descriptor() []byte {
	if in.done == nil {
		return nil
	}
	return in.done.Encode()
}

// Abort removes all of it, and gives the place to others. It may be called at any
// time and more than once.
func (in *Incoming) Abort() {
	if in.aborted {
		return
	}
	in.aborted = true
	s := in.staging
	var err error
	if in.file != nil {
		err = in.file.Close()
		in.file = nil
	}
	if err = errors.Join(err, s.remove(in.name)); err != nil { // Recover tries again
		s.opts.Logger.Warn("could not clean up after a snapshot's transfer", "staging", in.name, "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.complete, in.name)
	if s.mu.incoming[in.offer.Group] == in {
		delete(s.mu.incoming, in.offer.Group)
	}
}
