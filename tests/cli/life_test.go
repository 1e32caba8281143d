package cli

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kvnode runs the server in the foreground to its end; it is expected to refuse.
func kvnode(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(theCluster.bin, "kvnode"), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), 0
}

// What kvnode refuses to do, and says so by exit code.
func TestNodeRefusals(t *testing.T) {
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	fresh := filepath.Join(t.TempDir(), "d")
	node := func(dir, listen string) []string {
		return []string{"--name", "x", "--data-dir", dir, "--listen", listen, "--gossip-listen", free()}
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown flag":   {[]string{"--no-such-flag"}, 2, "no-such-flag"},
		"locked":         {node(filepath.Join(theCluster.dir, "n1", "data"), free()), 3, "in use by another process: stop it first"},
		"address in use": {node(fresh, busy.Addr().String()), 4, "choose another --listen"},
		"gossip in use":  {append(node(fresh, free()), "--gossip-listen", busy.Addr().String()), 4, "choose another --gossip-listen"},
		"one port twice": {append(node(fresh, busy.Addr().String()), "--gossip-listen", busy.Addr().String()), 2, "a port of its own"},
		"not loopback":   {node(fresh, "0.0.0.0:0"), 2, "insecure"},
		"admin in use":   {append(node(fresh, free()), "--admin-listen", busy.Addr().String()), 4, "--admin-listen"},
		"open admin":     {append(node(fresh, free()), "--admin-listen", "0.0.0.0:0"), 2, "insecure"},
	} {
		if out, code := kvnode(t, c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want %d:\n%s", name, code, c.code, out)
		}
	}
}

// A graceful stop and a restart of every node, one after the other, keep the
// data and the cluster.
func TestRollingRestart(t *testing.T) {
	healthy(t)
	must(t, 0, "put", "rolling", "stone")
	for _, name := range []string{"n1", "n2", "n3"} {
		must(t, 0, "local", "restart", name)
		if got := must(t, 0, "get", "rolling", "--timeout", "20s").stdout; got != "stone\n" {
			t.Fatalf("after the restart of %s: %q", name, got)
		}
	}
	must(t, 0, "local", "up")
	if s := status(t); !s.Healthy || len(s.Nodes) != 3 {
		t.Fatalf("%+v", s)
	}
}

// A node that joins later holds nothing, says so, and takes requests. It stays
// for the tests that come after this one.
func TestJoin(t *testing.T) {
	up := must(t, 0, "local", "up", "--nodes", "4")
	if !strings.Contains(up.stdout, "n4") {
		t.Fatalf("%v", up)
	}
	must(t, 0, "put", "joined", "yes")
	s := status(t)
	if len(s.Nodes) != 4 || s.Nodes[3].Name != "n4" || s.Nodes[3].Replicas != 0 || s.Nodes[3].Note == "" {
		t.Fatalf("%+v", s.Nodes)
	}
	addresses := strings.Fields(strings.ReplaceAll(up.stdout, ",", " "))
	var last string
	for _, word := range addresses {
		if strings.HasPrefix(word, "127.0.0.1:") {
			last = word
		}
	}
	if got := must(t, 0, "get", "joined", "--endpoints", last).stdout; got != "yes\n" {
		t.Fatalf("through n4: %q", got)
	}
}
