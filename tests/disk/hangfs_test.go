package disk

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Commands to a file server, one per line on its standard input; it answers each
// with a line. At the end of its input it unmounts and ends.
const (
	// letHang lets no fsync return. One whose thread is killed ends, as on a
	// network file system.
	letHang = "hang"
	// letHangHard does not let killed threads go either, as a disk whose driver
	// does not come back: they stay in uninterruptible sleep.
	letHangHard = "hang-hard"
	heal        = "heal"
	howMany     = "count" // of fsyncs that hang now
)

// gate is what every fsync of a file server passes.
type gate struct {
	mu     sync.Mutex
	open   chan struct{} // closed while nothing hangs
	hard   bool
	inside int
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) shut(hard bool) {
	g.heal()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.hard = make(chan struct{}), hard
}

func (g *gate) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}

// pass returns when the gate is open, and reports false if the calling thread was
// killed before.
func (g *gate) pass(thread uint32) bool {
	g.mu.Lock()
	open, hard := g.open, g.hard
	g.inside++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.inside--
		g.mu.Unlock()
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-open:
			return true
		case <-tick.C:
			if !hard && killed(thread) {
				return false
			}
		}
	}
}

// killed reports whether a thread has SIGKILL pending. The kernel's interrupt
// requests would not do: they tell of any signal, and of the first one only.
func killed(thread uint32) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(raw)) {
		if mask, ok := strings.CutPrefix(line, "SigPnd:"); ok {
			pending, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && pending&(1<<(syscall.SIGKILL-1)) != 0
		}
	}
	return false
}

// node is a file or directory of the file system.
type node struct {
	*fs.LoopbackNode
	gate *gate
}

// WrapChild makes every file that is looked up or made one of these.
func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{ops.(*fs.LoopbackNode), n.gate}
}

// Fsync serves fsync and fdatasync of files and directories.
func (n *node) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	var thread uint32
	if caller, ok := fuse.FromContext(ctx); ok {
		thread = caller.Pid
	}
	if !n.gate.pass(thread) {
		return syscall.EINTR
	}
	if syncer, ok := f.(fs.FileFsyncer); ok {
		return syncer.Fsync(ctx, flags)
	}
	if syncer, ok := f.(fs.FileFsyncdirer); ok {
		return syncer.Fsyncdir(ctx, flags)
	}
	return fs.OK
}

// serveHangFS is the whole life of a file server: it shows a directory at the
// directory mount.
func serveHangFS(dir, mount string) int {
	g := newGate()
	below, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	top := &node{below.(*fs.LoopbackNode), g}
	top.RootData.RootNode = top
	server, err := fs.Mount(mount, top, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "ringfort-hang", Name: "ringfort-hang", DirectMountStrict: true,
	}})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("mounted")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch lines.Text() {
		case letHang:
			g.shut(false)
		case letHangHard:
			g.shut(true)
		case heal:
			g.heal()
		case howMany:
		}
		fmt.Println(g.count())
	}
	g.heal()
	if err := server.Unmount(); err != nil {
		_ = syscall.Unmount(mount, syscall.MNT_DETACH) // the namespace's end does it otherwise
	}
	return 0
}

// hangFS is a mounted file system whose fsyncs can be made to hang.
type hangFS struct {
	t      *testing.T
	mount  string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// mountHangFS shows the directory below at the directory mount until the test ends.
func mountHangFS(t *testing.T, below, mount string) *hangFS {
	t.Helper()
	f := &hangFS{t: t, mount: mount, cmd: exec.Command("/proc/self/exe", below, mount)}
	f.cmd.Env = append(os.Environ(), roleVariable+"="+roleServer)
	f.cmd.Stderr = &f.stderr
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := f.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.in, f.out = in, bufio.NewReader(out)
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.end)
	if line, err := f.out.ReadString('\n'); line != "mounted\n" {
		t.Fatalf("the file server: %q %v", line, err)
	}
	return f
}

// tell gives a command and returns how many fsyncs hang.
func (f *hangFS) tell(command string) int {
	f.t.Helper()
	if _, err := fmt.Fprintln(f.in, command); err != nil {
		f.t.Fatal(err)
	}
	line, err := f.out.ReadString('\n')
	n, notNumber := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || notNumber != nil {
		f.t.Fatalf("the file server answered %q, %v\n%s", line, err, f.stderr.String())
	}
	return n
}

// end kills the server, which frees all who wait for it, and unmounts.
func (f *hangFS) end() {
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait() // killed
	if err := syscall.Unmount(f.mount, syscall.MNT_DETACH); err != nil {
		f.t.Errorf("unmount %s: %v", f.mount, err)
	}
}
