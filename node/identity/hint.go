package identity

import (
	"fmt"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// SaveMap keeps a copy of the shard map, so that the node knows its peers'
// addresses before it has spoken to any. It is a hint: records and epochs decide
// what is true.
func (d *Dir) SaveMap(m *kvv1.ShardMap) error {
	if err := d.saveProto(mapFile, mapMagic, m); err != nil {
		return fmt.Errorf("store the map: %w", err)
	}
	return nil
}

// LoadMap returns the copy, or nil without one. An error means that it was
// unreadable; the caller may go on without it.
func (d *Dir) LoadMap() (*kvv1.ShardMap, error) {
	m := new(kvv1.ShardMap)
	found, err := d.loadProto(mapFile, mapMagic, m)
	if err != nil {
		return nil, fmt.Errorf("stored map: %w", err)
	}
	if !found {
		return nil, nil
	}
	return m, nil
}
