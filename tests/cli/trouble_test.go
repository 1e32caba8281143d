package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

// free is how much space there is where a directory lies.
func free(t *testing.T, dir string) uint64 {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Bavail * uint64(fs.Bsize)
}

// wants looks for lines in what a command printed.
func (r result) wants(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !regexp.MustCompile("(?m)" + line).MatchString(r.stdout + r.stderr) {
			t.Errorf("%q is not in %v", line, r)
		}
	}
}

// A replica that does not run, and disks that fill up, are seen where one looks
// first, with what to do about them.
func TestTroubleIsSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trouble")
	local := func(verb string, args ...string) []string {
		return append([]string{"local", verb, "--dir", dir}, args...)
	}
	t.Cleanup(func() {
		if down := kvctl(context.Background(), local("down", "--wipe")...); down.code != 0 { // the shared cluster is current again
			t.Error(down)
		}
	})
	must(t, 0, local("up", "--nodes", "3", "--first-port", "24601", "--", "--ballast-size", "off", "--low-space", "off")...)
	must(t, 0, "cluster", "status", "--check").wants(t, ": healthy$")
	must(t, 0, "put", "a", "1")

	// The record of a shard goes, behind the back of its node.
	var s struct {
		Healthy  bool
		Problems []struct{ What, Hint string }
		Shards   []struct {
			ID, From int
			Replicas []struct{ Node, State, Problem string }
		}
	}
	look := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(must(t, 0, "cluster", "status", "-o", "json").stdout), &s); err != nil {
			t.Fatal(err)
		}
	}
	look()
	const victim = "n2"
	ill := s.Shards[0]
	record := []byte{byte(ill.From >> 8), byte(ill.From), 0, 1}
	must(t, 0, local("kill", victim)...)
	plantkey := exec.Command(filepath.Join(theCluster.bin, "plantkey"), "-delete", filepath.Join(dir, victim, "data", "store", "state"), hex.EncodeToString(record))
	if out, err := plantkey.CombinedOutput(); err != nil {
		t.Fatalf("plantkey: %v\n%s", err, out)
	}
	must(t, 0, local("up")...)
	look()
	if s.Healthy || len(s.Problems) != 1 || s.Problems[0].Hint == "" || len(s.Shards[0].Replicas) != 3 {
		t.Errorf("%+v", s)
	}
	for _, r := range s.Shards[0].Replicas {
		if (r.State == "quarantined") != (r.Node == victim) || (r.Problem != "") != (r.Node == victim) {
			t.Errorf("%+v", r)
		}
	}
	what := fmt.Sprintf("shard %d's replica on %s is quarantined", ill.ID, victim)
	must(t, 0, "cluster", "status").wants(t, "^cluster .*: "+what+"$", "^hint: kvctl cluster shards ")
	must(t, 9, "cluster", "status", "--check").wants(t, "^error: .*"+what)
	must(t, 0, "cluster", "shards").wants(t, "n2 +[0-9]+ +voter +quarantined .*no record")
	must(t, 0, "node", "status", victim).wants(t, fmt.Sprintf("^%d .* quarantined .* no +.*no record", ill.ID))

	// Little space, by what the nodes are told is little.
	space := func(low uint64) {
		t.Helper()
		must(t, 0, local("up", "--", "--ballast-size", "off", "--low-space", fmt.Sprint(low))...)
		must(t, 0, local("restart", "--all")...)
	}
	space(free(t, dir) / 3 * 4)
	must(t, 12, "put", "a", "2").wants(t, `reads and deletes go on; free disk space on node n[123] \(directory .*/data/store\)`, "^hint: kvctl cluster status says")
	must(t, 0, "cluster", "status").wants(t, "n1 is low on disk space .*: shards led there refuse puts", "^hint: free space on n3, in the file system of "+dir+"/n3/")
	must(t, 9, "cluster", "status", "--check").wants(t, "n2 is low on disk space")
	must(t, 0, "cluster", "nodes").wants(t, "^n1 .* low +[0-9.]+ [KMGT]iB ")
	must(t, 0, "node", "status", "n1").wants(t, "^space +low: .* free of .*, low below ")
	must(t, 0, "get", "a")
	must(t, 0, "del", "b")

	space(free(t, dir) * 4)
	must(t, 12, "put", "a", "2").wants(t, "reads go on, and a few deletes each second; free disk space on node n[123] ")
	must(t, 0, "cluster", "status").wants(t, "n1 has next to no disk space")
	must(t, 0, "cluster", "nodes").wants(t, "^n1 .* critical +[0-9.]+ [KMGT]iB ")
	must(t, 11, "cluster", "verify", "--timeout", "3s").wants(t, "no space left", "^hint: kvctl cluster status shows .* which disks are full")
	must(t, 0, "get", "a")
	must(t, 0, "del", "b")
}
