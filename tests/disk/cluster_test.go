package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// firstPort keeps the nodes away from those of other tests and of users.
const firstPort = 25601

// logTail is how much of a node's log a failure shows.
const logTail = 20_000

// process is one kvnode.
type process struct {
	t       *testing.T
	name    string
	dataDir string
	listen  string
	admin   string
	args    []string
	log     string

	cmd  *exec.Cmd
	died chan struct{} // closed when the process is gone for good
	end  time.Time     // when it was
	code int
}

// cluster is three of them, which end with the test.
type cluster struct {
	t     *testing.T
	home  string
	nodes []*process
}

// newCluster starts three nodes and forms a cluster. place prepares the directory
// that is to become a node's data directory; the flags are for all nodes.
func newCluster(t *testing.T, place func(node int, dir string), flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, home: t.TempDir()}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		n := &process{t: t, name: name, listen: fmt.Sprintf("127.0.0.1:%d", firstPort+i), admin: fmt.Sprintf("127.0.0.1:%d", firstPort+20+i),
			dataDir: filepath.Join(c.home, name), log: filepath.Join(c.home, name+".log")}
		if err := os.MkdirAll(n.dataDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if place != nil {
			place(i, n.dataDir)
		}
		n.args = append([]string{
			"--name", name, "--data-dir", filepath.Join(n.dataDir, "data"), "--listen", n.listen,
			"--gossip-listen", fmt.Sprintf("127.0.0.1:%d", firstPort+10+i), "--admin-listen", n.admin,
		}, flags...)
		if i > 0 {
			n.args = append(n.args, "--join", c.nodes[0].listen)
		}
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(c.printLogs)
	for _, n := range c.nodes {
		n.start()
	}
	c.eventually("three nodes that answer", 30*time.Second, func() bool { return c.answering() == 3 })
	c.eventually("a cluster is formed", 30*time.Second, func() bool { // once all see each other
		r := c.kvctl("cluster", "init")
		return r.code == 0 || r.code == 4
	})
	return c
}

// start runs the process; it ends with the test.
func (p *process) start() {
	p.t.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	cmd, died := exec.Command(filepath.Join(bin, "kvnode"), p.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.died = cmd, died
	go func() {
		_ = cmd.Wait() // the state says how it ended
		p.end, p.code = time.Now(), cmd.ProcessState.ExitCode()
		close(died)
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-died
	})
}

// dead reports whether the process is gone, all its threads with it.
func (p *process) dead() bool {
	select {
	case <-p.died:
		return true
	default:
		return false
	}
}

// said reports whether the process has logged a text.
func (p *process) said(text string) bool { return p.count(text) > 0 }

func (p *process) count(text string) int {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return bytes.Count(raw, []byte(text))
}

// metric reads one without labels.
func (p *process) metric(name string) string {
	p.t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + p.admin + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func (c *cluster) printLogs() {
	if !c.t.Failed() {
		return
	}
	for _, n := range c.nodes {
		raw, _ := os.ReadFile(n.log)
		c.t.Logf("%s:\n%s", n.name, raw[max(0, len(raw)-logTail):])
	}
}

// answering counts the nodes that take connections.
func (c *cluster) answering() (n int) {
	for _, p := range c.nodes {
		if conn, err := net.DialTimeout("tcp", p.listen, time.Second); err == nil {
			conn.Close()
			n++
		}
	}
	return n
}

// without are the addresses of all nodes but some.
func (c *cluster) without(some ...*process) string {
	var all []string
	for _, n := range c.nodes {
		if !slices.Contains(some, n) {
			all = append(all, n.listen)
		}
	}
	return strings.Join(all, ",")
}

// result is what a kvctl did.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("kvctl %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// kvctl runs a command; all nodes are its endpoints unless it names others.
func (c *cluster) kvctl(args ...string) result {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(bin, "kvctl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"HOME=" + c.home, "RINGFORT_ENDPOINTS=" + c.without()}
	err := cmd.Run()
	r := result{args: args, stdout: stdout.String(), stderr: stderr.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else if err != nil {
		r.code, r.stderr = -1, err.Error()
	}
	return r
}

func (c *cluster) must(code int, args ...string) result {
	c.t.Helper()
	r := c.kvctl(args...)
	if r.code != code {
		c.t.Fatalf("want exit code %d: %v", code, r)
	}
	return r
}

// shard is what `kvctl cluster status -o json` says of one.
type shard struct {
	ID       uint64
	System   bool
	From, To uint32
	Ready    bool
	Leader   *struct{ Name string }
}

// shards asks some nodes, and answers nil when they do not answer.
func (c *cluster) shards(endpoints string) []shard {
	r := c.kvctl("cluster", "status", "-o", "json", "--endpoints", endpoints, "--timeout", "3s")
	if r.code != 0 {
		return nil
	}
	var status struct{ Shards []shard }
	if err := json.Unmarshal([]byte(r.stdout), &status); err != nil {
		c.t.Fatalf("%v in %v", err, r)
	}
	return status.Shards
}

// ledBy counts the shards that have a leader that serves, and those of them that
// a node leads.
func ledBy(shards []shard, name string) (led, byIt int) {
	for _, s := range shards {
		if s.Leader == nil || !s.Ready {
			continue
		}
		led++
		if s.Leader.Name == name {
			byIt++
		}
	}
	return led, byIt
}

// spread waits until all shards are led, and by each node one at least.
func (c *cluster) spread() []shard {
	c.t.Helper()
	var shards []shard
	c.eventually("each node leads a shard", 30*time.Second, func() bool {
		shards = c.shards(c.without())
		for _, n := range c.nodes {
			if led, byIt := ledBy(shards, n.name); led == 0 || led < len(shards) || byIt == 0 {
				return false
			}
		}
		return true
	})
	return shards
}

// agree wants all replicas of all shards to be equal.
func (c *cluster) agree() {
	c.t.Helper()
	c.must(0, "cluster", "verify", "--timeout", "60s")
}

// eventually waits for what another process does.
func (c *cluster) eventually(what string, within time.Duration, is func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	for !is() {
		select {
		case <-ctx.Done():
			c.t.Fatalf("not within %v: %s", within, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
