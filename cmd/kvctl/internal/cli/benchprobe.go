package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/shardmap"
)

// probe implements bench.Probe over the admin service of every node.
type probe struct {
	app     *app
	clients []*client.Client
	nodes   []probedNode
}

type probedNode struct {
	name  string
	admin adminv1.AdminClient
	close func()
}

func (p *probe) close() {
	for _, n := range p.nodes {
		n.close()
	}
}

// Shards implements bench.Probe. It also finds out which nodes there are.
func (p *probe) Shards(ctx context.Context) (map[shardmap.ShardID]shardmap.Arc, error) {
	status, err := p.app.askStatus(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range status.Nodes {
		admin, closeConn, err := dialAdmin(n.Address)
		if err != nil {
			return nil, err
		}
		p.nodes = append(p.nodes, probedNode{name: n.Name, admin: admin, close: closeConn})
	}
	arcs := map[shardmap.ShardID]shardmap.Arc{}
	for _, s := range status.Shards {
		if !s.System {
			arcs[shardmap.ShardID(s.ID)] = shardmap.Arc{From: shardmap.Slot(s.From), To: shardmap.Slot(s.To)}
		}
	}
	if len(arcs) == 0 {
		return nil, errors.New("the cluster has no shards")
	}
	return arcs, nil
}

// Counters implements bench.Probe.
func (p *probe) Counters(ctx context.Context) map[string]*adminv1.CountersResponse {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]*adminv1.CountersResponse, len(p.nodes))
	var wait sync.WaitGroup
	for i, n := range p.nodes {
		wait.Go(func() {
			if answer, err := n.admin.Counters(ctx, &adminv1.CountersRequest{}); err == nil {
				answers[i] = answer
			} else {
				p.app.note("no counters of %s: %v", n.name, wire.ErrorFromStatus(err, wire.Unsent))
			}
		})
	}
	wait.Wait()
	byName := map[string]*adminv1.CountersResponse{}
	for i, n := range p.nodes {
		if answers[i] != nil {
			byName[n.name] = answers[i]
		}
	}
	return byName
}

// ClientStats implements bench.Probe.
func (p *probe) ClientStats() client.Stats {
	var sum client.Stats
	for _, c := range p.clients {
		s := c.Stats()
		sum.Frames += s.Frames
		sum.Operations += s.Operations
		sum.Retries += s.Retries
		sum.Redirects += s.Redirects
	}
	return sum
}

// ClientCPU implements bench.Probe.
func (p *probe) ClientCPU() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
