package diskspace

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/internal/kverr"
)

const (
	ballastName = "ballast"
	// ballastChunk is written at a time, so that the making of a large ballast can
	// be broken off.
	ballastChunk = mib
	// openBytes is what must be free to open databases.
	openBytes = mib
	// worthRepeating is how much must be free for a write to be repeated that met a
	// full disk: the largest entry.
	worthRepeating = 256 << 10
	fullRecheck    = 100 * time.Millisecond
)

func (g *Guard) ballastPath() string { return g.opts.FS.PathJoin(g.opts.Dir, ballastName) }

// findBallast takes what an earlier life left. One of another size is made anew.
func (g *Guard) findBallast() {
	info, err := g.opts.FS.Stat(g.ballastPath())
	if err != nil {
		return
	}
	if want := g.limits.Load().ballast; uint64(info.Size()) == want && want > 0 {
		g.ballast.Store(want)
		return
	}
	g.dropBallast()
}

func (g *Guard) dropBallast() {
	if err := g.opts.FS.Remove(g.ballastPath()); err != nil && !errors.Is(err, errNotExist) {
		g.logger.Warn("removing the ballast", "path", g.ballastPath(), "err", err)
		return
	}
	g.ballast.Store(0)
}

// throwOff is called by the file system when a write met a full disk, before it
// repeats the write. All other writes wait meanwhile. Where there is no ballast, or
// others took what it gave, it waits a while for space: the write is repeated only
// once, and one of a log that fails ends the process.
func (g *Guard) throwOff() {
	g.giveBallast()
	if !g.fit() {
		g.awaitSpace()
	}
}

func (g *Guard) giveBallast() {
	g.full.Add(1)
	g.spent.Store(true)
	g.dropBallast()
	g.lookNow()
	g.signal()
}

// fit reports whether a write that met a full disk has a chance now.
func (g *Guard) fit() bool {
	need := uint64(worthRepeating)
	if b := g.limits.Load().ballast; b > 0 {
		need = min(need, b/2)
	}
	return g.unknown.Load() || g.avail.Load() >= need
}

// awaitSpace waits until a write has a chance, within FullPatience from when none had.
func (g *Guard) awaitSpace() {
	if g.opts.FullPatience <= 0 {
		return
	}
	now := time.Now()
	since := g.hopeless.Load()
	if since == nil && g.hopeless.CompareAndSwap(nil, &now) {
		g.logger.Error("the disk is full and there is no ballast: the node waits for space, and ends without any",
			"dir", g.opts.Dir, "for", g.opts.FullPatience)
	}
	if since = g.hopeless.Load(); since == nil {
		return // space came
	}
	tick := time.NewTicker(fullRecheck)
	defer tick.Stop()
	patience := time.NewTimer(g.opts.FullPatience - now.Sub(*since))
	defer patience.Stop()
	for {
		select {
		case <-tick.C:
			if g.look(); g.fit() {
				return
			}
		case <-patience.C:
			return
		case <-g.stop:
			return
		}
	}
}

// MayOpen reports whether there is room to open databases at all: each writes a few
// small files first, and ends in the middle of it on a full disk. It gives the
// ballast for them.
func (g *Guard) MayOpen() error {
	if g.unknown.Load() || g.avail.Load() >= openBytes {
		return nil
	}
	g.giveBallast()
	if free := g.avail.Load(); free < openBytes {
		return &kverr.Error{Kind: kverr.NoSpace, Message: fmt.Sprintf(
			"%d bytes are free on the disk of %s, at least %d are needed to start: free disk space", free, g.opts.Dir, openBytes)}
	}
	return nil
}

// makeBallast is called by the guard's goroutine when there is room. Unless it may
// be written, it is made only if the file system gives the space at once.
func (g *Guard) makeBallast(size uint64, written bool) {
	owed := g.spent.Swap(false)
	err := g.writeBallast(size, written)
	switch {
	case err == nil:
	case errors.Is(err, errMustBeWritten):
		g.spent.Store(owed)
		g.dropBallast()
		return
	default:
		g.logger.Warn("no ballast could be made; it will be tried again", "path", g.ballastPath(), "bytes", size, "err", err)
		g.dropBallast()
		return
	}
	g.ballast.Store(size)
	g.logger.Info("made a ballast, to be thrown off when the disk is full", "path", g.ballastPath(), "bytes", size)
	g.look()
}

var (
	errNoRoom        = errors.New("the room for it is gone")
	errMustBeWritten = errors.New("the file system does not give space before it is written")
)

func (g *Guard) writeBallast(size uint64, written bool) (err error) {
	f, err := g.opts.FS.Create(g.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	switch {
	case g.allocate(f, size):
		_, err = f.WriteAt([]byte{1}, int64(size)-1)
	case !written:
		return errMustBeWritten
	default:
		err = g.fill(f, size)
	}
	return errors.Join(err, f.Sync())
}

// allocate asks the file system for the space without writing it, and reports
// whether it is gone from the disk: some only make a note.
func (g *Guard) allocate(f vfs.File, size uint64) bool {
	g.look()
	before := g.avail.Load()
	if err := f.Preallocate(0, int64(size)); err != nil {
		return false
	}
	g.look()
	return g.avail.Load()+size-size/10 <= before
}

// fill writes bytes that no file system can do without storing.
func (g *Guard) fill(f vfs.File, size uint64) error {
	chunk := make([]byte, ballastChunk)
	rng := rand.NewChaCha8([32]byte{})
	for left := size; left > 0; {
		g.look()
		select {
		case <-g.stop:
			return errNoRoom
		default:
		}
		if g.spent.Load() || g.Level() > OK {
			return errNoRoom
		}
		n := min(left, uint64(len(chunk)))
		_, _ = rng.Read(chunk[:n]) // never fails
		if _, err := f.Write(chunk[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
