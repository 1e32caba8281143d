package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockFile takes an exclusive flock on path, waiting for its holder as long as
// ctx allows. The kernel drops it when the holder dies, so no lock goes stale.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	err = poll(ctx, func() (done bool, err error) {
		unlock, err = tryLock(path)
		return unlock != nil, err
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("waiting for %s, which another process holds: %w", path, err)
	}
	return unlock, err
}

// tryLock returns nil, nil when somebody else holds the lock.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && stillAt(f, path) {
		return func() { f.Close() }, nil
	}
	f.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// stillAt reports whether path still leads to f: its former holder may have
// removed it with the whole directory, and a lock on the removed file would
// exclude nobody.
func stillAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// lock excludes other callers that start or stop nodes of this directory.
func (c *Cluster) lock(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, filepath.Join(c.dir, "lock"))
}

// portLock is an abstract socket: bound by one process of a network namespace
// at a time, which is exactly how far ports reach, and free when it dies.
const portLock = "@ringfort-local-ports"

// lockPorts excludes all other clusters of the machine while ports are probed
// but not yet bound by the nodes they were chosen for.
func lockPorts(ctx context.Context) (unlock func(), err error) {
	var held net.Listener
	err = poll(ctx, func() (bool, error) {
		held, err = net.Listen("unix", portLock)
		if errors.Is(err, unix.EADDRINUSE) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for another local cluster that is choosing its ports: %w", err)
	}
	return func() { held.Close() }, nil
}

const (
	pollFirst = 5 * time.Millisecond
	pollMax   = 200 * time.Millisecond
)

// poll calls check until it says done, returns an error, or ctx ends, with
// growing pauses between calls.
func poll(ctx context.Context, check func() (done bool, err error)) error {
	for wait := pollFirst; ; wait = min(2*wait, pollMax) {
		done, err := check()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
