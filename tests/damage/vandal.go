package damage

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// kindOf names the kind of a file by its path below the data directory.
func kindOf(path string) string {
	base := path[strings.LastIndexByte(path, '/')+1:]
	db := ""
	switch {
	case strings.Contains(path, "/store/log/"):
		db = "log "
	case strings.Contains(path, "/store/state/"):
		db = "state "
	case strings.Contains(path, "/staging/"):
		return "staging"
	}
	switch {
	case strings.HasSuffix(base, ".log"):
		return db + "WAL"
	case strings.HasSuffix(base, ".sst"):
		return db + "table"
	case strings.HasPrefix(base, "MANIFEST"):
		return db + "MANIFEST"
	case strings.HasPrefix(base, "OPTIONS"):
		return db + "OPTIONS"
	case strings.HasPrefix(base, "marker."):
		return db + "marker"
	}
	return db + base
}

// damage is one change to one file.
type damage struct {
	Path string
	Kind string
	What string
}

func (d damage) String() string { return fmt.Sprintf("%s: %s", d.Path, d.What) }

// files lists all files with content by kind, in order.
func files(fs vfs.FS, dir string) (map[string][]string, error) {
	found := make(map[string][]string)
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			below, err := files(fs, path)
			if err != nil {
				return nil, err
			}
			for kind, paths := range below {
				found[kind] = append(found[kind], paths...)
			}
			continue
		}
		if info.Size() > 0 && name != "ballast" {
			found[kindOf(path)] = append(found[kindOf(path)], path)
		}
	}
	return found, nil
}

// vandalise damages one file: of one kind after the other, turn by turn.
func vandalise(fs vfs.FS, dir string, turn int, rng *rand.Rand) (damage, error) {
	all, err := files(fs, dir)
	if err != nil {
		return damage{}, err
	}
	kinds := make([]string, 0, len(all))
	for kind := range all {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	kind := kinds[turn%len(kinds)]
	path := all[kind][rng.IntN(len(all[kind]))]
	content, err := read(fs, path)
	if err != nil {
		return damage{}, err
	}
	d := damage{Path: path, Kind: kind}
	at := rng.IntN(len(content))
	switch rng.IntN(4) {
	case 0:
		d.What = fmt.Sprintf("cut at %d of %d", at, len(content))
		content = content[:at]
	case 1:
		to := min(len(content), at+1+rng.IntN(512))
		d.What = fmt.Sprintf("zeros from %d to %d of %d", at, to, len(content))
		clear(content[at:to])
	default:
		bit := byte(1) << rng.IntN(8)
		d.What = fmt.Sprintf("bit %#x of byte %d of %d flipped", bit, at, len(content))
		content[at] ^= bit
	}
	return d, write(fs, path, content)
}

func read(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return content, err
}

func write(fs vfs.FS, path string, content []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
