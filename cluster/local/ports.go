package local

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
)

// Where the search for free ports starts, below the range that Linux hands to
// outgoing connections: a port from that range could be taken by anybody while
// its node is down.
const (
	firstListenPort = 7401
	gossipPortBelow = 100
	maxPort         = 65535
	maxPortTries    = 2000
)

// ports hands out free ports of the loopback address, none of them twice.
type ports struct {
	used   map[int]bool
	probe  func(port int, udp bool) bool
	listen int
	gossip int
}

// newPorts searches from first on; 0 means from where the cluster's first node
// is, or firstListenPort.
func newPorts(first int, nodes []*nodeState) *ports {
	if first == 0 && len(nodes) > 0 {
		first = portOf(nodes[0].Listen)
	}
	first = cmp.Or(first, firstListenPort)
	p := &ports{used: map[int]bool{}, probe: portIsFree, listen: first, gossip: max(first-gossipPortBelow, 1024)}
	for _, n := range nodes {
		p.used[portOf(n.Listen)] = true
		p.used[portOf(n.Gossip)] = true
	}
	return p
}

// assign gives a node that is about to start its two addresses. Recorded ones
// are kept while they are free; note tells when one is not.
func (p *ports) assign(n *nodeState, note func(format string, args ...any)) error {
	var err error
	n.Listen, err = p.keepOrTake(n.Name+"'s gRPC", n.Listen, p.listen, false, note)
	if err != nil {
		return err
	}
	n.Gossip, err = p.keepOrTake(n.Name+"'s gossip", n.Gossip, p.gossip, true, note)
	return err
}

func (p *ports) keepOrTake(what, addr string, from int, udp bool, note func(string, ...any)) (string, error) {
	old := portOf(addr)
	if old != 0 && p.probe(old, udp) {
		return addr, nil
	}
	for port := from; port <= maxPort && port < from+maxPortTries; port++ {
		if p.used[port] || !p.probe(port, udp) {
			continue
		}
		p.used[port] = true
		if old != 0 {
			note("%s port %d is taken by another program: using %d", what, old, port)
		}
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
	}
	return "", fmt.Errorf("no free port for %s from %d on", what, from)
}

// portIsFree binds the port for a moment. Gossip needs it for TCP and UDP.
func portIsFree(port int, udp bool) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	defer l.Close()
	if !udp {
		return true
	}
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}

func portOf(addr string) int {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return port
}
