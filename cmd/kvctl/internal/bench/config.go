package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/shardmap"
)

// The loads.
const (
	LoadPut   = "put"   // overwrite random keys
	LoadGet   = "get"   // read random keys, written beforehand
	LoadMixed = "mixed" // reads and writes by ReadRatio
)

// Config says what Run does.
type Config struct {
	Load      string
	Clients   int           // operations under way at a time
	Duration  time.Duration // of the measurement
	Warmup    time.Duration // before it, not counted
	ValueSize int           // bytes
	Keys      int
	ReadRatio float64 // of LoadMixed, 0 to 1
	Prefix    string  // of the keys
	Seed      uint64  // of the choice of keys and operations
	Preload   bool    // write all keys first, if the load reads
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(c.Load == LoadPut || c.Load == LoadGet || c.Load == LoadMixed, "load: %q is not one of put, get, mixed", c.Load)
	check(c.Clients >= 1 && c.Clients <= 100_000, "clients: %d is not in 1 to 100000", c.Clients)
	check(c.Duration > 0, "duration: %v is not positive", c.Duration)
	check(c.Warmup >= 0, "warmup: %v is negative", c.Warmup)
	check(c.ValueSize >= 0 && c.ValueSize <= 64<<20, "value size: %d is not in 0 to 67108864", c.ValueSize)
	check(c.Keys >= 1 && c.Keys <= 100_000_000, "keys: %d is not in 1 to 100000000", c.Keys)
	check(c.ReadRatio >= 0 && c.ReadRatio <= 1, "read ratio: %v is not in 0 to 1", c.ReadRatio)
	return errors.Join(faults...)
}

func (c Config) reads() bool { return c.Load == LoadGet || c.Load == LoadMixed && c.ReadRatio > 0 }

// readShare is the part of the operations that are reads.
func (c Config) readShare() float64 {
	switch c.Load {
	case LoadGet:
		return 1
	case LoadPut:
		return 0
	}
	return c.ReadRatio
}

// KV is what the load goes to. It bounds every call by a timeout of its own, so
// that a run does not pay for a context per operation. Errors are those of
// package client.
type KV interface {
	Put(ctx context.Context, key string, value []byte) error
	Get(ctx context.Context, key string) (value []byte, err error)
}

// Probe looks at the cluster and the clients from the side.
type Probe interface {
	// Shards are the arcs of the data shards by id; empty when unknown.
	Shards(ctx context.Context) (map[shardmap.ShardID]shardmap.Arc, error)
	// Counters asks every node; nodes that do not answer are left out.
	Counters(ctx context.Context) map[string]*adminv1.CountersResponse
	// ClientStats is the sum over all clients of the load.
	ClientStats() client.Stats
	// ClientCPU is the CPU time of this process so far, user and system.
	ClientCPU() time.Duration
}
