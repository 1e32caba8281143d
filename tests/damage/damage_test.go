package damage

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/internal/failpoint"
	_ "github.com/ringfort/ringfort/internal/racebubble"
)

var (
	trials    = flag.Int("damage.n", defaultTrials, "how many files to damage")
	firstSeed = flag.Uint64("damage.seed", 1, "the seed")
	verbose   = flag.Bool("damage.v", false, "tell of every trial")
)

// trialsPerBase is how many copies of one loaded cluster are damaged.
const trialsPerBase = 20

// TestDamagedFilesTellNoLies damages files of all kinds.
func TestDamagedFilesTellNoLies(t *testing.T) {
	seen := make(map[string]map[outcome]int)
	for done, seed := 0, *firstSeed; done < *trials; seed++ {
		n := min(trialsPerBase, *trials-done)
		done += n
		var step failpoint.Name
		flushes := time.Second
		switch i := int(seed % uint64(len(installSteps)+2)); {
		case i < len(installSteps):
			step = installSteps[i]
		case i == len(installSteps):
			flushes = time.Hour
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBase(t, seed, step, flushes)
				rng := rand.New(rand.NewPCG(seed, 0xda3a6e))
				for i := range n {
					d, o, lie := b.trial(t, i, rng)
					if lie != nil {
						t.Errorf("trial %d of seed %d (%s): %s: %v", i, seed, step, d, lie)
					}
					if *verbose {
						t.Logf("%s: %s", d, o)
					}
					if seen[d.Kind] == nil {
						seen[d.Kind] = make(map[outcome]int)
					}
					seen[d.Kind][o]++
				}
			})
		})
	}
	t.Log("what damaged nodes did, by kind of file\n" + table(seen))
	if *trials < defaultTrials {
		return
	}
	for _, kind := range kinds {
		if len(seen[kind]) == 0 {
			t.Errorf("no file of the kind %q was damaged", kind)
		}
	}
}

// The kinds of files that a node has, all of which must have been damaged.
var kinds = []string{
	"identity", "map", "plan", "staging",
	"log WAL", "log MANIFEST", "log OPTIONS", "log table", "log highwater",
	"state MANIFEST", "state OPTIONS", "state table",
}

func table(seen map[string]map[outcome]int) string {
	var b strings.Builder
	columns := []outcome{refused, ended, quarantined, stuck, unnoticed}
	fmt.Fprintf(&b, "%-16s", "")
	for _, o := range columns {
		fmt.Fprintf(&b, "%24s", o)
	}
	b.WriteByte('\n')
	for _, kind := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintf(&b, "%-16s", kind)
		for _, o := range columns {
			fmt.Fprintf(&b, "%24d", seen[kind][o])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
