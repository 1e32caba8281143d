package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

func TestParseStat(t *testing.T) {
	tail := " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20"
	for text, want := range map[string]procStat{
		"12 (kvnode) S" + tail:        {state: 'S', parent: 1, threads: 17, startTicks: 777},
		"12 (a) Z 9 9 (b c) T" + tail: {state: 'T', parent: 1, threads: 17, startTicks: 777},
	} {
		if got, err := parseStat([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "12 kvnode S", "12 (kvnode)", "12 (kvnode) S 1 2", "12 (x) S a" + tail} {
		if got, err := parseStat([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	raw, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("1 (()) S"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if stat, err := parseStat(raw); err != nil && stat != (procStat{}) {
			t.Fatalf("%+v with %v", stat, err)
		}
	})
}

func TestStateFile(t *testing.T) {
	c, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := &state{
		ClusterID: "x", Shards: 6, Factor: 3, NodeFlags: []string{"--log-format", "json"},
		Nodes: []*nodeState{
			{Name: "n1", Listen: "127.0.0.1:1", Gossip: "127.0.0.1:2", Process: process{1, 2, "b"}, StartedAt: time.Unix(9, 0).UTC()},
			{Name: "n2", Stopped: true},
		},
	}
	if err := c.save(want); err != nil {
		t.Fatal(err)
	}
	got, err := c.load()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("loaded %+v, %v", got, err)
	}
	for text, target := range map[string]error{
		`{"format":2}`:                         ErrFormat,
		`{"format":1,"nodes":[{"name":"n2"}]}`: nil,
		`{"format":1,"nodes":[null]}`:          nil,
		`{`:                                    nil,
	} {
		if _, err := decodeState([]byte(text)); err == nil || target != nil && !errors.Is(err, target) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"format":1,"nodes":[{"name":"n1","process":{"pid":1}}]}`))
	f.Add([]byte(`{"format":1,"nodes":[null,{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		st, err := decodeState(raw)
		if err != nil {
			return
		}
		st.endpoints()
		for _, n := range st.Nodes {
			st.seeds(n)
		}
	})
}

func TestFlagValue(t *testing.T) {
	args := []string{"kvnode", "--name", "n1", "--data-dir", "/d", "--last"}
	for flag, want := range map[string]string{"--name": "n1", "--data-dir": "/d", "--last": "", "--other": ""} {
		if got := flagValue(args, flag); got != want {
			t.Errorf("%s: %q, want %q", flag, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	taken := map[int]bool{7401: true, 7301: true, 7404: true}
	old := []*nodeState{{Name: "n1", Listen: "127.0.0.1:7402", Gossip: "127.0.0.1:7302"}}
	p := newPorts(7401, old)
	p.probe = func(port int, _ bool) bool { return !taken[port] }
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	nodes := append(old, &nodeState{Name: "n2"}, &nodeState{Name: "n3"})
	taken[7402] = true
	for _, n := range nodes {
		if err := p.assign(n, note); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, n := range nodes {
		got = append(got, n.Listen, n.Gossip)
	}
	want := "127.0.0.1:7403 127.0.0.1:7302 127.0.0.1:7405 127.0.0.1:7303 127.0.0.1:7406 127.0.0.1:7304"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	if len(notes) != 1 || notes[0] != "n1's gRPC port 7402 is taken by another program: using 7403" {
		t.Errorf("notes: %q", notes)
	}
	p.probe = func(int, bool) bool { return false }
	if err := p.assign(&nodeState{Name: "n4"}, note); err == nil {
		t.Error("a port was found where none is free")
	}
}

func TestPortsStartWhereTheClusterIs(t *testing.T) {
	for want, p := range map[int]*ports{
		firstListenPort: newPorts(0, []*nodeState{{Name: "n1"}}),
		9000:            newPorts(0, []*nodeState{{Name: "n1", Listen: "127.0.0.1:9000"}}),
		9500:            newPorts(9500, []*nodeState{{Name: "n1", Listen: "127.0.0.1:9000"}}),
	} {
		if p.listen != want || p.gossip != want-gossipPortBelow {
			t.Errorf("listen %d, gossip %d, want %d", p.listen, p.gossip, want)
		}
	}
}

func TestJudge(t *testing.T) {
	st := &state{Nodes: []*nodeState{{Name: "n1", Listen: "a:1"}, {Name: "n2", Listen: "a:2"}}}
	node := func(address string, reachable bool) *adminv1.NodeSummary {
		return &adminv1.NodeSummary{Node: &kvv1.NodeInfo{Address: address}, Reachable: reachable}
	}
	shard := func(id uint64, from, to uint32, leader string, ready bool) *adminv1.ShardSummary {
		return &adminv1.ShardSummary{
			Record:     &kvv1.ShardRecord{Shard: id, Arc: &kvv1.Arc{From: from, To: to}},
			LeaderNode: leader, Ready: ready,
		}
	}
	both := []*adminv1.NodeSummary{node("a:1", true), node("a:2", true)}
	system, all := shard(1, 16384, 16385, "x", true), shard(2, 0, 16384, "x", true)
	for name, c := range map[string]struct {
		nodes  []*adminv1.NodeSummary
		shards []*adminv1.ShardSummary
		want   string
	}{
		"serves":       {both, []*adminv1.ShardSummary{system, all}, ""},
		"no shards":    {both, nil, "0 of 16384 slots have a shard"},
		"half":         {both, []*adminv1.ShardSummary{system, shard(2, 0, 8192, "x", true)}, "8192 of 16384 slots have a shard"},
		"no leader":    {both, []*adminv1.ShardSummary{system, shard(2, 0, 16384, "", false)}, "no leader serves shard 2"},
		"not ready":    {both, []*adminv1.ShardSummary{shard(1, 16384, 16385, "x", false), all}, "no leader serves shard 1"},
		"unreachable":  {[]*adminv1.NodeSummary{both[0], node("a:2", false)}, []*adminv1.ShardSummary{system, all}, "n2 not reachable"},
		"moved":        {[]*adminv1.NodeSummary{both[0], node("a:9", true)}, []*adminv1.ShardSummary{system, all}, "n2 not reachable"},
		"old and back": {append([]*adminv1.NodeSummary{node("a:2", false)}, both...), []*adminv1.ShardSummary{system, all}, ""},
	} {
		if _, got := judge(&adminv1.ClusterStatusResponse{Nodes: c.nodes, Shards: c.shards}, st); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func logFixture(t *testing.T, logs map[string]string) *Cluster {
	t.Helper()
	c, err := At(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	st := &state{Nodes: []*nodeState{{Name: "n1"}, {Name: "n2"}}}
	if err := c.save(st); err != nil {
		t.Fatal(err)
	}
	for name, text := range logs {
		if err := os.MkdirAll(filepath.Dir(c.LogPath(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.LogPath(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestLogs(t *testing.T) {
	long := strings.Repeat("x", logChunk+10)
	c := logFixture(t, map[string]string{"n1": "a\nb\nc\n", "n2": long + "\nz"})
	for name, test := range map[string]struct {
		opts LogOptions
		want string
	}{
		"all of one":    {LogOptions{Names: []string{"n1"}, Tail: -1}, "a\nb\nc\n"},
		"two of one":    {LogOptions{Names: []string{"n1"}, Tail: 2}, "b\nc\n"},
		"more than all": {LogOptions{Names: []string{"n1"}, Tail: 9}, "a\nb\nc\n"},
		"none":          {LogOptions{Names: []string{"n1"}, Tail: 0}, ""},
		"unfinished":    {LogOptions{Names: []string{"n2"}, Tail: 1}, "z\n"},
		"long":          {LogOptions{Names: []string{"n2"}, Tail: 2}, long + "\nz\n"},
		"both":          {LogOptions{Tail: 1}, "n1 | c\nn2 | z\n"},
		"both, long":    {LogOptions{Tail: 2}, "n1 | b\nn1 | c\nn2 | " + long + "\nn2 | z\n"},
	} {
		var out bytes.Buffer
		if err := c.Logs(t.Context(), &out, test.opts); err != nil || out.String() != test.want {
			t.Errorf("%s: %.80q, %v; want %.80q", name, out.String(), err, test.want)
		}
	}
	if err := c.Logs(t.Context(), &bytes.Buffer{}, LogOptions{Names: []string{"n7"}}); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("n7: %v", err)
	}
}

func TestLogsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := logFixture(t, map[string]string{"n1": "a\nhal"})
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		done := make(chan error)
		go func() { done <- c.Logs(ctx, &out, LogOptions{Names: []string{"n1"}, Tail: -1, Follow: true}) }()
		time.Sleep(time.Second)
		synctest.Wait()
		if out.String() != "a\n" {
			t.Errorf("before: %q", out.String())
		}
		f, err := os.OpenFile(c.LogPath("n1"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("f\nnext\n"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		time.Sleep(time.Second)
		cancel()
		if err := <-done; err != nil || out.String() != "a\nhalf\nnext\n" {
			t.Errorf("after: %q, %v", out.String(), err)
		}
	})
}

func TestLockSurvivesRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := tryLock(path)
	if err != nil || unlock == nil {
		t.Fatal(err)
	}
	if second, err := tryLock(path); err != nil || second != nil {
		t.Fatalf("a second lock: %v", err)
	}
	// The holder wipes the directory; whoever waits must not end up with a lock
	// on the removed file while a third one makes a new file.
	waiter, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	unlock()
	third, err := tryLock(path)
	if err != nil || third == nil {
		t.Fatal(err)
	}
	defer third()
	if stillAt(waiter, path) {
		t.Fatal("the removed file counts as the lock")
	}
}
