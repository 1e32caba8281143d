package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

// mark is what a group's log has durably reached (L3). The term of the last
// entry is part of it: without it a log that lost a truncation and what came
// after could still be long enough.
type mark struct {
	last, lastTerm uint64
	term           uint64
	voteTerm       uint64
	// floor: the log's boundary has been there, or an ingest marker says that it
	// will be. A database without either holds entries that nobody may send.
	floor uint64
}

// highWaterFile is what the file says.
type highWaterFile struct {
	members uint64 // members.weight
	marks   map[uint64]mark
}

func (f highWaterFile) clone() highWaterFile {
	return highWaterFile{f.members, maps.Clone(f.marks)}
}

// highWater is the file of all groups' marks. It may lag behind the database,
// never run ahead of it: note follows a sync, and what takes something back
// lowers the mark first.
//
//	magic 4 | format u8 | members u64 | groups u32 |
//	groups × (group, last, lastTerm, term, voteTerm, floor u64) | crc32c u32
type highWater struct {
	fs  vfs.FS
	dir string
	// turn is held while the file is written. A channel and not a mutex, since
	// the writer waits for it while the disk works.
	turn    chan struct{}
	written highWaterFile // what the file says; owned by who has the turn
	changed chan struct{} // 1: something was noted since the last write

	mu    sync.Mutex
	noted highWaterFile
}

const (
	highWaterFormat  byte = 2
	highWaterHeader       = 4 + 1 + 8 + 4
	highWaterGroup        = 6 * 8
	highWaterTrailer      = 4
)

var (
	highWaterMagic = [4]byte{'R', 'F', 'H', 'W'}
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
)

func newHighWater(fs vfs.FS, dir string, file highWaterFile) *highWater {
	if file.marks == nil {
		file.marks = make(map[uint64]mark) // a new database
	}
	return &highWater{
		fs: fs, dir: dir, written: file.clone(), noted: file.clone(),
		turn: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// note raises a group's mark to its published state. Only what is synced may be
// noted.
func (h *highWater) note(g *Group) {
	h.mu.Lock()
	h.noted.marks[g.id] = g.state.mark()
	h.mu.Unlock()
	h.tell()
}

// noteMembers raises the count of retired and quarantined replicas.
func (h *highWater) noteMembers(ms *members) {
	weight := ms.weight()
	h.mu.Lock()
	h.noted.members = weight
	h.mu.Unlock()
	h.tell()
}

func (h *highWater) tell() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// lowerLast takes a group's last entry back.
func (h *highWater) lowerLast(g *Group, last, lastTerm uint64) error {
	return h.lower(func(f highWaterFile) bool {
		m := f.marks[g.id]
		more := m.last > last
		if more {
			m.last, m.lastTerm = last, lastTerm
			f.marks[g.id] = m
		}
		return more
	})
}

// lowerFloor takes an ingest back.
func (h *highWater) lowerFloor(g *Group, floor uint64) error {
	return h.lower(func(f highWaterFile) bool {
		m := f.marks[g.id]
		more := m.floor > floor
		if more {
			m.floor = floor
			f.marks[g.id] = m
		}
		return more
	})
}

// forget takes a group back.
func (h *highWater) forget(group uint64) error {
	return h.lower(func(f highWaterFile) bool {
		_, more := f.marks[group]
		delete(f.marks, group)
		return more
	})
}

// lower takes something back, durably when the file says it. less does it and
// reports whether it was there.
func (h *highWater) lower(less func(highWaterFile) bool) error {
	h.turn <- struct{}{} // no older, higher mark is being written after this
	defer func() { <-h.turn }()
	h.mu.Lock()
	less(h.noted)
	h.mu.Unlock()
	if !less(h.written.clone()) {
		return nil
	}
	return h.writeFile()
}

// write makes the file say what is noted.
func (h *highWater) write() error {
	h.turn <- struct{}{}
	defer func() { <-h.turn }()
	return h.writeFile()
}

// writeFile replaces the file. The caller has the turn.
func (h *highWater) writeFile() error {
	h.mu.Lock()
	file := h.noted.clone()
	h.mu.Unlock()
	path := h.fs.PathJoin(h.dir, highWaterName)
	if err := replaceFile(h.fs, h.dir, path, encodeHighWater(file)); err != nil {
		return fmt.Errorf("logstore: write high-water mark %s: %w", path, err)
	}
	h.written = file
	return nil
}

func replaceFile(fs vfs.FS, dir, path string, content []byte) error {
	temp := path + ".tmp"
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readHighWater returns found = false when there is no file.
func readHighWater(fs vfs.FS, dir string) (file highWaterFile, found bool, err error) {
	path := fs.PathJoin(dir, highWaterName)
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return highWaterFile{}, false, nil
	}
	if err != nil {
		return highWaterFile{}, false, fmt.Errorf("logstore: open high-water mark: %w", err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return highWaterFile{}, false, fmt.Errorf("logstore: read high-water mark %s: %w", path, err)
	}
	file, err = decodeHighWater(b)
	if errors.Is(err, errFormat) {
		return highWaterFile{}, false, kverr.New(kverr.Format, "logstore: %s: %w: another build wrote it; start that build again", path, err)
	}
	if err != nil {
		return highWaterFile{}, false, corrupt(dir, &CorruptError{Detail: fmt.Sprintf("high-water mark: %v", err)})
	}
	return file, true, nil
}

func encodeHighWater(f highWaterFile) []byte {
	b := make([]byte, 0, highWaterHeader+len(f.marks)*highWaterGroup+highWaterTrailer)
	b = append(b, highWaterMagic[:]...)
	b = append(b, highWaterFormat)
	b = binary.BigEndian.AppendUint64(b, f.members)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.marks)))
	for _, group := range slices.Sorted(maps.Keys(f.marks)) {
		m := f.marks[group]
		for _, v := range [...]uint64{group, m.last, m.lastTerm, m.term, m.voteTerm, m.floor} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errMagic = errors.New("it does not begin as a high-water mark")

func decodeHighWater(b []byte) (highWaterFile, error) {
	if len(b) < highWaterHeader+highWaterTrailer {
		return highWaterFile{}, errTruncated
	}
	if [4]byte(b) != highWaterMagic {
		return highWaterFile{}, errMagic
	}
	body, sum := b[:len(b)-highWaterTrailer], binary.BigEndian.Uint32(b[len(b)-highWaterTrailer:])
	if crc32.Checksum(body, castagnoli) != sum {
		return highWaterFile{}, errChecksum
	}
	if body[4] != highWaterFormat {
		return highWaterFile{}, fmt.Errorf("%w %d", errFormat, body[4])
	}
	f := highWaterFile{members: binary.BigEndian.Uint64(body[5:])}
	count, rest := binary.BigEndian.Uint32(body[13:]), body[highWaterHeader:]
	if uint64(len(rest)) != uint64(count)*highWaterGroup {
		return highWaterFile{}, errTruncated
	}
	f.marks = make(map[uint64]mark, count)
	for ; len(rest) > 0; rest = rest[highWaterGroup:] {
		field := func(i int) uint64 { return binary.BigEndian.Uint64(rest[i*8:]) }
		f.marks[field(0)] = mark{last: field(1), lastTerm: field(2), term: field(3), voteTerm: field(4), floor: field(5)}
	}
	return f, nil
}
