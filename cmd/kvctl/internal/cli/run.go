package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// System is what a run of kvctl gets from the operating system.
type System struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	// Progress says that Stderr is a terminal, where a progress bar can move.
	Progress bool
}

// OS is the System of this process.
func OS() System {
	return System{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Progress: isTerminal(os.Stderr),
	}
}

func isTerminal(w io.Writer) bool {
	file, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}

// Main runs kvctl as this process and returns its exit code. The first
// interrupt ends the context; a second one ends the process at once.
func Main() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT, syscall.SIGTERM)
	var listener sync.WaitGroup
	listener.Go(func() {
		select {
		case <-interrupts:
			signal.Stop(interrupts)
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	})
	defer listener.Wait()
	defer cancel(nil)
	return Run(ctx, OS())
}

// Run executes one command and returns its exit code.
func Run(ctx context.Context, system System) int {
	a := &app{
		stdin: system.Stdin, stdout: system.Stdout, stderr: system.Stderr,
		getenv: system.Getenv, progress: system.Progress,
	}
	root := a.root()
	root.SetArgs(negativeNumber(root, system.Args))
	err := root.ExecuteContext(ctx)
	code := exitCode(ctx, err)
	switch {
	case code == exitInterrupted && !errors.Is(err, errInterrupted):
		a.complain(errors.Join(errInterrupted, err))
	case err != nil:
		a.complain(err)
	}
	return code
}

// negativeNumber lets `kvctl add KEY -3` mean what it says: for pflag -3 is a flag,
// and no verb has one of that name.
func negativeNumber(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil || cmd.Name() != "add" || slices.Contains(args, "--") {
		return args
	}
	for i, arg := range args {
		if _, err := strconv.ParseInt(arg, 10, 64); err == nil && arg[0] == '-' {
			return slices.Concat(args[:i], args[i+1:], []string{"--", arg})
		}
	}
	return args
}

// app is one run of kvctl.
type app struct {
	stdin    io.Reader
	stdout   io.Writer
	stderr   io.Writer
	getenv   func(string) string
	progress bool

	flags    flagValues
	settings config.Settings
	target   config.Target // of verbs that talk to a cluster
	localDir string        // --dir of a verb of local, for hints
}
