package identity

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// format numbers the layout of a data directory and of the identity file.
const format = 1

const (
	nodeIDBytes    = 20
	clusterIDBytes = 16
)

// Identity is who a node is.
type Identity struct {
	Node    shardmap.NodeID
	Cluster string // 32 hex digits; empty while the node belongs to none
}

// NewNodeID draws a node id.
func NewNodeID(random io.Reader) (shardmap.NodeID, error) {
	s, err := randomHex(random, nodeIDBytes)
	return shardmap.NodeID(s), err
}

// NewClusterID draws a cluster id.
func NewClusterID(random io.Reader) (string, error) { return randomHex(random, clusterIDBytes) }

func randomHex(random io.Reader, n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("draw an id: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// encode writes the text form:
//
//	ringfort-node 1
//	node 5be1…
//	cluster 88af…      (or "cluster -")
//	crc32c 01234567    of the lines above
func (id Identity) encode() []byte {
	cluster := id.Cluster
	if cluster == "" {
		cluster = "-"
	}
	b := fmt.Appendf(nil, "ringfort-node %d\nnode %s\ncluster %s\n", format, id.Node, cluster)
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

func decodeIdentity(b []byte) (Identity, error) {
	var v int
	first, _, _ := strings.Cut(string(b), "\n")
	digits, ok := strings.CutPrefix(first, "ringfort-node ")
	if !ok {
		return Identity{}, kverr.New(kverr.Format, "this is no identity file")
	}
	v, err := strconv.Atoi(digits)
	if err != nil || v != format {
		return Identity{}, kverr.New(kverr.Format,
			"format %q is not known to this build (it knows %d): use the version of kvnode that wrote it", digits, format)
	}
	fields := strings.Fields(string(b))
	if len(fields) != 8 {
		return Identity{}, kverr.New(kverr.Format, "the identity file is damaged: %d fields", len(fields))
	}
	id := Identity{Node: shardmap.NodeID(fields[3]), Cluster: fields[5]}
	if id.Cluster == "-" {
		id.Cluster = ""
	}
	// Encoding again checks spelling, order and checksum at once.
	if !bytes.Equal(id.encode(), b) {
		return Identity{}, kverr.New(kverr.Format, "the identity file is damaged: its checksum does not match")
	}
	if !isHex(string(id.Node), nodeIDBytes) || (id.Cluster != "" && !isHex(id.Cluster, clusterIDBytes)) {
		return Identity{}, kverr.New(kverr.Format, "the identity file holds a malformed id")
	}
	return id, nil
}

func isHex(s string, bytes int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*bytes && s == strings.ToLower(s)
}
