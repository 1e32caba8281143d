package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process identifies one process of one boot of this machine. A pid alone does
// not: the kernel gives it to somebody else later.
type process struct {
	PID        int    `json:"pid,omitempty"`
	StartTicks uint64 `json:"start_ticks,omitempty"` // since boot, field 22 of /proc/PID/stat
	BootID     string `json:"boot_id,omitempty"`
}

// runState is what the kernel says about a process.
type runState int

const (
	gone runState = iota
	running
	paused
)

// spawn starts binary detached from the caller (LC3), its output appended to
// logPath.
func spawn(binary string, args []string, dir, logPath string) (process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	pid := cmd.Process.Pid
	// Nobody waits through os/exec: reap does, if the caller still lives when
	// the node dies, and init does otherwise. Until reap runs the pid cannot be
	// given away, so reading its start time now is safe.
	if err := cmd.Process.Release(); err != nil {
		return process{}, err
	}
	return identify(pid)
}

// identify reads what distinguishes a living process from a later one.
func identify(pid int) (process, error) {
	stat, err := readStat(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := bootID()
	return process{PID: pid, StartTicks: stat.startTicks, BootID: boot}, err
}

// look asks the kernel about the process: gone also when its pid belongs to
// another one by now, or when it is a zombie.
func (p process) look() runState {
	if p.PID <= 0 {
		return gone
	}
	if boot, err := bootID(); err != nil || boot != p.BootID {
		return gone
	}
	stat, err := readStat(p.PID)
	if err != nil || stat.startTicks != p.StartTicks {
		return gone
	}
	switch stat.state {
	case 'X':
		return gone
	case 'Z':
		// The first thread may be dead while others are still on their way out
		// and hold the files, locks and ports.
		if stat.threads <= 1 {
			return gone
		}
	case 'T':
		return paused
	}
	return running
}

// signal sends sig if the process still is the one that was started (LC1): the
// pidfd pins the process, then its identity is checked, then the signal goes
// through the pidfd. ErrNotRunning if it is gone.
func (p process) signal(sig unix.Signal) error {
	if p.PID <= 0 {
		return ErrNotRunning
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if p.look() == gone {
		return ErrNotRunning
	}
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	return err
}

// reap collects the dead process if it is a child of this one, and returns its
// exit code: -1 when a signal ended it or it is not known. final is false if it
// can be collected in a moment only.
func (p process) reap() (code int, final bool) {
	stat, err := readStat(p.PID)
	// A stranger that got the pid must not be collected.
	if err != nil || stat.startTicks != p.StartTicks || stat.state != 'Z' || stat.parent != os.Getpid() {
		return -1, true
	}
	var status unix.WaitStatus
	pid, err := unix.Wait4(p.PID, &status, unix.WNOHANG, nil)
	if err != nil {
		return -1, !errors.Is(err, unix.EINTR)
	}
	return status.ExitStatus(), pid == p.PID
}

type procStat struct {
	state      byte
	parent     int
	threads    int
	startTicks uint64
}

func readStat(pid int) (procStat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(raw)
}

// parseStat reads /proc/PID/stat. The second field is the program's name in
// parentheses and may itself hold spaces and parentheses.
func parseStat(raw []byte) (procStat, error) {
	end := bytes.LastIndexByte(raw, ')')
	if end < 0 {
		return procStat{}, errors.New("/proc stat without a program name")
	}
	fields := strings.Fields(string(raw[end+1:]))
	const state, parent, threads, start = 0, 1, 17, 19 // fields 3, 4, 20 and 22 of proc_pid_stat(5)
	if len(fields) <= start {
		return procStat{}, fmt.Errorf("/proc stat with %d fields", len(fields))
	}
	ppid, err := strconv.Atoi(fields[parent])
	if err != nil {
		return procStat{}, fmt.Errorf("/proc stat: %w", err)
	}
	count, err := strconv.Atoi(fields[threads])
	if err != nil {
		return procStat{}, fmt.Errorf("/proc stat: %w", err)
	}
	ticks, err := strconv.ParseUint(fields[start], 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("/proc stat: %w", err)
	}
	return procStat{state: fields[state][0], parent: ppid, threads: count, startTicks: ticks}, nil
}

func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

// findOrphan looks for a living process whose command line says that it is the
// node on dataDir: one that was started by a caller that died before it wrote
// cluster.json (LC2).
func findOrphan(name, dataDir string) (p process, args []string, found bool) {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return process{}, nil, false
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		args := strings.Split(string(raw), "\x00")
		if err != nil || flagValue(args, "--name") != name || flagValue(args, "--data-dir") != dataDir {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if p, err := identify(pid); err == nil && p.look() != gone {
			return p, args, true
		}
	}
	return process{}, nil, false
}

func flagValue(args []string, flag string) string {
	for i := 0; i+1 < len(args); i++ {
		if args[i] == flag {
			return args[i+1]
		}
	}
	return ""
}
