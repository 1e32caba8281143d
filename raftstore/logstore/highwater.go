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
}

// highWater is the file of all groups' marks. It may lag behind the database,
// never run ahead of it: note follows a sync, and lower precedes a truncation.
//
//	magic 4 | format u8 | groups u32 | groups × (group, last, lastTerm, term, voteTerm u64) | crc32c u32
type highWater struct {
	fs  vfs.FS
	dir string
	// turn is held while the file is written. A channel and not a mutex, since
	// the writer waits for it while the disk works.
	turn    chan struct{}
	written map[uint64]mark // what the file says; owned by who has the turn
	changed chan struct{}   // 1: something was noted since the last write

	mu    sync.Mutex
	marks map[uint64]mark
}

const (
	highWaterFormat  byte = 1
	highWaterHeader       = 4 + 1 + 4
	highWaterGroup        = 5 * 8
	highWaterTrailer      = 4
)

var (
	highWaterMagic = [4]byte{'R', 'F', 'H', 'W'}
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
)

func newHighWater(fs vfs.FS, dir string, marks map[uint64]mark) *highWater {
	if marks == nil {
		marks = make(map[uint64]mark) // a new database
	}
	return &highWater{
		fs: fs, dir: dir, written: maps.Clone(marks), marks: maps.Clone(marks),
		turn: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
}

// note raises a group's mark to its published state. Only what is synced may be
// noted.
func (h *highWater) note(g *Group) {
	h.mu.Lock()
	h.marks[g.id] = g.state.mark()
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// lower takes a group's last entry back, durably when the file says more.
func (h *highWater) lower(g *Group, last, lastTerm uint64) error {
	h.turn <- struct{}{} // no older, higher mark is being written after this
	defer func() { <-h.turn }()
	h.mu.Lock()
	m := h.marks[g.id]
	m.last, m.lastTerm = last, lastTerm
	h.marks[g.id] = m
	h.mu.Unlock()
	if h.written[g.id].last <= last {
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
	marks := maps.Clone(h.marks)
	h.mu.Unlock()
	path := h.fs.PathJoin(h.dir, highWaterName)
	if err := replaceFile(h.fs, h.dir, path, encodeHighWater(marks)); err != nil {
		return fmt.Errorf("logstore: write high-water mark %s: %w", path, err)
	}
	h.written = marks
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
func readHighWater(fs vfs.FS, dir string) (marks map[uint64]mark, found bool, err error) {
	path := fs.PathJoin(dir, highWaterName)
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("logstore: open high-water mark: %w", err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, false, fmt.Errorf("logstore: read high-water mark %s: %w", path, err)
	}
	marks, err = decodeHighWater(b)
	if errors.Is(err, errFormat) {
		return nil, false, kverr.New(kverr.Format, "logstore: %s: %w: a newer build wrote it; start that build again", path, err)
	}
	if err != nil {
		return nil, false, corrupt(dir, &CorruptError{Detail: fmt.Sprintf("high-water mark: %v", err)})
	}
	return marks, true, nil
}

func encodeHighWater(marks map[uint64]mark) []byte {
	b := make([]byte, 0, highWaterHeader+len(marks)*highWaterGroup+highWaterTrailer)
	b = append(b, highWaterMagic[:]...)
	b = append(b, highWaterFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(len(marks)))
	for _, group := range slices.Sorted(maps.Keys(marks)) {
		m := marks[group]
		for _, v := range [...]uint64{group, m.last, m.lastTerm, m.term, m.voteTerm} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var (
	errMagic    = errors.New("it does not begin as a high-water mark")
	errChecksum = errors.New("its checksum is wrong")
)

func decodeHighWater(b []byte) (map[uint64]mark, error) {
	if len(b) < highWaterHeader+highWaterTrailer {
		return nil, errTruncated
	}
	if [4]byte(b) != highWaterMagic {
		return nil, errMagic
	}
	body, sum := b[:len(b)-highWaterTrailer], binary.BigEndian.Uint32(b[len(b)-highWaterTrailer:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errChecksum
	}
	if body[4] != highWaterFormat {
		return nil, fmt.Errorf("%w %d", errFormat, body[4])
	}
	count, rest := binary.BigEndian.Uint32(body[5:]), body[highWaterHeader:]
	if uint64(len(rest)) != uint64(count)*highWaterGroup {
		return nil, errTruncated
	}
	marks := make(map[uint64]mark, count)
	for ; len(rest) > 0; rest = rest[highWaterGroup:] {
		field := func(i int) uint64 { return binary.BigEndian.Uint64(rest[i*8:]) }
		marks[field(0)] = mark{last: field(1), lastTerm: field(2), term: field(3), voteTerm: field(4)}
	}
	return marks, nil
}
