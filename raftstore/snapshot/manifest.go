package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// manifestFormat numbers the encoding of a manifest: format u8, the descriptor
// behind its length (uvarint), per file its bytes (uvarint) and XXH64 (8 bytes),
// CRC-32C of all of it.
const manifestFormat = 1

const (
	manifestName     = "manifest"
	maxManifestBytes = 64 << 20 // of some petabytes; what claims more is not one
)

// file is what the manifest says of one.
type file struct{ bytes, sum uint64 }

// manifest is what makes a staging complete.
type manifest struct {
	descriptor Descriptor
	files      []file
}

func fileName(i int) string { return fmt.Sprintf("%06d.sst", i+1) }

func (m manifest) encode() []byte {
	d := m.descriptor.Encode()
	b := append(make([]byte, 0, 32+len(d)+18*len(m.files)), manifestFormat)
	b = binary.AppendUvarint(b, uint64(len(d)))
	b = append(b, d...)
	for _, f := range m.files {
		b = binary.AppendUvarint(b, f.bytes)
		b = binary.BigEndian.AppendUint64(b, f.sum)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeManifest accepts what encode makes and nothing else: also the sums of the
// files must add up to what the descriptor says.
func decodeManifest(b []byte) (manifest, error) {
	if len(b) > 0 && b[0] != manifestFormat {
		return manifest{}, kverr.New(kverr.Format, "staging manifest of format %d, this build knows %d", b[0], manifestFormat)
	}
	if len(b) < 6 || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return manifest{}, errManifest()
	}
	rest := b[1 : len(b)-4]
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return manifest{}, errManifest()
	}
	d, err := DecodeDescriptor(rest[n : n+int(length)])
	if err != nil {
		return manifest{}, err
	}
	rest = rest[n+int(length):]
	m := manifest{descriptor: d}
	t := newTotals()
	for len(rest) > 0 {
		size, n := binary.Uvarint(rest)
		if n <= 0 || len(rest) < n+8 {
			return manifest{}, errManifest()
		}
		sum := binary.BigEndian.Uint64(rest[n:])
		rest = rest[n+8:]
		m.files = append(m.files, file{size, sum})
		t.add(size, sum)
	}
	if t.files != d.Files || t.bytes != d.Bytes || t.sums.Sum64() != d.Sum {
		return manifest{}, errManifest()
	}
	return m, nil
}

func errManifest() error { return kverr.New(kverr.Internal, "malformed staging manifest") }

// readManifest reads that of a directory and checks that it is its own.
func readManifest(fs vfs.FS, dir, name string) (m manifest, err error) {
	f, err := fs.Open(fs.PathJoin(dir, name, manifestName))
	if err != nil {
		return manifest{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxManifestBytes+1))
	if err != nil {
		return manifest{}, err
	}
	if len(b) > maxManifestBytes {
		return manifest{}, errManifest()
	}
	if m, err = decodeManifest(b); err == nil && m.descriptor.Name != name {
		err = kverr.New(kverr.Internal, "staging %s holds the manifest of %s", name, m.descriptor.Name)
	}
	return m, err
}
