package node_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/config"
	"github.com/ringfort/ringfort/node/nodetest"
)

func seeds(s ...*nodetest.Server) func(*config.Config) {
	return func(c *config.Config) {
		c.Join = nil
		for _, seed := range s {
			c.Join = append(c.Join, seed.Address())
		}
	}
}

func TestNodeJoinsLaterAndHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		dial(t, c, 0).put("key", "value")
		late := c.Add()
		late.Configure(seeds(c.Servers[1]))
		if err := late.Start(); err != nil {
			t.Fatal(err)
		}
		registered := func() bool {
			for _, s := range c.Servers {
				if entry, ok := s.Node().Map().Node(late.Node().Self().ID); !ok || entry != late.Node().Self() {
					return false
				}
			}
			return true
		}
		await(t, "the new node in every map", registered)
		dial(t, c, 3).wantValue("key", "value") // any node takes any request
		var note string
		for _, n := range dial(t, c, 0).status().GetNodes() {
			if n.GetNode().GetName() == late.Name {
				note = n.GetNote()
			}
		}
		if !strings.HasPrefix(note, "holds nothing yet") {
			t.Errorf("note %q", note)
		}
		// It stays a member across a crash, and its new address gets about.
		late.Crash(0, nil)
		late.Move("late.test:1", "late.test:2")
		if err := late.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "its new address in every map", registered)
	})
}

// A wiped directory is a new node: the old entry stays, a new one appears.
func TestWipedNodeIsANewNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		wiped := c.Servers[2]
		old := wiped.Node().Self().ID
		wiped.Crash(0, nil)
		wiped.Wipe()
		wiped.Configure(seeds(c.Servers[0]))
		if err := wiped.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the new node in the map", func() bool {
			_, ok := c.Servers[0].Node().Map().Node(wiped.Node().Self().ID)
			return ok
		})
		if wiped.Node().Self().ID == old {
			t.Fatal("it came back under the id it had voted with")
		}
		if groups := wiped.Node().Store().Groups(); len(groups) != 0 {
			t.Fatalf("it runs %d replicas that it has never had", len(groups))
		}
	})
}

func TestJoiningTheWrongClusterIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// One network, two clusters of one node each.
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Nodes: 3, ReplicationFactor: 1, Shards: 1})
		a, b, blank := c.Servers[0], c.Servers[1], c.Servers[2]
		for _, s := range []*nodetest.Server{a, b} {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Init(t.Context(), s.Index); err != nil {
				t.Fatal(err)
			}
			if s == a {
				if err := s.Stop(); err != nil { // so that b's init does not see it
					t.Fatal(err)
				}
			}
		}
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		blank.Configure(seeds(a, b))
		if err := blank.Start(); err != nil {
			t.Fatal(err)
		}
		<-blank.Done()
		if err := blank.Stop(); !errors.Is(err, kverr.WrongCluster) || !strings.Contains(err.Error(), b.Address()) {
			t.Fatalf("seeds of two clusters: %v", err)
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		a.Configure(seeds(b))
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		<-a.Done()
		if err := a.Stop(); !errors.Is(err, kverr.WrongCluster) || !strings.Contains(err.Error(), b.Address()) {
			t.Fatalf("a member sent to another cluster: %v", err)
		}
	})
}

func TestInitIsRefusedOnANodeThatShouldJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.Start(t, nodetest.Options{Logger: logger()})
		late := c.Add()
		if err := late.Start(); err != nil {
			t.Fatal(err)
		}
		_, err := dial(t, c, late.Index).Init(t.Context(), &adminv1.InitRequest{})
		err = wire.ErrorFromStatus(err, wire.MaybeSent)
		if !errors.Is(err, kverr.Conflict) || !strings.Contains(err.Error(), "--join") {
			t.Fatalf("got %v", err)
		}
	})
}
