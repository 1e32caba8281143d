package damage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ringfort/ringfort/node/nodetest"
)

// outcome is what the damaged node did.
type outcome string

const (
	refused     outcome = "did not start"
	ended       outcome = "ended by itself"
	quarantined outcome = "quarantined a replica"
	unnoticed   outcome = "went on" // repaired, ignored, or not met yet
	// stuck is a replica beside a damaged one that needs a snapshot: to install it,
	// the damaged block would have to be read.
	stuck outcome = "cannot catch up"
)

const (
	aloneFor    = 3 * time.Second // the damaged node and the laggard are asked
	recoverIn   = time.Minute     // a majority without the damaged node must serve
	compareTime = 10 * time.Second
)

// trial damages one file of the victim and judges the cluster with it.
func (b *base) trial(t testing.TB, turn int, rng *rand.Rand) (d damage, o outcome, lie error) {
	for i, s := range b.cluster.Servers {
		s.SetImage(b.images[i].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng}))
	}
	defer func() {
		for _, s := range b.cluster.Servers {
			s.Crash(100, rng)
		}
	}()
	srv := b.cluster.Servers[victim]
	disk := srv.Image()
	d, err := vandalise(disk, "/data", turn, rng)
	if err != nil {
		t.Fatal(err)
	}
	srv.SetImage(disk)
	startErr := srv.Start()
	if err := b.cluster.Servers[laggard].Start(); err != nil {
		t.Fatalf("start the sound laggard: %v", err)
	}
	cl := b.open(t)
	defer closeClient(t, cl)
	if _, lie = b.readAll(cl, aloneFor); lie != nil {
		return d, "", fmt.Errorf("from the damaged node and the laggard: %w", lie)
	}
	if err := b.cluster.Servers[third].Start(); err != nil {
		t.Fatalf("start the sound third node: %v", err)
	}
	for start := time.Now(); ; {
		missing, lie := b.readAll(cl, aloneFor)
		if lie != nil {
			return d, "", fmt.Errorf("from all nodes: %w", lie)
		}
		if missing == 0 {
			break
		}
		if time.Since(start) > recoverIn {
			return d, "", fmt.Errorf("%d keys are not served by two sound nodes of three", missing)
		}
	}
	o, lie = b.compare(srv, startErr)
	return d, o, lie
}

// compare tells what the damaged node did, and holds its replicas against the
// others'.
func (b *base) compare(srv *nodetest.Server, startErr error) (outcome, error) {
	if startErr != nil {
		return refused, nil
	}
	var behind bool
	for start := time.Now(); time.Since(start) < compareTime; time.Sleep(100 * time.Millisecond) {
		if srv.Fatal() != nil {
			return ended, nil
		}
		var differ error
		if behind, differ = b.differences(srv); differ != nil {
			return "", differ
		}
		if !behind {
			break
		}
	}
	switch held := srv.Node().Store().Quarantined(); {
	case behind:
		return stuck, nil
	case len(held) > 0:
		return quarantined, nil
	}
	return unnoticed, nil
}

// differences is an error when a replica of the damaged node differs from a sound
// one at the same index; behind is true while one has not come to it. A replica
// that cannot be read does not differ: it says what is wrong.
func (b *base) differences(srv *nodetest.Server) (behind bool, differ error) {
	for _, g := range srv.Node().Store().Groups() {
		sound, ok := b.cluster.Servers[third].Node().Store().Group(g.Shard())
		if !ok {
			continue
		}
		index, hash, err := g.Hash()
		soundIndex, soundHash, soundErr := sound.Hash()
		if err != nil || soundErr != nil {
			continue
		}
		if index != soundIndex {
			behind = true
		} else if hash != soundHash {
			differ = errors.Join(differ, fmt.Errorf("shard %d: the damaged replica has %x at index %d, a sound one %x",
				g.Shard(), hash, index, soundHash))
		}
	}
	return behind, differ
}
