package snapshot

import (
	"errors"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// Take answers the names of a complete staging's files, in the order of their
// keys, to be ingested; they are absolute if Dir is. It reads all of them again:
// an error means that not a byte of it may be used, and that the transfer must be
// repeated. From then on only Done removes the staging.
func (s *Staging) Take(d Descriptor) ([]string, error) {
	s.mu.Lock()
	c := s.mu.complete[d.Name]
	if c == nil || c.Descriptor != d || c.taken {
		s.mu.Unlock()
		return nil, kverr.New(kverr.Unavailable, "staging %s is not there, or somebody's", d.Name)
	}
	c.taken = true
	s.mu.Unlock()
	paths, err := s.verify(d)
	if err != nil {
		s.mu.Lock()
		c.taken = false
		s.mu.Unlock()
		return nil, kverr.New(kverr.Unavailable, "staging %s: %w", d.Name, err)
	}
	return paths, nil
}

// verify reads every byte of a staging (SN3).
func (s *Staging) verify(d Descriptor) ([]string, error) {
	m, err := readManifest(s.opts.FS, s.opts.Dir, d.Name)
	if err != nil {
		return nil, err
	}
	if m.descriptor != d {
		return nil, kverr.New(kverr.Internal, "its manifest describes another one")
	}
	paths := make([]string, len(m.files))
	buf := make([]byte, 64<<10)
	for i, f := range m.files {
		paths[i] = s.path(d.Name, fileName(i))
		got, err := sumFile(s.opts.FS, paths[i], buf)
		if err != nil {
			return nil, err
		}
		if got != f {
			return nil, kverr.New(kverr.Internal, "%s is damaged: %d bytes with sum %016x instead of %d with %016x",
				paths[i], got.bytes, got.sum, f.bytes, f.sum)
		}
	}
	return paths, nil
}

func sumFile(fs vfs.FS, name string, buf []byte) (got file, err error) {
	f, err := fs.Open(name, vfs.SequentialReadsOption)
	if err != nil {
		return file{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := xxhash.New()
	n, err := io.CopyBuffer(h, onlyReader{f}, buf)
	return file{uint64(n), h.Sum64()}, err
}

// onlyReader hides other methods, so that the given buffer is used.
type onlyReader struct{ io.Reader }

// Done removes a staging that was ingested or will not be. It is no error when
// it is gone already.
func (s *Staging) Done(d Descriptor) error {
	s.mu.Lock()
	delete(s.mu.complete, d.Name)
	s.mu.Unlock()
	if !validName(d.Name) {
		return kverr.New(kverr.Invalid, "%q does not name a staging", d.Name)
	}
	return s.remove(d.Name)
}

// Find answers the complete staging of a group's state at an index, for an ingest
// that a crash interrupted. Take says whether it is whole.
func (s *Staging) Find(group, index uint64) (Descriptor, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.mu.complete {
		if c.Group == group && c.Index == index {
			return c.Descriptor, true
		}
	}
	return Descriptor{}, false
}
