package verify

import (
	"context"
	"slices"
	"time"
)

// Replica is one of those to be compared.
type Replica struct {
	ID     uint64
	Node   string // name
	NodeID string
}

// Shard is a shard as the cluster shows it.
type Shard struct {
	ID       uint64
	Leader   string // node id; empty while none is known
	Replicas []Replica
}

// Taken is a replica's answer.
type Taken struct {
	Index             uint64
	Hash, Keys, Bytes uint64
}

// Cluster is what a verification asks. Safe for concurrent use.
type Cluster interface {
	// Shards are those to be verified, as they are now.
	Shards(context.Context) ([]Shard, error)
	// Watch has a replica wait for an id. When it returns, the replica waits;
	// ErrNothing among its errors means that no more can be had from the node.
	Watch(ctx context.Context, shard uint64, r Replica, id [16]byte) (Watch, error)
	// Propose has a node that leads the shard write the entry.
	Propose(ctx context.Context, shard uint64, leader string, id [16]byte) error
	// NewID draws an id.
	NewID() [16]byte
}

// Watch is a wait that has begun; its context ends it.
type Watch interface {
	// Taken waits until the replica's state was taken.
	Taken() error
	// Hashed waits for its hash.
	Hashed() (Taken, error)
}

// Results of a shard.
const (
	Equal      = "equal"
	Different  = "different"
	Incomplete = "incomplete" // those that answered are equal, or fewer than two did
)

// Report is the outcome for all shards.
type Report struct {
	Agree    bool     `json:"agree"`    // no replicas differ
	Complete bool     `json:"complete"` // every replica was compared
	Shards   []Result `json:"shards"`
}

// Result is the outcome for one shard.
type Result struct {
	Shard    uint64          `json:"shard"`
	Result   string          `json:"result"`
	Index    uint64          `json:"index"` // of the entry at which the replicas were taken
	Attempts int             `json:"attempts"`
	Problem  string          `json:"problem,omitempty"` // why it is incomplete
	Replicas []ReplicaResult `json:"replicas"`
}

// ReplicaResult is one replica's.
type ReplicaResult struct {
	Replica uint64 `json:"replica"`
	Node    string `json:"node"`
	NodeID  string `json:"node_id"`
	Hash    string `json:"hash,omitempty"` // 16 hexadecimal digits
	Keys    uint64 `json:"keys"`
	Bytes   uint64 `json:"bytes"`
	Problem string `json:"problem,omitempty"`
}

// Patience is how long replicas may take to come to the entry once it is written.
// It doubles from round to round, and so does the pause between them: each round
// writes an entry to the shards that are left.
const (
	firstPatience = 5 * time.Second
	mostPatience  = 5 * time.Minute
	firstPause    = 250 * time.Millisecond
	longestPause  = 5 * time.Second
)

// Run verifies the shards that c names, one after the other, and those that could
// not be completed again, until ctx ends. done hears of each shard that is settled.
// The error says that the cluster could not be asked at all.
func Run(ctx context.Context, c Cluster, done func(Result)) (*Report, error) {
	shards, err := c.Shards(ctx)
	if err != nil {
		return nil, err
	}
	results := map[uint64]Result{}
	open := shards
	for patience, pause := firstPatience, firstPause; len(open) > 0; {
		var again []Shard
		for _, shard := range open {
			result, mayImprove := attempt(ctx, c, shard, patience)
			before, tried := results[shard.ID]
			if tried && result.Result == Incomplete && ctx.Err() != nil {
				result, result.Attempts = before, 1 // it knew more than that the time is over
			}
			result.Attempts += before.Attempts
			results[shard.ID] = result
			if result.Result == Incomplete && mayImprove && ctx.Err() == nil {
				again = append(again, shard)
				continue
			}
			done(result)
		}
		if open = again; len(open) == 0 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		patience, pause = min(2*patience, mostPatience), min(2*pause, longestPause)
		open = refresh(ctx, c, open)
	}
	report := &Report{Agree: true, Complete: true, Shards: []Result{}}
	for _, shard := range shards {
		result := results[shard.ID]
		report.Agree = report.Agree && result.Result != Different
		report.Complete = report.Complete && result.complete()
		report.Shards = append(report.Shards, result)
	}
	return report, nil
}

// refresh looks at the shards again: leaders and members may have changed.
func refresh(ctx context.Context, c Cluster, open []Shard) []Shard {
	now, err := c.Shards(ctx)
	if err != nil {
		return open // the next attempt says what is wrong
	}
	return slices.DeleteFunc(now, func(s Shard) bool {
		return !slices.ContainsFunc(open, func(o Shard) bool { return o.ID == s.ID })
	})
}

func (r Result) complete() bool {
	return r.Problem == "" && !slices.ContainsFunc(r.Replicas, func(p ReplicaResult) bool { return p.Problem != "" })
}
