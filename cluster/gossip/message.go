package gossip

import (
	"encoding/binary"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

// epochFormat numbers the layout of epoch reports. It is on the wire.
//
//	| format 1 | { node id 20 | epoch 8 }... |
//
// A broadcast carries one report, a push/pull exchange all that are known, a
// probe's answer the answering node's own.
const (
	epochFormat = 1
	reportBytes = nodeIDBytes + 8
)

type epochReport struct {
	node  shardmap.NodeID
	epoch uint64
}

func encodeReports(reports ...epochReport) []byte {
	b := make([]byte, 0, 1+len(reports)*reportBytes)
	b = append(b, epochFormat)
	for _, r := range reports {
		id, err := nodeIDToBytes(r.node)
		if err != nil {
			panic("gossip: reporting for an invalid node: " + err.Error())
		}
		b = append(b, id[:]...)
		b = binary.BigEndian.AppendUint64(b, r.epoch)
	}
	return b
}

// decodeReports copies: memberlist reuses the slice.
func decodeReports(b []byte) ([]epochReport, error) {
	if len(b) == 0 || b[0] != epochFormat {
		return nil, kverr.New(kverr.Format, "gossip: an epoch report of unknown format")
	}
	b = b[1:]
	if len(b)%reportBytes != 0 || len(b)/reportBytes > MaxMembers {
		return nil, kverr.New(kverr.Format, "gossip: epoch reports of %d bytes", len(b))
	}
	reports := make([]epochReport, 0, len(b)/reportBytes)
	for ; len(b) > 0; b = b[reportBytes:] {
		reports = append(reports, epochReport{
			node:  nodeIDFromBytes(b),
			epoch: binary.BigEndian.Uint64(b[nodeIDBytes:]),
		})
	}
	return reports, nil
}
