package local

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ringfort/ringfort/cluster/local/localtest"
	"github.com/ringfort/ringfort/internal/kverr"
)

// testPort keeps these tests away from the ports of a cluster somebody uses.
const testPort = 17401

// newCluster returns a cluster of stand-ins that misbehave as mode says; what is
// left of it is killed at the end.
func newCluster(t *testing.T, mode string) *Cluster {
	t.Helper()
	t.Setenv(localtest.Env, mode)
	c, err := At(filepath.Join(t.TempDir(), "cluster"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if st, err := c.load(); err == nil {
			for _, n := range st.Nodes {
				n.Process.signal(sigKill)
				n.await(context.Background(), gone)
			}
		}
	})
	return c
}

func testConfig(t *testing.T) Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{Binary: self, FirstPort: testPort, Note: func(s string) { t.Log("note:", s) }}
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustUp(t *testing.T, c *Cluster, cfg Config) *Report {
	t.Helper()
	report, err := c.Up(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func states(t *testing.T, c *Cluster) (names string, pids []int) {
	t.Helper()
	nodes, err := c.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, n := range nodes {
		words = append(words, n.Name+"="+n.State)
		pids = append(pids, n.PID)
	}
	return strings.Join(words, " "), pids
}

func wantStates(t *testing.T, c *Cluster, want string) (pids []int) {
	t.Helper()
	got, pids := states(t, c)
	if got != want {
		t.Fatalf("states: %s, want %s", got, want)
	}
	return pids
}

func outcomes(r *Report) string {
	var words []string
	for _, n := range r.Nodes {
		words = append(words, n.Name+" "+n.Outcome)
	}
	return strings.Join(words, ", ")
}

func TestUpKillPauseDown(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	ctx := testContext(t)

	first := mustUp(t, c, cfg)
	if got := outcomes(first); got != "n1 started, n2 started, n3 started" ||
		!first.Formed || first.Shards != 2 || first.ClusterID != "cluster-x" {
		t.Fatalf("first up: %+v", first)
	}
	pids := wantStates(t, c, "n1=running n2=running n3=running")

	again := mustUp(t, c, Config{})
	if got := outcomes(again); got != "n1 running, n2 running, n3 running" || again.Formed {
		t.Fatalf("second up: %+v", again)
	}
	if _, now := states(t, c); now[0] != pids[0] || now[2] != pids[2] {
		t.Fatalf("the second up replaced processes: %v, then %v", pids, now)
	}

	if err := c.Kill(ctx, "n2"); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(ctx, "n2"); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("second kill: %v", err)
	}
	if err := c.Pause(ctx, "n3"); err != nil {
		t.Fatal(err)
	}
	wantStates(t, c, "n1=running n2=dead n3=paused")
	if got := outcomes(mustUp(t, c, Config{})); got != "n1 running, n2 restarted, n3 resumed" {
		t.Fatalf("up after trouble: %s", got)
	}

	if err := c.Pause(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	wantStates(t, c, "n1=dead n2=dead n3=dead")
	back := mustUp(t, c, Config{})
	if back.Nodes[0].Listen != first.Nodes[0].Listen || back.Formed {
		t.Fatalf("after a kill of all: %+v, first %+v", back, first)
	}

	if err := c.Pause(ctx, "n2"); err != nil {
		t.Fatal(err)
	}
	stopped, err := c.Down(ctx, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range stopped {
		if r.Outcome != "stopped" {
			t.Errorf("%s: %s", r.Name, r.Outcome)
		}
	}
	wantStates(t, c, "n1=stopped n2=stopped n3=stopped")

	stopped, err = c.Down(ctx, true)
	if err != nil || stopped[0].Outcome != "was not running" {
		t.Fatalf("down of what is down: %+v, %v", stopped, err)
	}
	// The stand-ins' own file is not ours to remove.
	if entries, _ := os.ReadDir(c.Dir()); len(entries) != 1 || entries[0].Name() != "formed" {
		t.Fatalf("left behind by wipe: %v", entries)
	}
	if _, err := c.Status(ctx); !errors.Is(err, ErrNoCluster) {
		t.Fatalf("status after wipe: %v", err)
	}
}

func TestUpGrowsAndNeverShrinks(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	cfg.Nodes = 1
	mustUp(t, c, cfg)
	if got := outcomes(mustUp(t, c, Config{Nodes: 2, FirstPort: testPort})); got != "n1 running, n2 started" {
		t.Fatalf("grown: %s", got)
	}
	if _, err := c.Up(testContext(t), Config{Nodes: 1}); err == nil || !strings.Contains(err.Error(), "does not shrink") {
		t.Fatalf("shrunk: %v", err)
	}
}

func TestRestart(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	cfg.Nodes, cfg.NodeFlags = 2, []string{"--fake-version", "old"}
	mustUp(t, c, cfg)
	before := wantStates(t, c, "n1=running n2=running")
	cfg.NodeFlags = []string{"--fake-version", "new"}
	if err := c.Restart(testContext(t), cfg, "n2"); err != nil {
		t.Fatal(err)
	}
	after := wantStates(t, c, "n1=running n2=running")
	if before[0] != after[0] || before[1] == after[1] {
		t.Fatalf("pids %v, then %v", before, after)
	}
	nodes, err := c.Status(testContext(t))
	if err != nil || nodes[0].Version != "old" || nodes[1].Version != "new" {
		t.Fatalf("status: %+v, %v", nodes, err)
	}
	if err := c.Restart(testContext(t), cfg, "n9"); !errors.Is(err, ErrUnknownNode) {
		t.Fatalf("restart n9: %v", err)
	}
}

func TestDeathAtStartIsExplained(t *testing.T) {
	c, cfg := newCluster(t, "die"), testConfig(t)
	_, err := c.Up(testContext(t), cfg)
	var died *StartError
	if !errors.As(err, &died) || died.ExitCode != 1 || died.LogPath != c.LogPath(died.Node) {
		t.Fatalf("up: %v", err)
	}
	for _, want := range []string{"n1 died", "n3 died", "the disk is on fire", c.LogPath("n2")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestUpSaysWhatIsMissing(t *testing.T) {
	c, cfg := newCluster(t, "leaderless"), testConfig(t)
	st, err := c.launch(testContext(t), cfg, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = c.awaitLeaders(ctx, st)
	var missing *NotReadyError
	if !errors.As(err, &missing) || !strings.Contains(missing.What, "shard 2") || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("up: %v", err)
	}
	wantStates(t, c, "n1=running n2=running n3=running")
}

// A node that dies while Up waits is not waited for: one that ran before is
// started again, once, and a second death is an error.
func TestDeathDuringUpIsNoticed(t *testing.T) {
	c, cfg := newCluster(t, "leaderless"), testConfig(t)
	if _, err := c.launch(testContext(t), cfg, &Report{}); err != nil {
		t.Fatal(err)
	}
	notes := make(chan string, 10)
	cfg.Note = func(s string) { notes <- s }
	result := make(chan error)
	go func() {
		_, err := c.Up(testContext(t), cfg)
		result <- err
	}()
	if err := c.Kill(testContext(t), "n2"); err != nil {
		t.Fatal(err)
	}
	// Up may also have looked only after the kill, and then simply starts it.
	for want := "n1=running n2=running n3=running"; ; {
		if got, _ := states(t, c); got == want {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("n2 was not started again")
		}
	}
	// Whoever was started by this Up is not started a second time.
	if err := c.Kill(testContext(t), "n2"); err != nil {
		t.Fatal(err)
	}
	err := <-result
	var died *StartError
	if !errors.As(err, &died) || died.Node != "n2" || !strings.Contains(err.Error(), "n2 died") {
		t.Fatalf("up: %v", err)
	}
	if len(notes) > 1 {
		t.Errorf("%d notes, the first: %s", len(notes), <-notes)
	}
}

// Nodes that were killed together may die one by one: each is started again.
func TestDeathsOneByOne(t *testing.T) {
	c, cfg := newCluster(t, "leaderless"), testConfig(t)
	if _, err := c.launch(testContext(t), cfg, &Report{}); err != nil {
		t.Fatal(err)
	}
	notes := make(chan string, 10)
	cfg.Note = func(s string) { notes <- s }
	ctx, cancel := context.WithCancel(testContext(t))
	result := make(chan error)
	go func() {
		_, err := c.Up(ctx, cfg)
		result <- err
	}()
	for _, name := range []string{"n1", "n2", "n3"} {
		if err := c.Kill(testContext(t), name); err != nil {
			t.Fatal(err)
		}
		for want := "n1=running n2=running n3=running"; ; {
			if got, _ := states(t, c); got == want {
				break
			}
			select {
			case err := <-result:
				t.Fatalf("after the death of %s: %v", name, err)
			default:
			}
		}
	}
	cancel()
	var missing *NotReadyError
	if err := <-result; !errors.As(err, &missing) {
		t.Fatalf("up: %v", err)
	}
}

// Killed a moment ago, processes look alive until the kernel has taken them
// apart; Up must not wait for them.
func TestUpRightAfterKill(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	st, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range st.Nodes {
		if err := n.Process.signal(sigKill); err != nil {
			t.Fatal(err)
		}
	}
	mustUp(t, c, cfg)
	wantStates(t, c, "n1=running n2=running n3=running")
}

// Up returns when a node that joins is a member, not when it is only seen.
func TestUpWaitsForMembers(t *testing.T) {
	c, cfg := newCluster(t, "outsider"), testConfig(t)
	st, err := c.launch(testContext(t), cfg, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.awaitLeaders(testContext(t), st); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var missing *NotReadyError
	if err := c.awaitMembers(ctx, st); !errors.As(err, &missing) || !strings.Contains(missing.What, "n2 is not a member") {
		t.Fatalf("up: %v", err)
	}
}

func TestNodeOfAnotherClusterIsNamed(t *testing.T) {
	c, cfg := newCluster(t, "stranger"), testConfig(t)
	_, err := c.Up(testContext(t), cfg)
	if !errors.Is(err, kverr.WrongCluster) {
		t.Fatalf("up: %v", err)
	}
	for _, want := range []string{"n2", "cluster-y", "cluster-x", c.DataDir("n2")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// One after the other: n1 does not start again before n2 serves, and what is
// down comes first.
func TestRollingRestart(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	before := wantStates(t, c, "n1=running n2=running n3=running")
	if err := c.Kill(testContext(t), "n3"); err != nil {
		t.Fatal(err)
	}
	if err := c.RollingRestart(testContext(t), cfg); err != nil {
		t.Fatal(err)
	}
	after := wantStates(t, c, "n1=running n2=running n3=running")
	st, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range after {
		if after[i] == before[i] {
			t.Errorf("n%d was not restarted", i+1)
		}
	}
	n1, n2, n3 := st.Nodes[0].StartedAt, st.Nodes[1].StartedAt, st.Nodes[2].StartedAt
	if !n3.Before(n1) || !n1.Before(n2) {
		t.Errorf("started at %v, %v, %v", n1, n2, n3)
	}
}

// A cluster without leaders is not taken down node by node.
func TestRollingRestartStopsWithoutLeaders(t *testing.T) {
	c, cfg := newCluster(t, "leaderless"), testConfig(t)
	if _, err := c.launch(testContext(t), cfg, &Report{}); err != nil {
		t.Fatal(err)
	}
	before := wantStates(t, c, "n1=running n2=running n3=running")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var missing *NotReadyError
	if err := c.RollingRestart(ctx, cfg); !errors.As(err, &missing) || !strings.Contains(err.Error(), "n1: after its restart, 1 of 3") {
		t.Fatalf("restart: %v", err)
	} else if failed := NodeErrors(err); len(failed) != 3 || errors.Is(failed[0], ErrLeftAlone) ||
		!errors.Is(failed[1], ErrLeftAlone) || !errors.Is(failed[2], ErrLeftAlone) {
		t.Errorf("failed: %v", failed)
	}
	if after := wantStates(t, c, "n1=running n2=running n3=running"); after[1] != before[1] || after[2] != before[2] {
		t.Errorf("pids %v, then %v", before, after)
	}
}

// A node that does not come back does not keep the others from their turns, as long
// as the cluster serves without it; all is reported.
func TestRollingRestartGoesOnPastANode(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	before := wantStates(t, c, "n1=running n2=running n3=running")
	t.Setenv(localtest.Env, "sick2") // n2 dies at its next start
	err := c.RollingRestart(testContext(t), cfg)
	failed := NodeErrors(err)
	var died *StartError
	if len(failed) != 1 || failed[0].Node != "n2" || !errors.As(err, &died) || died.ExitCode != 1 {
		t.Fatalf("restart: %v", err)
	}
	after := wantStates(t, c, "n1=running n2=dead n3=running")
	if after[0] == before[0] || after[2] == before[2] {
		t.Errorf("pids %v, then %v: a sound node was not restarted", before, after)
	}
}

// One that hangs at its start has its share of the time, and is not waited for again.
func TestRollingRestartGoesOnPastANodeThatHangs(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	before := wantStates(t, c, "n1=running n2=running n3=running")
	t.Setenv(localtest.Env, "mute2")
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	failed := NodeErrors(c.RollingRestart(ctx, cfg))
	var missing *NotReadyError
	if len(failed) != 1 || failed[0].Node != "n2" || !errors.As(failed[0], &missing) {
		t.Fatalf("restart: %v", failed)
	}
	if after := wantStates(t, c, "n1=running n2=running n3=running"); after[0] == before[0] || after[2] == before[2] {
		t.Errorf("pids %v, then %v: a sound node was not restarted", before, after)
	}
}

// Flags that kvnode refuses are told at once and not remembered, whether or not a
// node would have been started with them.
func TestRefusedFlagsAreNotRemembered(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	good := []string{"--fake-version", "v7"}
	bad := cfg
	bad.NodeFlags = []string{"--bogus"}
	refused := func(when string) {
		t.Helper()
		_, err := c.Up(testContext(t), bad)
		var e *FlagsError
		if !errors.As(err, &e) || !slices.Equal(e.Flags, bad.NodeFlags) || !strings.Contains(err.Error(), "-bogus") || len(e.Faults) == 0 {
			t.Fatalf("%s: %v", when, err)
		}
	}
	refused("a new cluster")
	if c.Exists() {
		t.Error("a cluster was made with them")
	}
	cfg.NodeFlags = good
	mustUp(t, c, cfg)
	pids := wantStates(t, c, "n1=running n2=running n3=running")
	refused("one that runs")
	if _, flags, err := c.Options(); err != nil || !slices.Equal(flags, good) {
		t.Errorf("remembered: %q, %v", flags, err)
	}
	if err := c.Kill(testContext(t), "n1"); err != nil {
		t.Fatal(err)
	}
	refused("one with a dead node")
	if now := wantStates(t, c, "n1=dead n2=running n3=running"); now[1] != pids[1] {
		t.Error("a node was restarted")
	}
	cfg.NodeFlags = nil
	mustUp(t, c, cfg)
}

// Resuming tells those that were not paused.
func TestResumeSaysWhoRan(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	if err := c.Pause(testContext(t), "n2"); err != nil {
		t.Fatal(err)
	}
	failed := NodeErrors(c.Resume(testContext(t)))
	if len(failed) != 2 || failed[0].Node != "n1" || failed[1].Node != "n3" || !errors.Is(failed[0], ErrNotPaused) {
		t.Fatalf("resume: %v", failed)
	}
	wantStates(t, c, "n1=running n2=running n3=running")
}

func TestKillSaysWhomItDidNotHit(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	mustUp(t, c, cfg)
	if err := c.Kill(testContext(t), "n2"); err != nil {
		t.Fatal(err)
	}
	failed := NodeErrors(c.Kill(testContext(t)))
	if len(failed) != 1 || failed[0].Node != "n2" || !errors.Is(failed[0], ErrNotRunning) {
		t.Fatalf("kill: %v", failed)
	}
	wantStates(t, c, "n1=dead n2=dead n3=dead")
}

func TestNodeFlagsAreShownAndForgotten(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	cfg.Nodes, cfg.NodeFlags = 1, []string{"--fake-version", "x"}
	mustUp(t, c, cfg)
	if _, flags, err := c.Options(); err != nil || strings.Join(flags, " ") != "--fake-version x" {
		t.Fatalf("flags %q, %v", flags, err)
	}
	var notes []string
	cfg = Config{NodeFlags: []string{}, Note: func(s string) { notes = append(notes, s) }}
	mustUp(t, c, cfg)
	if _, flags, err := c.Options(); err != nil || len(flags) != 0 {
		t.Fatalf("flags %q, %v", flags, err)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "next start") {
		t.Errorf("notes: %q", notes)
	}
	mustUp(t, c, cfg)
	if len(notes) != 1 {
		t.Errorf("nothing changed, and yet: %q", notes)
	}
	if _, err := c.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	// Flags that an earlier kvnode took and this one does not.
	st, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	st.NodeFlags, cfg.NodeFlags = []string{"--no-such-flag"}, nil
	if err := c.save(st); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Up(testContext(t), cfg); err == nil || !strings.Contains(err.Error(), "started as: ") ||
		!strings.Contains(err.Error(), " --no-such-flag") {
		t.Errorf("up with a bad flag: %v", err)
	}
	for _, bad := range []string{"--listen", "-name", "--data-dir=/x"} {
		if err := (Config{NodeFlags: []string{bad, "x"}}).Validate(); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestTakenPortIsReplaced(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	cfg.Nodes = 2
	before := mustUp(t, c, cfg)
	if _, err := c.Stop(testContext(t), "n2"); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", before.Nodes[1].Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	var notes []string
	cfg.Note = func(s string) { notes = append(notes, s) }
	after := mustUp(t, c, cfg)
	if after.Nodes[1].Listen == before.Nodes[1].Listen || after.Nodes[0].Listen != before.Nodes[0].Listen {
		t.Fatalf("addresses %v, then %v", before.Endpoints(), after.Endpoints())
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "n2's gRPC port") {
		t.Fatalf("notes: %q", notes)
	}
}

func TestSnatchedPortIsTriedAgain(t *testing.T) {
	c, cfg := newCluster(t, "snatched"), testConfig(t)
	cfg.Nodes = 2
	mustUp(t, c, cfg)
	wantStates(t, c, "n1=running n2=running")
}

func TestConcurrentUpsStartEachNodeOnce(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	ctx := testContext(t)
	var wait sync.WaitGroup
	reports := make([]*Report, 3)
	for i := range reports {
		wait.Go(func() {
			var err error
			if reports[i], err = c.Up(ctx, cfg); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		return
	}
	started, formed := 0, 0
	for _, r := range reports {
		started += strings.Count(outcomes(r), "started")
		if r.Formed {
			formed++
		}
	}
	if started != 3 || formed != 1 {
		t.Fatalf("%d starts and %d formings", started, formed)
	}
}

func TestStubbornNodeIsKilled(t *testing.T) {
	c, cfg := newCluster(t, "stubborn"), testConfig(t)
	cfg.Nodes = 1
	mustUp(t, c, cfg)
	st, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	report, err := st.Nodes[0].stop(testContext(t), 100*time.Millisecond)
	if err != nil || report.Outcome != "killed" {
		t.Fatalf("stop: %+v, %v", report, err)
	}
}

// LC1: the file names a pid that belongs to another process by now.
func TestLC1_ReusedPidIsNotSignalled(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Skip("no sleep program: ", err)
	}
	defer func() {
		stranger.Process.Kill()
		stranger.Wait()
	}()
	c := newCluster(t, "")
	if err := os.MkdirAll(c.Dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	own, err := identify(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for what, p := range map[string]process{
		"another start time": {PID: own.PID, StartTicks: own.StartTicks - 1, BootID: own.BootID},
		"another boot":       {PID: own.PID, StartTicks: own.StartTicks, BootID: "another"},
	} {
		if err := c.save(&state{Nodes: []*nodeState{{Name: "n1", Process: p, StartedAt: time.Now()}}}); err != nil {
			t.Fatal(err)
		}
		if err := c.Kill(testContext(t), "n1"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: kill: %v", what, err)
		}
		if reports, err := c.Stop(testContext(t)); err != nil || reports[0].Outcome != "was not running" {
			t.Errorf("%s: stop: %+v, %v", what, reports, err)
		}
		if own.look() != running {
			t.Fatalf("%s: the stranger was hit", what)
		}
	}
}

// LC2: the starter died between starting a node and writing that down.
func TestLC2_UnrecordedNodeIsFound(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	cfg.Nodes = 2
	mustUp(t, c, cfg)
	before := wantStates(t, c, "n1=running n2=running")
	st, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	st.Nodes[1].Process = process{}
	if err := c.save(st); err != nil {
		t.Fatal(err)
	}
	if got := outcomes(mustUp(t, c, Config{})); got != "n1 running, n2 running" {
		t.Fatalf("up: %s", got)
	}
	if after := wantStates(t, c, "n1=running n2=running"); before[1] != after[1] {
		t.Fatalf("n2 is pid %d, was %d", after[1], before[1])
	}
}

// LC3: nodes lead their own sessions and outlive the process that started them.
func TestLC3_NodesOutliveTheirStarter(t *testing.T) {
	c, cfg := newCluster(t, ""), testConfig(t)
	starter := exec.Command(cfg.Binary)
	starter.Env = append(os.Environ(), starterVariable+"="+c.Dir())
	if out, err := starter.CombinedOutput(); err != nil {
		t.Fatalf("starter: %v\n%s", err, out)
	}
	for _, pid := range wantStates(t, c, "n1=running n2=running n3=running") {
		if sid, err := unix.Getsid(pid); err != nil || sid != pid {
			t.Errorf("pid %d is in session %d (%v)", pid, sid, err)
		}
	}
	if _, err := c.Down(testContext(t), false); err != nil {
		t.Fatal(err)
	}
}
