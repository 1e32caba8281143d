package sim

import (
	"time"

	"github.com/ringfort/ringfort/node"
	"github.com/ringfort/ringfort/raftstore"
	"github.com/ringfort/ringfort/shardmap"
)

// openingTime is how long a node that was given leaderships may take to serve.
const openingTime = 2 * time.Second

// lead is a replica's leadership of one term.
type lead struct {
	group *raftstore.Group
	term  uint64
}

// believed reports whether the replica still takes itself for the term's leader.
func (l lead) believed() bool {
	st := l.group.Status()
	return st.Ready && st.Term == l.term
}

// depose gives the step's node every leadership, waits until it serves, and takes
// the others away from it but not the clients. Others are elected then, and since
// it is slow to notice, a hunter per shard asks it for what has changed since. It
// reports whether the node led anything.
func (s *scenario) depose(step Step) bool {
	n := s.cluster.Servers[step.Nodes[0]].Running()
	if n == nil {
		return false
	}
	s.transfer(n)
	leads := awaitLeads(n)
	if len(leads) == 0 {
		return false
	}
	if step.Fault == FaultDeafen {
		s.mischief.deafen(step.Nodes[0], n.Self().ID)
		s.after(step, func() error { s.mischief.hear(step.Nodes[0]); return nil })
	} else {
		s.isolate(step)
	}
	for _, l := range leads {
		s.hunt(step, func(p *probe, until time.Duration) { p.pester(l, until) })
		s.hunt(step, func(p *probe, until time.Duration) { p.huntDeposed(l, until) })
	}
	return true
}

// awaitLeads waits, but not for ever, until a node leads every data shard that it
// holds a replica of, and returns those it leads.
func awaitLeads(n *node.Node) (leads []lead) {
	for patience := time.Now().Add(openingTime); time.Now().Before(patience); time.Sleep(huntEvery) {
		leads = leads[:0]
		held := 0
		for _, g := range n.Store().Groups() {
			if g.Shard() == shardmap.SystemShard {
				continue
			}
			held++
			if st := g.Status(); st.Ready {
				leads = append(leads, lead{g, st.Term})
			}
		}
		if len(leads) == held {
			break
		}
	}
	return leads
}
