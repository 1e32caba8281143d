package identity

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// maxFileBytes bounds what is read into memory from a file of ours.
const maxFileBytes = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writeFile replaces dir/name as a whole and returns once that is durable.
func writeFile(fs vfs.FS, dir, name string, data []byte) error {
	tmp := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		// Before the rename, or a crash could leave the new name on old blocks.
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

// readFile returns the content, or nil and no error when there is no such file.
func readFile(fs vfs.FS, path string) (data []byte, err error) {
	f, err := fs.Open(path)
	if err != nil {
		if isNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = kverr.New(kverr.Format, "%s: over %d bytes", path, maxFileBytes)
	}
	return data, err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir creates dir and makes every name on the way to it durable.
func makeDir(fs vfs.FS, dir string) error {
	var created []string
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil {
			break
		} else if !isNotExist(err) {
			return err
		}
		created = append(created, d)
		if fs.PathDir(d) == d {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range created {
		if err := syncDir(fs, fs.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// An envelope protects a protobuf file.
//
//	| magic 4 | format u32 | crc32c of the rest u32 | payload |
const (
	envelopeFormat = 1
	envelopeHeader = 12
)

func seal(magic string, payload []byte) []byte {
	b := make([]byte, 0, envelopeHeader+len(payload))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, envelopeFormat)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

func unseal(magic string, b []byte) ([]byte, error) {
	if len(b) < envelopeHeader || string(b[:4]) != magic {
		return nil, kverr.New(kverr.Format, "not a %s file", magic)
	}
	if f := binary.BigEndian.Uint32(b[4:]); f != envelopeFormat {
		return nil, kverr.New(kverr.Format, "format %d of a %s file is not known to this build (it knows %d)", f, magic, envelopeFormat)
	}
	payload := b[envelopeHeader:]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return nil, kverr.New(kverr.Format, "a %s file is damaged: its checksum does not match", magic)
	}
	return payload, nil
}
