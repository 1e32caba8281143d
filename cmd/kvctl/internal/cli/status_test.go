package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
)

func statusFixture() *adminv1.ClusterStatusResponse {
	node := func(id, name string, reachable bool) *adminv1.NodeSummary {
		return &adminv1.NodeSummary{
			Node:      &kvv1.NodeInfo{Id: id, Name: name, Address: name + ":1"},
			Reachable: reachable, Alive: reachable, Version: "v1",
		}
	}
	replicas := []*kvv1.Replica{
		{Id: 1, NodeId: "aaaaaaaaaa", Role: kvv1.Role_ROLE_VOTER}, {Id: 2, NodeId: "bbbbbbbbbb", Role: kvv1.Role_ROLE_LEARNER},
	}
	record := func(shard uint64, from, to uint32) *kvv1.ShardRecord {
		return &kvv1.ShardRecord{Shard: shard, Arc: &kvv1.Arc{From: from, To: to}, Replicas: replicas}
	}
	return &adminv1.ClusterStatusResponse{
		ClusterId: "c1", MapEpoch: 7, ReplicationFactor: 3,
		Nodes: []*adminv1.NodeSummary{node("bbbbbbbbbb", "n10", false), node("aaaaaaaaaa", "n2", true)},
		Shards: []*adminv1.ShardSummary{
			{Record: record(1, 16384, 16385), LeaderNode: "cccccccccc", Ready: true, Term: 3},
			{Record: record(3, 8192, 16384), NoQuorumUs: 2_500_000},
			{
				Record: record(2, 0, 8192), LeaderNode: "aaaaaaaaaa", Ready: true,
				Replicas: []*adminv1.ReplicaStatus{{Replica: 1, NodeId: "aaaaaaaaaa", State: "Leader", Applied: 9}},
			},
		},
	}
}

func TestStatusTable(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, settings: config.Settings{Output: "table"}}
	if err := a.printStatus(statusOf(statusFixture())); err != nil {
		t.Fatal(err)
	}
	want := `cluster c1: n10 is not reachable; shard 3 has no leader that serves
hint: start kvnode there again, or look at its log and at the network between; kvctl local up starts nodes of this machine
hint: a shard needs a majority of its replicas: bring back n10, unless an election is going on, which takes a second or two
map epoch 7, replication factor 3

NODE  ID        ADDRESS  STATE      REPLICAS  LEADERS  VERSION  NOTE
n2    aaaaaaaa  n2:1     reachable  0         0        v1
n10   bbbbbbbb  n10:1    down       0         0        v1

SHARD       SLOTS       LEADER    TERM  APPLIED  REPLICAS          STATE
2           0-8191      n2        0     0        n2 n10 (learner)  ready
3           8192-16383  -         0     0        n2 n10 (learner)  no quorum for 2.5 s
1 (system)  -           cccccccc  3     0        n2 n10 (learner)  ready
`
	var trimmed []string
	for line := range strings.Lines(out.String()) {
		trimmed = append(trimmed, strings.TrimRight(line, " \n")+"\n")
	}
	if got := strings.Join(trimmed, ""); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatusJSON(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, settings: config.Settings{Output: "json"}}
	if err := a.printStatus(statusOf(statusFixture())); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Healthy bool
		Nodes   []map[string]any
		Shards  []struct {
			ID     int
			Leader map[string]any
		}
		Leaders []struct {
			Shard             int
			Name, ID, Address string
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Healthy || len(got.Nodes) != 2 || len(got.Shards) != 3 || len(got.Leaders) != 2 {
		t.Fatalf("%s", out.String())
	}
	if l := got.Leaders[1]; l.Shard != 2 || l.Name != "n2" || l.ID != "aaaaaaaaaa" || l.Address != "n2:1" {
		t.Errorf("leader of shard 2: %+v", l)
	}
	if got.Shards[1].Leader != nil {
		t.Errorf("shard 3 has the leader %v", got.Shards[1].Leader)
	}
	// Empty lists are lists: scripts walk over them.
	out.Reset()
	if err := a.printStatus(statusOf(&adminv1.ClusterStatusResponse{})); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"nodes": []`, `"shards": []`, `"leaders": []`, `"healthy": false`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in %s", want, out.String())
		}
	}
}

// What a node or replica says is wrong shows, as one line with what to do, and makes
// the cluster unhealthy; what holds for a whole node is said once.
func TestStatusShowsTrouble(t *testing.T) {
	free := func(n uint64) *uint64 { return &n }
	healthy := func() *adminv1.ClusterStatusResponse {
		s := statusFixture()
		s.Nodes[0].Reachable = true
		for _, shard := range s.GetShards() {
			shard.LeaderNode, shard.Ready, shard.NoQuorumUs = "aaaaaaaaaa", true, 0
		}
		for _, n := range s.GetNodes() {
			n.Disk = &adminv1.DiskUsage{SpaceLevel: "ok", FreeBytes: free(80 << 30), TotalBytes: 100 << 30, LowBytes: 4 << 30, Dir: "/data/store"}
		}
		return s
	}
	replica := func(s *adminv1.ClusterStatusResponse) *adminv1.ReplicaStatus { return s.Shards[2].Replicas[0] }
	for name, c := range map[string]struct {
		spoil      func(*adminv1.ClusterStatusResponse)
		what, hint []string
	}{
		"nothing":                   {func(*adminv1.ClusterStatusResponse) {}, nil, nil},
		"a node that does not say":  {func(s *adminv1.ClusterStatusResponse) { s.Nodes[1].Disk = nil }, nil, nil},
		"a disk that does not tell": {func(s *adminv1.ClusterStatusResponse) { s.Nodes[1].Disk = &adminv1.DiskUsage{SpaceLevel: "ok"} }, nil, nil},
		"low space": {
			func(s *adminv1.ClusterStatusResponse) {
				s.Nodes[1].Disk.SpaceLevel, s.Nodes[1].Disk.FreeBytes = "low", free(12<<20)
			},
			[]string{"n2 is low on disk space (12 MiB free): shards led there refuse puts"},
			[]string{"free space on n2, in the file system of /data/store"},
		},
		"critical": {
			func(s *adminv1.ClusterStatusResponse) {
				s.Nodes[1].Disk.SpaceLevel, s.Nodes[1].Disk.FreeBytes = "critical", free(0)
			},
			[]string{"n2 has next to no disk space (0 B free): shards led there refuse writes but for a few deletes"},
			[]string{"free space on n2, in the file system of /data/store"},
		},
		"a disk that hangs": {
			func(s *adminv1.ClusterStatusResponse) {
				s.Nodes[1].Disk.Hangs = true
				replica(s).Problem = "silent: the node's disk hangs in a sync of the log"
			},
			[]string{"the disk of n2 hangs: its replicas are silent"}, []string{"look at the disk of n2"},
		},
		"a silent replica": {
			func(s *adminv1.ClusterStatusResponse) {
				replica(s).Problem = "silent: the disk hangs in applying committed entries"
			},
			[]string{"shard 2's replica on n2: silent: the disk hangs"}, []string{"kvctl cluster nodes shows the disks"},
		},
		"quarantined, twice": {
			func(s *adminv1.ClusterStatusResponse) {
				replica(s).State, replica(s).Problem = "quarantined", "its log\nis short"
				s.Shards[0].Replicas = []*adminv1.ReplicaStatus{{Replica: 2, NodeId: "bbbbbbbbbb", State: "quarantined"}}
			},
			[]string{"shard 2's replica on n2 is quarantined", "shard 1's replica on n10 is quarantined"},
			[]string{"kvctl cluster shards shows why"},
		},
	} {
		answer := healthy()
		c.spoil(answer)
		s := statusOf(answer)
		if s.Healthy != (c.what == nil) || len(s.Problems) != len(c.what) || len(s.hints()) != len(c.hint) {
			t.Errorf("%s: healthy %t, problems %+v", name, s.Healthy, s.Problems)
			continue
		}
		var out bytes.Buffer
		a := &app{stdout: &out, settings: config.Settings{Output: "table"}}
		if err := a.printStatus(s); err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(out.String(), "\n")
		if want := "cluster c1: healthy"; c.what == nil && head != want {
			t.Errorf("%s: %q; want %q", name, head, want)
		}
		for _, want := range c.what {
			if !strings.Contains(head, want) {
				t.Errorf("%s: %q is not in %q", name, want, head)
			}
		}
		for _, want := range c.hint {
			if !strings.Contains(out.String(), "\nhint: "+want) {
				t.Errorf("%s: no hint %q in\n%s", name, want, out.String())
			}
		}
	}
}

// K1: what a pipe gets is the value and nothing else.
func TestK1_GetPrintsTheBareValue(t *testing.T) {
	const how = "  \"served\": {\n    \"by\": \"leader\",\n    \"node\": \"n\",\n    \"shard_version\": 7\n  },\n  \"token\": \"\"\n}\n"
	served := client.Served{By: client.ServedByLeader, Node: "n", ShardVersion: 7}
	for _, c := range []struct{ output, value, want string }{
		{"table", "world", "world\n"},
		{"raw", "world", "world"},
		{"raw", "\xff\x00", "\xff\x00"},
		{"table", "", "\n"},
		{"ndjson", "a\nb", `{"key":"k","value":"a\nb","version":5,"served":{"by":"leader","node":"n","shard_version":7},"token":""}` + "\n"},
		{"json", "a<b", "{\n  \"key\": \"k\",\n  \"value\": \"a<b\",\n  \"version\": 5,\n" + how},
		{"json", "", "{\n  \"key\": \"k\",\n  \"value\": \"\",\n  \"version\": 5,\n" + how},
		{"json", "\xff", "{\n  \"key\": \"k\",\n  \"value_base64\": \"/w==\",\n  \"version\": 5,\n" + how},
	} {
		var out bytes.Buffer
		a := &app{stdout: &out, settings: config.Settings{Output: c.output}}
		item := client.Item{Key: "k", Value: []byte(c.value), Version: 5, Served: served}
		if err := a.printItem(coding{}, item, client.Token{}); err != nil || out.String() != c.want {
			t.Errorf("%s %q: %q, %v", c.output, c.value, out.String(), err)
		}
	}
}

// With many shards the headline stays a line.
func TestManyShardsWithoutALeaderAreCounted(t *testing.T) {
	s := &clusterStatus{Shards: make([]shardStatus, 7)}
	for n, want := range map[int]string{
		1: "shard 0 has no leader that serves", 3: "shards 0, 0, 0 have no leader that serves", 7: "7 of 7 shards have no leader that serves",
	} {
		for i := range s.Shards {
			s.Shards[i].Leader, s.Shards[i].Ready = &nodeRef{}, i >= n
		}
		if got := s.unserved(nil); len(got) != 1 || got[0].What != want || got[0].Hint == "" {
			t.Errorf("%d shards: %+v", n, got)
		}
	}
}
