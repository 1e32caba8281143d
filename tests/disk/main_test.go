package disk

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var withFaults = flag.Bool("disk.faults", false, "let real disks hang and run full; needs root, takes minutes")

const (
	// roleVariable makes the test binary a file server, or tells it that it is in
	// a mount namespace of its own.
	roleVariable = "RINGFORT_DISK_TEST_ROLE"
	roleServer   = "server"
	roleInside   = "inside"
)

// bin is where the built binaries are.
var bin string

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleServer {
		os.Exit(serveHangFS(os.Args[1], os.Args[2]))
	}
	flag.Parse()
	switch {
	case !*withFaults || os.Geteuid() != 0: // the tests say so
		os.Exit(m.Run())
	case os.Getenv(roleVariable) == roleInside:
		os.Exit(build(m))
	}
	os.Exit(runInside())
}

// needed skips a test that cannot run here.
func needed(t *testing.T) {
	t.Helper()
	switch {
	case !*withFaults:
		t.Skip("NOT RUN: real disk faults take minutes and need root; run make fault-disk")
	case os.Geteuid() != 0:
		t.Skip("NOT RUN: NEEDS ROOT to mount file systems; run make fault-disk as root")
	}
}

// runInside runs this test binary again where its mounts are nobody else's. The Go
// runtime makes all mounts private there.
func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleInside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a mount namespace for the test:", err)
		return 1
	}
	return 0
}

func build(m *testing.M) int {
	home, err := os.MkdirTemp("", "ringfort-disk-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(home)
	bin = home
	cmd := exec.Command("go", "build", "-o", bin+string(filepath.Separator),
		"github.com/ringfort/ringfort/cmd/kvnode", "github.com/ringfort/ringfort/cmd/kvctl")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
