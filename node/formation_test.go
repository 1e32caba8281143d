package node_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/nodetest"
)

// initAgain asks node after node to form the cluster, as an administrator would
// who sees it fail, until it is formed.
func initAgain(t *testing.T, c *nodetest.Cluster) {
	t.Helper()
	for i := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := c.Init(ctx, i%len(c.Servers))
		cancel()
		if err = wire.ErrorFromStatus(err, wire.MaybeSent); err == nil || kverr.KindOf(err) == kverr.Conflict {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("never formed")
}

func wantOneCluster(t *testing.T, c *nodetest.Cluster) {
	t.Helper()
	awaitServed(t, c)
	for _, s := range c.Servers {
		if got, want := s.Node().Map().ClusterID(), c.Servers[0].Node().Map().ClusterID(); got != want {
			t.Fatalf("%s is in cluster %s, n1 in %s", s.Name, got, want)
		}
	}
	client := dial(t, c, 0)
	client.put("key", "value")
	dial(t, c, len(c.Servers)-1).wantValue("key", "value")
}

// One node loses power at some write of its disk while the cluster is formed; it
// comes back, and init is repeated. One cluster comes out of it.
func TestF1PowerCutWhileForming(t *testing.T) {
	struck := 0
	for n := 1; n <= 75; n += 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := nodetest.New(t, nodetest.Options{Logger: logger(), Seed: uint64(n)})
				for _, s := range c.Servers {
					if err := s.Start(); err != nil {
						t.Fatal(err)
					}
				}
				victim := c.Servers[n%3]
				victim.CutPower(nodetest.AtWrite(n))
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				_, _ = c.Init(ctx, 0) // through the victim or past it
				victim.CutPower(nil)
				if victim.PowerCut() {
					struck++
					victim.Crash(0, nil)
					if err := victim.Start(); err != nil {
						t.Fatal(err)
					}
				}
				initAgain(t, c)
				wantOneCluster(t, c)
			})
		})
	}
	if struck < 10 {
		t.Errorf("the power went in %d runs only: the test tests nothing", struck)
	}
}

// A node that accepted the plan and was away when the others started finds out by
// itself and follows.
func TestF1PlannedNodeStartsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Nodes: 4})
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		// It holds no replica of the system shard, so storing its membership is the
		// next write after storing the plan.
		planned := c.Servers[3]
		planned.CutPower(nodetest.AtFile("identity.tmp"))
		if _, err := c.Init(t.Context(), 0); err == nil || !planned.PowerCut() {
			t.Fatalf("init: %v, power cut: %v", err, planned.PowerCut())
		}
		planned.Crash(0, nil)
		if err := planned.Start(); err != nil {
			t.Fatal(err)
		}
		wantOneCluster(t, c)
	})
}

// Two administrators at once, at different nodes: one cluster.
func TestF1TwoInitsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Logger: logger(), Nodes: 5})
		for _, s := range c.Servers {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 2)
		for _, through := range []int{1, 4} {
			go func() {
				_, err := c.Init(t.Context(), through)
				done <- wire.ErrorFromStatus(err, wire.MaybeSent)
			}()
		}
		for range 2 {
			if err := <-done; err != nil && kverr.KindOf(err) != kverr.Conflict {
				t.Fatal(err)
			}
		}
		wantOneCluster(t, c)
	})
}
