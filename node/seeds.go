package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/node/peers"
	"github.com/ringfort/ringfort/shardmap"
)

// seeds are the nodes given by --join, known by address only.
type seeds struct {
	addresses []string
	self      shardmap.NodeID
	pool      *peers.Pool
	gossip    func(addresses []string) // joins gossip there
	logger    *slog.Logger

	mu      sync.Mutex
	answers map[string]seedAnswer // by address
}

type seedAnswer struct {
	node    shardmap.NodeID
	cluster string
	gossip  string
}

// contact asks every seed that has not answered yet, or belonged to no cluster
// when it did, and makes gossip know those that answer. It reports whether all
// have answered.
func (s *seeds) contact(ctx context.Context) bool {
	var open []string
	for _, address := range s.addresses {
		if a, ok := s.answer(address); !ok || (a.cluster == "" && a.node != s.self) {
			open = append(open, address)
		}
	}
	var wg sync.WaitGroup
	for _, address := range open {
		wg.Go(func() { s.ask(ctx, address) })
	}
	wg.Wait()
	return !slices.ContainsFunc(s.addresses, func(address string) bool {
		_, ok := s.answer(address)
		return !ok
	})
}

func (s *seeds) answer(address string) (seedAnswer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.answers[address]
	return a, ok
}

func (s *seeds) ask(ctx context.Context, address string) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	conn, err := s.pool.Once(address)
	if err != nil {
		return // the node is stopping
	}
	defer func() { _ = conn.Close() }() // it fails only when closed already
	resp, err := adminv1.NewAdminClient(conn).NodeStatus(ctx, &adminv1.NodeStatusRequest{})
	if err != nil {
		s.logger.Debug("a seed does not answer", "seed", address, "error", err)
		return
	}
	a := seedAnswer{
		node: shardmap.NodeID(resp.GetNode().GetId()), cluster: resp.GetClusterId(), gossip: resp.GetNode().GetGossipAddress(),
	}
	s.mu.Lock()
	_, again := s.answers[address]
	s.answers[address] = a
	s.mu.Unlock()
	if a.node != s.self && a.gossip != "" && !again {
		s.gossip([]string{a.gossip})
	}
}

// inCluster returns the seeds that belong to a cluster.
func (s *seeds) inCluster() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var in []string
	for _, address := range s.addresses {
		if a := s.answers[address]; a.cluster != "" && a.node != s.self {
			in = append(in, address)
		}
	}
	return in
}

func (s *seeds) none() bool { return len(s.addresses) == 0 }

// gossipAddresses are worth joining again whenever this node finds itself alone.
func (s *seeds) gossipAddresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var known []string
	for _, a := range s.answers {
		if a.gossip != "" && a.node != s.self {
			known = append(known, a.gossip)
		}
	}
	return known
}

func (s *seeds) join(ctx context.Context, address string, req *peerv1.JoinRequest) (*peerv1.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	conn, err := s.pool.Once(address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it fails only when closed already
	resp, err := peerv1.NewPeerClient(conn).Join(ctx, req)
	return resp, wire.ErrorFromStatus(err, wire.MaybeSent)
}

// verdict is an error of kind WrongCluster when --join can only be a mistake: the
// seeds belong to several clusters and the node would have to choose, or all of
// them to another one and the node knows nobody of its own. A single stale
// address among good ones is logged and borne.
func (s *seeds) verdict(own string, matesKnown bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	byCluster := make(map[string][]string)
	others := 0
	for _, address := range s.addresses {
		a, ok := s.answers[address]
		if ok && a.node == s.self {
			continue
		}
		others++
		if a.cluster != "" {
			byCluster[a.cluster] = append(byCluster[a.cluster], address)
		}
	}
	if own == "" {
		if len(byCluster) > 1 {
			return kverr.New(kverr.WrongCluster, "the nodes given by --join belong to different clusters (%s): name nodes of one",
				describe(byCluster))
		}
		return nil
	}
	foreign := 0
	for cluster, addresses := range byCluster {
		if cluster != own {
			foreign += len(addresses)
		}
	}
	if others == 0 || foreign < others || matesKnown {
		return nil
	}
	return kverr.New(kverr.WrongCluster, "this node belongs to cluster %s, but the nodes given by --join to another (%s): "+
		"correct --join, or empty the data directory to join as a new node", own, describe(byCluster))
}

func describe(byCluster map[string][]string) string {
	var parts []string
	for cluster, addresses := range byCluster {
		parts = append(parts, fmt.Sprintf("%s: %s", cluster, strings.Join(addresses, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
