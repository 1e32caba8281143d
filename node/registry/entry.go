package registry

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
	"github.com/ringfort/ringfort/api/wire"
	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// valueFormat numbers the encoding of values: this byte, then protobuf.
const valueFormat = 1

const (
	clusterKey  = "cluster"
	nodePrefix  = "node/"
	shardPrefix = "shard/"
)

// Entry is one key of the system shard.
type Entry struct{ Key, Value []byte }

// NodeEntry is what registers a node.
func NodeEntry(n shardmap.Node) Entry {
	return encode(nodePrefix+string(n.ID), wire.NodeToProto(n))
}

func shardEntry(rec shardmap.Record) Entry {
	return encode(shardPrefix+strconv.FormatUint(uint64(rec.Shard), 10), wire.RecordToProto(rec))
}

func clusterEntry(plan *peerv1.Plan) Entry { return encode(clusterKey, plan) }

// ClusterKey is the key whose presence says that the cluster is formed.
func ClusterKey() []byte { return []byte(clusterKey) }

func encode(key string, m proto.Message) Entry {
	value, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{valueFormat}, m)
	if err != nil {
		// Only text that is not UTF-8 gets here, and everything was checked when
		// it came in.
		panic("registry: encode " + key + ": " + err.Error())
	}
	return Entry{Key: []byte(key), Value: value}
}

func decode(key string, value []byte, into proto.Message) error {
	if len(value) == 0 || value[0] != valueFormat {
		return kverr.New(kverr.Format, "system shard: %s has a format this build does not know", key)
	}
	if err := proto.Unmarshal(value[1:], into); err != nil {
		return kverr.New(kverr.Format, "system shard: %s: %w", key, err)
	}
	return nil
}

// contents collects what a scan of the shard brings.
type contents struct {
	formed bool
	spec   shardmap.MapSpec
}

func (c *contents) add(k, value []byte, version uint64) error {
	key := string(k)
	switch {
	case key == clusterKey:
		var plan peerv1.Plan
		if err := decode(key, value, &plan); err != nil {
			return err
		}
		c.formed = true
		c.spec.ClusterID = plan.GetClusterId()
		c.spec.ReplicationFactor = int(plan.GetReplicationFactor())
	case strings.HasPrefix(key, nodePrefix):
		var info kvv1.NodeInfo
		if err := decode(key, value, &info); err != nil {
			return err
		}
		node, err := wire.NodeFromProto(&info)
		if err != nil {
			return kverr.New(kverr.Format, "system shard: %s: %w", key, err)
		}
		c.spec.Nodes = append(c.spec.Nodes, node)
	case strings.HasPrefix(key, shardPrefix):
		var record kvv1.ShardRecord
		if err := decode(key, value, &record); err != nil {
			return err
		}
		rec, err := wire.RecordFromProto(&record)
		if err != nil {
			return kverr.New(kverr.Format, "system shard: %s: %w", key, err)
		}
		c.spec.Records = append(c.spec.Records, rec)
	default:
		return nil
	}
	c.spec.Epoch = max(c.spec.Epoch, version) // REG1
	return nil
}

// Scan walks keys in order, as (*raftstore.Group).ScanLocal does. Slices are
// valid during the call only.
type Scan func(fn func(key, value []byte, version uint64) error) error

// Build makes the map out of one view of the system shard, or returns nil while
// the cluster is not formed (REG3).
func Build(scan Scan) (*shardmap.Map, error) {
	var c contents
	if err := scan(c.add); err != nil {
		return nil, err
	}
	if !c.formed {
		return nil, nil
	}
	m, err := shardmap.NewMap(c.spec)
	if err != nil {
		return nil, kverr.New(kverr.Internal, "system shard: %w", err)
	}
	return m, nil
}
