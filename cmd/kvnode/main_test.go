package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/identity"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("x"), exitOther},
		{fmt.Errorf("dir: %w", identity.ErrLocked), exitLocked},
		{fmt.Errorf("listen: %w", syscall.EADDRINUSE), exitAddressInUse},
		{fmt.Errorf("join: %w", kverr.New(kverr.WrongCluster, "x")), exitWrongCluster},
		{kverr.New(kverr.Format, "x"), exitWrongCluster},
		{fmt.Errorf("open: %w", syscall.ENOSPC), exitDisk},
		{kverr.New(kverr.Invalid, "--tls-cert"), exitUsage},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
