package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
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

func TestConfigNeedsAVerb(t *testing.T) {
	for _, args := range [][]string{{"config"}, {"config", "chekc"}, {"config", "--listen", "x:1"}} {
		if _, _, err := subcommand(args); err == nil || !strings.Contains(err.Error(), "config check") || !strings.Contains(err.Error(), "config show") {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, c := range []struct {
		args    []string
		command string
		rest    []string
	}{
		{nil, "", nil},
		{[]string{"--name", "config"}, "", []string{"--name", "config"}},
		{[]string{"config", "check", "--insecure"}, "config check", []string{"--insecure"}},
		{[]string{"config", "show"}, "config show", []string{}},
		{[]string{"config", "--help"}, "", []string{"--help"}},
	} {
		if command, rest, err := subcommand(c.args); command != c.command || !slices.Equal(rest, c.rest) || err != nil {
			t.Errorf("%q: %q %q, %v", c.args, command, rest, err)
		}
	}
}
