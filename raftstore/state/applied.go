package state

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/shardmap"
)

// The stored position: format u8 = 1, then index, term, shard time and last
// version as uvarints. The stored configuration: format u8 = 1, index as
// uvarint, the configuration to the end.
const (
	appliedFormat       = 1
	configurationFormat = 1
)

// AppliedState is how far a shard has applied its log. All of it is equal on all
// replicas that have applied the same index.
type AppliedState struct {
	Index       uint64 // of the last entry applied
	Term        uint64 // of that entry
	ShardTime   uint64 // µs; never falls
	LastVersion uint64 // given out; never falls

	Configuration      []byte // the latest raft configuration, as raft encodes it
	ConfigurationIndex uint64 // of the entry that brought it
}

// LoadApplied reads how far the shard whose arc begins at from had applied its
// log in the reader's view; found is false when there is no shard. It costs two
// point reads.
func LoadApplied(r Reader, from shardmap.Slot) (a AppliedState, found bool, err error) {
	b, found, err := r.Get(AppliedKey(from))
	if err != nil || !found {
		return AppliedState{}, false, err
	}
	if a, err = decodePosition(b); err != nil {
		return AppliedState{}, false, err
	}
	b, found, err = r.Get(ConfigurationKey(from))
	if err != nil {
		return AppliedState{}, false, err
	}
	if !found {
		return AppliedState{}, false, corrupt("slot %d has an applied position and no configuration", from)
	}
	if a.Configuration, a.ConfigurationIndex, err = decodeConfiguration(b); err != nil {
		return AppliedState{}, false, err
	}
	if a.ConfigurationIndex > a.Index {
		return AppliedState{}, false, corrupt("configuration of index %d is ahead of the applied index %d: "+
			"they were not written in one batch", a.ConfigurationIndex, a.Index)
	}
	return a, true, nil
}

func (a *AppliedState) appendPosition(dst []byte) []byte {
	dst = append(dst, appliedFormat)
	for _, v := range [...]uint64{a.Index, a.Term, a.ShardTime, a.LastVersion} {
		dst = binary.AppendUvarint(dst, v)
	}
	return dst
}

func decodePosition(b []byte) (AppliedState, error) {
	c, err := open("applied position", b, appliedFormat)
	if err != nil {
		return AppliedState{}, err
	}
	a := AppliedState{
		Index:       c.uvarint(),
		Term:        c.uvarint(),
		ShardTime:   c.limited(MaxVersion),
		LastVersion: c.limited(MaxVersion),
	}
	if a.Index == 0 || a.Term == 0 {
		c.spoil()
	}
	return a, c.finish("applied position")
}

// follows asserts, whenever a position is written, that it can come after prev.
func (a *AppliedState) follows(prev *AppliedState) error {
	if a.Index <= prev.Index || a.Term < prev.Term || a.ShardTime < prev.ShardTime || a.LastVersion < prev.LastVersion {
		return corrupt("applied position (index %d, term %d, shard time %d, version %d) does not follow (%d, %d, %d, %d)",
			a.Index, a.Term, a.ShardTime, a.LastVersion, prev.Index, prev.Term, prev.ShardTime, prev.LastVersion)
	}
	return nil
}

func appendConfiguration(dst []byte, index uint64, configuration []byte) []byte {
	dst = binary.AppendUvarint(append(dst, configurationFormat), index)
	return append(dst, configuration...)
}

// decodeConfiguration returns a copy of the configuration.
func decodeConfiguration(b []byte) (configuration []byte, index uint64, err error) {
	c, err := open("stored configuration", b, configurationFormat)
	if err != nil {
		return nil, 0, err
	}
	index = c.uvarint()
	configuration = append([]byte(nil), c.bytes(uint64(len(c.b)))...)
	if err := c.finish("stored configuration"); err != nil {
		return nil, 0, err
	}
	return configuration, index, checkConfiguration(configuration)
}

// checkConfiguration is asserted when a configuration is written and read back.
func checkConfiguration(configuration []byte) error {
	if len(configuration) == 0 || len(configuration) > maxConfigurationBytes {
		return corrupt("raft configuration of %d bytes", len(configuration))
	}
	return nil
}
