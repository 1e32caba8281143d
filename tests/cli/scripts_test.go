package cli

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs what a user would type against the shared cluster.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		// The package's own directory would be left behind when -run chooses some.
		WorkdirRoot: t.TempDir(),
		Cmds:        map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
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

// exits CODE PROGRAM ARG… wants the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
