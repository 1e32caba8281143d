package bench

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/ringfort/ringfort/shardmap"
)

// keySpace is the keys of a run and the shard that each falls into.
type keySpace struct {
	prefix string
	shards []shardmap.ShardID // by bucket; 0 stands for "shard unknown"
	bucket [shardmap.Slots]uint16
}

func newKeySpace(prefix string, arcs map[shardmap.ShardID]shardmap.Arc) *keySpace {
	k := &keySpace{prefix: prefix, shards: []shardmap.ShardID{0}}
	for _, shard := range slices.Sorted(maps.Keys(arcs)) {
		k.shards = append(k.shards, shard)
		for slot := arcs[shard].From; slot < min(arcs[shard].To, shardmap.Slots); slot++ {
			k.bucket[slot] = uint16(len(k.shards) - 1)
		}
	}
	return k
}

func (k *keySpace) key(i int) string { return fmt.Sprintf("%s%08d", k.prefix, i) }

func (k *keySpace) bucketOf(key string) uint16 { return k.bucket[shardmap.SlotOf([]byte(key))] }

// chooser draws the operations of one client.
type chooser struct {
	random    *rand.Rand
	keys      int
	readShare float64
	value     []byte
	written   uint64
}

func newChooser(cfg Config, client int) *chooser {
	random := rand.New(rand.NewPCG(cfg.Seed, uint64(client)))
	value := make([]byte, cfg.ValueSize)
	for i := range value {
		// Not compressible, so that the storage does the work that it would do.
		value[i] = byte(random.Uint32())
	}
	return &chooser{random: random, keys: cfg.Keys, readShare: cfg.readShare(), value: value}
}

func (c *chooser) next() (key int, read bool) {
	return c.random.IntN(c.keys), c.random.Float64() < c.readShare
}

// nextValue differs from the one before in its first bytes. The buffer is free
// again when the put that it was for has returned.
func (c *chooser) nextValue() []byte {
	c.written++
	if len(c.value) >= 8 {
		binary.LittleEndian.PutUint64(c.value, c.random.Uint64()^c.written)
	}
	return c.value
}
