package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// stdinPause is how often a read that has nothing to read looks for the end of
// its context, in milliseconds.
const stdinPause = 100

// interruptible reads from a terminal or a pipe until ctx ends: a read that
// blocks would sit out the first interrupt. A goroutine that reads could not be
// waited for, so it asks the kernel first whether a read would block.
type interruptible struct {
	ctx  context.Context
	from io.Reader
}

// Read implements io.Reader. The end of ctx is its cause.
func (r interruptible) Read(p []byte) (int, error) {
	file, isFile := r.from.(*os.File)
	for {
		if r.ctx.Err() != nil {
			return 0, context.Cause(r.ctx)
		}
		if !isFile {
			return r.from.Read(p)
		}
		fds := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, stdinPause)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return file.Read(p)
		}
	}
}
