package diskspace

import (
	"errors"
	"fmt"
	"math/rand/v2"

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
// repeats the write. All other writes wait meanwhile.
func (g *Guard) throwOff() {
	g.full.Add(1)
	g.spent.Store(true)
	g.dropBallast()
	g.look()
	g.signal()
}

// MayOpen reports whether there is room to open databases at all: each writes a few
// small files first, and ends in the middle of it on a full disk. It gives the
// ballast for them.
func (g *Guard) MayOpen() error {
	if g.unknown.Load() || g.avail.Load() >= openBytes {
		return nil
	}
	g.throwOff()
	if free := g.avail.Load(); free < openBytes {
		return &kverr.Error{Kind: kverr.NoSpace, Message: fmt.Sprintf(
			"%d bytes are free on the disk of %s, at least %d are needed to start: free disk space", free, g.opts.Dir, openBytes)}
	}
	return nil
}

// makeBallast is called by the guard's goroutine when there is room.
func (g *Guard) makeBallast(size uint64) {
	g.spent.Store(false)
	if err := g.writeBallast(size); err != nil {
		g.logger.Warn("no ballast could be made; it will be tried again", "path", g.ballastPath(), "bytes", size, "err", err)
		g.dropBallast()
		return
	}
	g.ballast.Store(size)
	g.logger.Info("made a ballast, to be thrown off when the disk is full", "path", g.ballastPath(), "bytes", size)
	g.look()
}

var errNoRoom = errors.New("the room for it is gone")

func (g *Guard) writeBallast(size uint64) (err error) {
	f, err := g.opts.FS.Create(g.ballastPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if g.allocate(f, size) {
		_, err = f.WriteAt([]byte{1}, int64(size)-1)
	} else {
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
