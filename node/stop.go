package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// handOverShare is the part of the stop's time that handing leaderships over may
// take; the rest is for answering what is in progress.
const handOverShare = 2

// leaveTimeout bounds gossip's goodbye.
const leaveTimeout = time.Second

// stop does the steps of the package comment in order. It always goes to the end;
// the error joins what went wrong.
func (n *Node) stop(crash bool) error {
	grace, cancel := context.WithTimeout(context.Background(), n.cfg.StopTimeout)
	defer cancel()
	n.stopping.Store(true)
	n.log.Info("stopping", "grace", n.cfg.StopTimeout, "crash", crash)
	if crash {
		now, cancel := context.WithCancel(grace)
		cancel()
		_ = n.kv.Close(now) // it says that it cut everybody off
	} else {
		n.leaveClients(grace)
	}
	return n.shutdown(grace, crash)
}

// leaveClients is the part with grace: steps 1 to 3.
func (n *Node) leaveClients(grace context.Context) {
	n.servers.health.Shutdown()
	n.kv.GoingAway()

	handOver, cancel := context.WithTimeout(grace, n.cfg.StopTimeout/handOverShare)
	defer cancel()
	n.store.Load().HandOver(handOver)

	if err := n.kv.Close(grace); err != nil {
		n.log.Warn("cut clients off that did not finish in time", "error", err)
	}
}

// shutdown is the part that a crash would do as well: the rest of the steps.
func (n *Node) shutdown(grace context.Context, crash bool) error {
	var faults []error
	note := func(what string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("stop: %s: %w", what, err))
		}
	}
	n.servers.clients.Stop()
	n.stopLoops()
	n.loops.Wait()
	n.member.Close(grace) // peers may still ask for births
	note("stores", n.store.Load().Stop(grace))
	n.network.Close()
	if !crash {
		// Where all nodes stop at once nobody is left to hear it.
		if err := n.gossip.Leave(leaveTimeout); err != nil {
			n.log.Warn("no node confirmed the goodbye; others take this one for dead until it is back", "err", err)
		}
	}
	note("gossip", n.gossip.Close())
	n.servers.peers.Stop()
	note("listener", n.servers.door.Close())
	n.servers.serving.Wait()
	n.pool.Close()
	note("admin", n.admin.close())
	note("data directory", n.dir.Close())
	n.log.Info("stopped")
	return errors.Join(faults...)
}
