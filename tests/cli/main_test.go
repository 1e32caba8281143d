package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// theCluster is the one that all tests of this package share, one after the
// other.
var theCluster struct {
	bin string // where the built binaries are
	dir string // of the local cluster
	env []string
}

// firstPort keeps the cluster away from one that somebody uses.
const firstPort = "24401"

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped: needs real processes")
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	home, err := os.MkdirTemp("", "ringfort-cli-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(home)
	theCluster.bin, theCluster.dir = filepath.Join(home, "bin"), filepath.Join(home, "cluster")
	theCluster.env = append(os.Environ(),
		"RINGFORT_CONFIG="+filepath.Join(home, "config.json"),
		"PATH="+theCluster.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	build := exec.Command("go", "build", "-o", theCluster.bin+string(os.PathSeparator),
		"github.com/ringfort/ringfort/cmd/kvnode", "github.com/ringfort/ringfort/cmd/kvctl",
		"github.com/ringfort/ringfort/internal/cmd/plantkey")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	up := kvctl(context.Background(), "local", "up", "--nodes", "3", "--dir", theCluster.dir, "--first-port", firstPort)
	defer func() {
		if down := kvctl(context.Background(), "local", "down", "--dir", theCluster.dir, "--wipe"); down.code != 0 {
			fmt.Fprintln(os.Stderr, down)
		}
	}()
	if up.code != 0 {
		fmt.Fprintln(os.Stderr, up)
		return 1
	}
	code := m.Run()
	if code != 0 {
		printLogs()
	}
	return code
}

// printLogs shows what the nodes had to say, since their directory is removed.
func printLogs() {
	fmt.Fprintln(os.Stderr, kvctl(context.Background(), "local", "logs", "-n", "60", "--dir", theCluster.dir).stdout)
}

// result is what a command did.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("kvctl %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// kvctl runs one command to its end.
func kvctl(ctx context.Context, args ...string) result {
	return running(exec.CommandContext(ctx, filepath.Join(theCluster.bin, "kvctl"), args...)).wait()
}

// command is a kvctl that runs beside the test.
type command struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	started        error
}

func running(cmd *exec.Cmd) *command {
	c := &command{cmd: cmd}
	cmd.Env, cmd.Stdout, cmd.Stderr = theCluster.env, &c.stdout, &c.stderr
	c.started = cmd.Start()
	return c
}

func (c *command) wait() result {
	err := c.started
	if err == nil {
		err = c.cmd.Wait()
	}
	r := result{args: c.cmd.Args[1:], stdout: c.stdout.String(), stderr: c.stderr.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		r.code, r.stderr = -1, err.Error()
	}
	return r
}

// start runs kvctl beside the test, which waits for it in the end.
func start(t *testing.T, args ...string) *command {
	t.Helper()
	return running(exec.CommandContext(t.Context(), filepath.Join(theCluster.bin, "kvctl"), args...))
}

// must runs kvctl and wants the exit code.
func must(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := kvctl(t.Context(), args...)
	if r.code != code {
		t.Fatalf("want exit code %d: %v", code, r)
	}
	return r
}

// healthy leaves the cluster to the next test as this one found it.
func healthy(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		up := kvctl(context.Background(), "local", "up", "--dir", theCluster.dir)
		if up.code != 0 {
			t.Errorf("after the test: %v", up)
		}
	})
}

// clusterStatus is what scripts read of `kvctl cluster status -o json`.
type clusterStatus struct {
	Healthy bool
	Nodes   []struct {
		Name              string
		Reachable         bool
		Replicas, Leaders int
		Note              string
	}
	Shards []struct {
		ID     int
		System bool
		Ready  bool
	}
	Leaders []struct {
		Shard             int
		Name, ID, Address string
	}
}

func status(t *testing.T) clusterStatus {
	t.Helper()
	var s clusterStatus
	r := must(t, 0, "cluster", "status", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("%v in %v", err, r)
	}
	return s
}

// aLeader is a node that leads a data shard.
func aLeader(t *testing.T) string {
	t.Helper()
	for _, l := range status(t).Leaders {
		if l.Shard > 1 {
			return l.Name
		}
	}
	t.Fatal("no data shard has a leader")
	return ""
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, within time.Duration, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", within, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
