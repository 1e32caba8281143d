package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cluster/local/localtest"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/cli"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

// The scripts run kvctl as a process, against nodes that are stand-ins: they
// test the command line, not the store. tests/cli runs it against real nodes.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"kvctl":  func() { os.Exit(cli.Main()) },
		"kvnode": func() { os.Exit(localtest.Main()) },
	})
}

func TestScripts(t *testing.T) {
	var scripts atomic.Int32
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		// The package's own directory would be left behind when -run chooses some.
		WorkdirRoot: t.TempDir(),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
		},
		Condition: condition,
		Setup: func(env *testscript.Env) error {
			env.Setenv("RINGFORT_CONFIG", env.WorkDir+"/config.json")
			// A block of ports for each script, away from clusters somebody uses.
			env.Setenv("PORT", strconv.Itoa(21_000+200*int(scripts.Add(1))))
			env.Setenv("DIR", env.WorkDir+"/cluster")
			// Nodes outlive kvctl, and a script that failed half-way too.
			env.Defer(func() {
				for _, dir := range []string{env.Getenv("DIR"), env.WorkDir + "/second"} {
					c, err := local.At(dir)
					if err == nil && c.Exists() {
						err = c.Kill(t.Context())
					}
					if err != nil {
						env.T().Log("after the script: ", err)
					}
				}
			})
			return nil
		},
	})
}

// condition knows [default-node]: somebody runs a node where kvctl looks for one
// by default.
func condition(name string) (bool, error) {
	if name != "default-node" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	conn, err := net.DialTimeout("tcp", config.DefaultEndpoint, time.Second)
	if err == nil {
		conn.Close()
	}
	return err == nil, nil
}

// exits CODE kvctl ARG… wants the exit code; stdout and stderr can be looked at
// as after exec.
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

// await FILE waits until another process has written something into a file.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		info, err := os.Stat(ts.MkAbs(args[0]))
		if err == nil && info.Size() > 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nothing in %s: %v", args[0], err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
