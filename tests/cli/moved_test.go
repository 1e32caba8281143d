package cli

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// addresses are those of the nodes, by name, as the cluster's map has them.
func addresses(t *testing.T) map[string][2]string {
	t.Helper()
	var s struct {
		Nodes []struct {
			Name, Address string
			Gossip        string `json:"gossip_address"`
		}
	}
	r := must(t, 0, "cluster", "status", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		t.Fatalf("%v in %v", err, r)
	}
	found := map[string][2]string{}
	for _, n := range s.Nodes {
		found[n.Name] = [2]string{n.Address, n.Gossip}
	}
	return found
}

// occupy takes an address, TCP and UDP, until the test ends. It takes connections
// and never answers, as a stranger might.
func occupy(t *testing.T, address string) {
	t.Helper()
	// What the dead process left may be a moment away.
	eventually(t, address+" is free", 10*time.Second, func() bool {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return false
		}
		t.Cleanup(func() { l.Close() })
		return true
	})
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
}

// A node that leads shards dies in mid-import and comes back with the same data on
// other ports, its old ones taken by somebody else. The others find it, the import,
// which knows the old addresses only, ends well, the node's replicas are good for a
// quorum, and nothing is lost.
func TestNodeMovesToOtherPorts(t *testing.T) {
	healthy(t)
	file := records(t, "moved", 4000)
	acks := filepath.Join(t.TempDir(), "acks")
	before := addresses(t)
	var old []string
	for _, name := range []string{"n1", "n2", "n3"} {
		old = append(old, before[name][0])
	}
	endpoints := strings.Join(old, ",")
	load := start(t, "import", file, "--acks", acks, "--rate", "1000", "--concurrency", "64", "--endpoints", endpoints)
	eventually(t, "acknowledgements before the death", 30*time.Second, func() bool { return acknowledged(acks) > 500 })
	mover := aLeader(t)
	must(t, 0, "local", "kill", mover)
	for _, address := range before[mover] {
		occupy(t, address)
	}
	must(t, 0, "local", "up")
	after := addresses(t)[mover]
	eventually(t, "the new addresses in the map", 20*time.Second, func() bool {
		after = addresses(t)[mover]
		return after[0] != before[mover][0] && after[1] != before[mover][1]
	})
	if r := load.wait(); r.code != 0 || !strings.Contains(r.stderr, "4,000 acknowledged, 0 failed, 0 in doubt") {
		t.Fatalf("%v", r)
	}
	must(t, 0, "import", "--verify-only", "--endpoints", endpoints, file)
	must(t, 0, "import", "--verify-only", "--endpoints", after[0], file)
	verifyCluster(t, 0)

	// With another node dead no shard has a quorum without the one that moved.
	for _, other := range []string{"n1", "n2", "n3"} {
		if other == mover {
			continue
		}
		must(t, 0, "local", "kill", other)
		must(t, 0, "import", file, "--endpoints", endpoints, "--timeout", "30s")
		must(t, 0, "import", "--verify-only", "--endpoints", endpoints, file)
		break
	}
}
