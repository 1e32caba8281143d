package cli

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ringfort/ringfort/shardmap"
)

// plant puts a key into the state of a node that is down, or takes it out.
func plant(t *testing.T, node, key string, flags ...string) {
	t.Helper()
	slot := shardmap.SlotOf([]byte(key))
	stored := append([]byte{byte(slot >> 8), byte(slot), 0x10}, key...)
	args := append(flags, filepath.Join(theCluster.dir, node, "data", "store", "state"), hex.EncodeToString(stored))
	if out, err := exec.Command(filepath.Join(theCluster.bin, "plantkey"), args...).CombinedOutput(); err != nil {
		t.Fatalf("plantkey: %v\n%s", err, out)
	}
}

// verification is what scripts read of `kvctl cluster verify -o json`.
type verification struct {
	Agree, Complete bool
	Shards          []struct {
		Shard    int
		Result   string
		Index    int
		Replicas []struct{ Node, Hash, Problem string }
	}
}

func verifyCluster(t *testing.T, code int, args ...string) verification {
	t.Helper()
	r := must(t, code, append([]string{"cluster", "verify", "-o", "json", "--timeout", "60s"}, args...)...)
	var v verification
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v in %v", err, r)
	}
	return v
}

// Under load all replicas are equal; one changed behind their backs is found, in
// its shard only; a dead node is told from a difference; and the exit codes say so.
func TestVerify(t *testing.T) {
	healthy(t)
	load := start(t, "bench", "--load", "put", "--clients", "8", "--keys", "2000", "--duration", "6s", "--warmup", "0s")
	eventually(t, "load", 20*time.Second, func() bool { return exists(t, "bench/") })
	for range 3 {
		v := verifyCluster(t, 0)
		if !v.Agree || !v.Complete || len(v.Shards) != 7 {
			t.Fatalf("%+v", v)
		}
		for _, s := range v.Shards {
			if s.Result != "equal" || s.Index == 0 || len(s.Replicas) != 3 {
				t.Errorf("%+v", s)
			}
		}
	}
	if r := load.wait(); r.code != 0 {
		t.Fatalf("%v", r)
	}

	const victim, planted = "n2", "planted-behind-their-backs"
	must(t, 0, "local", "kill", victim)
	must(t, 11, "cluster", "verify", "--timeout", "30s")
	plant(t, victim, planted)
	must(t, 0, "local", "up")
	found := verifyCluster(t, 10)
	if found.Agree || !found.Complete {
		t.Errorf("%+v", found)
	}
	different := 0
	for _, s := range found.Shards {
		if s.Result == "equal" {
			continue
		}
		different = s.Shard
		alike := map[string][]string{}
		for _, r := range s.Replicas {
			alike[r.Hash] = append(alike[r.Hash], r.Node)
		}
		for hash, nodes := range alike {
			if len(alike) != 2 || len(nodes) == 1 && nodes[0] != victim {
				t.Errorf("hash %s: %v of %v", hash, nodes, alike)
			}
		}
	}
	if different == 0 {
		t.Fatalf("the planted key was not found: %+v", found)
	}
	// The others are equal, and say so when asked alone.
	for _, s := range found.Shards {
		if s.Shard != different {
			verifyCluster(t, 0, "--shard", fmt.Sprint(s.Shard))
			break
		}
	}

	must(t, 0, "local", "kill", victim)
	plant(t, victim, planted, "-delete")
	must(t, 0, "local", "up")
	verifyCluster(t, 0)
}
