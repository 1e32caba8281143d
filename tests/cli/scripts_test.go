package cli

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs what a user would type against the shared cluster.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		// The package's own directory would be left behind when -run chooses some.
		WorkdirRoot: t.TempDir(),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "until": until, "await": await,
		},
		Setup: func(env *testscript.Env) error {
			for _, pair := range theCluster.env {
				if name, value, _ := strings.Cut(pair, "="); name == "RINGFORT_CONFIG" || name == "PATH" {
					env.Setenv(name, value)
				}
			}
			env.Setenv("DIR", theCluster.dir)
			return nil
		},
	})
}

// until CODE PROGRAM ARG… repeats a command until it has the exit code: for what the
// cluster does in its own time, such as to let a key expire.
func until(ts *testscript.TestScript, neg bool, args []string) {
	want, program := exitsArgs(ts, neg, args)
	soon(ts, strings.Join(args[1:], " ")+" does not end with "+args[0], func() bool { return exitCode(ts, program) == want })
}

// await FILE TEXT waits until another process has written a text to a file.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	soon(ts, args[1]+" is not in "+args[0], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && strings.Contains(string(text), args[1])
	})
}

func soon(ts *testscript.TestScript, otherwise string, is func() bool) {
	deadline := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			ts.Fatalf("%s", otherwise)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// exits CODE PROGRAM ARG… wants the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, program := exitsArgs(ts, neg, args)
	if got := exitCode(ts, program); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func exitsArgs(ts *testscript.TestScript, neg bool, args []string) (want int, program []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	return want, args[1:]
}

func exitCode(ts *testscript.TestScript, program []string) int {
	err := ts.Exec(program[0], program[1:]...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		ts.Fatalf("%v", err)
	}
	return exit.ExitCode()
}
