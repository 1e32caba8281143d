package contract

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ringfort/ringfort/cluster/local"
)

var (
	addsWanted   = flag.Int("contract.adds", 2_000, "how often counters are incremented in all")
	eventsWanted = flag.Int("contract.events", 20_000, "how many events the watches that keep up see in all")
	seedWanted   = flag.Uint64("contract.seed", 0, "what load and faults are drawn from; 0 draws it")
)

const (
	// firstPort keeps the nodes away from those of other tests and of users.
	firstPort = 26101
	// shards is few, so that each is busy.
	shards = 4
	// downPatience bounds the end of the cluster.
	downPatience = 30 * time.Second
)

// home is where binaries and nodes are.
var home string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	var err error
	if home, err = os.MkdirTemp("", "ringfort-contract-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(home)
	build := exec.Command("go", "build", "-o", home+string(filepath.Separator), "github.com/ringfort/ringfort/cmd/kvnode")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newCluster starts three nodes, which end with the test.
func newCluster(t *testing.T) *local.Cluster {
	t.Helper()
	c, err := local.At(filepath.Join(home, t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), downPatience)
		defer cancel()
		if t.Failed() {
			_ = c.Logs(ctx, os.Stderr, local.LogOptions{Tail: 60})
		}
		if _, err := c.Down(ctx, true); err != nil {
			t.Errorf("end of the cluster: %v", err)
		}
	})
	_, err = c.Up(t.Context(), config())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func config() local.Config {
	return local.Config{Nodes: 3, Shards: shards, Binary: filepath.Join(home, "kvnode"), FirstPort: firstPort}
}

// newSeed is the run's.
func newSeed(t *testing.T) uint64 {
	seed := *seedWanted
	if seed == 0 {
		seed = rand.Uint64()>>1 | 1
	}
	t.Logf("seed %d", seed)
	return seed
}

// random is a source of its own for each part of a run.
func random(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }

// between draws a time.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// pause waits, and reports whether the context allows to go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
