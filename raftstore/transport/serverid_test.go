package transport

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func TestServerID_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := shardmap.NodeID(rapid.StringMatching(`[0-9a-f]{40}|n[0-9]`).Draw(t, "node"))
		replica := shardmap.ReplicaID(rapid.Uint64Min(1).Draw(t, "replica"))
		gotNode, gotReplica, err := ParseServerID(string(ServerID(node, replica)))
		if err != nil || gotNode != node || gotReplica != replica {
			t.Fatalf("got %q %d %v", gotNode, gotReplica, err)
		}
	})
}

func TestParseServerID_Malformed(t *testing.T) {
	for _, s := range []string{"", "n1", "n1/", "n1/r", "/r1", "n1/r0", "n1/r01", "n1/r+1", "n1/r-1", "n1/r1x",
		"n1/r1/r2", "a/b/r1", "n1/r18446744073709551616", "127.0.0.1:80"} {
		if node, replica, err := ParseServerID(s); kverr.KindOf(err) != kverr.Invalid {
			t.Errorf("%q: got %q %d, error %v", s, node, replica, err)
		}
	}
}

func FuzzParseServerID(f *testing.F) {
	f.Add("n1/r1")
	f.Add("n1/r18446744073709551615")
	f.Add("n1/r01")
	f.Add("a/b/r1")
	f.Fuzz(func(t *testing.T, s string) {
		node, replica, err := ParseServerID(s)
		if err == nil && string(ServerID(node, replica)) != s {
			t.Fatalf("%q parsed to %q %d", s, node, replica)
		}
	})
}
