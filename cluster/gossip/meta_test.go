package gossip

import (
	"encoding/hex"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/internal/kverr"
	"github.com/ringfort/ringfort/shardmap"
)

func genNodeID(t *rapid.T) shardmap.NodeID {
	return shardmap.NodeID(hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), nodeIDBytes, nodeIDBytes).Draw(t, "id")))
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(limit int, name string) string {
			return string(rapid.SliceOfN(rapid.Byte(), 0, limit).Draw(t, name))
		}
		m := meta{
			node: genNodeID(t), run: rapid.Uint64().Draw(t, "run"),
			cluster: text(maxCluster, "cluster"), name: text(MaxName, "name"),
			address: text(MaxAddress, "address"), zone: text(MaxZone, "zone"),
		}
		b := m.encode()
		if len(b) > MaxMeta {
			t.Fatalf("%d bytes: memberlist would panic", len(b))
		}
		got, err := decodeMeta(b)
		if err != nil || got != m {
			t.Fatalf("decoded %+v, %v; want %+v", got, err, m)
		}
	})
}

func TestG_METALongestFits(t *testing.T) {
	m := meta{
		node: shardmap.NodeID(strings.Repeat("a", 40)), cluster: strings.Repeat("c", maxCluster),
		name: strings.Repeat("n", MaxName), address: strings.Repeat("h", MaxAddress), zone: strings.Repeat("z", MaxZone),
	}
	if err := m.validate(); err != nil {
		t.Fatal(err)
	}
	if n := len(m.encode()); n > MaxMeta {
		t.Fatalf("%d bytes, over %d", n, MaxMeta)
	}
	m.name += "n"
	m.zone += "z"
	err := m.validate()
	if err == nil || !strings.Contains(err.Error(), "name has 65") || !strings.Contains(err.Error(), "zone has 65") {
		t.Fatalf("want both faults, got %v", err)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	m := meta{node: shardmap.NodeID(strings.Repeat("0f", 20)), run: 7, cluster: "c", name: "n1", address: "127.0.0.1:7401"}
	f.Add(m.encode())
	f.Add([]byte{})
	f.Add([]byte{metaFormat + 1})
	f.Add(m.encode()[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			if kverr.KindOf(err) != kverr.Format {
				t.Fatalf("kind %v", kverr.KindOf(err))
			}
			return
		}
		if got := m.encode(); string(got) != string(b) {
			t.Fatalf("accepted %x but encodes %x", b, got)
		}
	})
}

func FuzzDecodeReports(f *testing.F) {
	f.Add(encodeReports())
	f.Add(encodeReports(epochReport{node: shardmap.NodeID(strings.Repeat("0f", 20)), epoch: 1 << 40}))
	f.Add([]byte{epochFormat, 1, 2})
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		reports, err := decodeReports(b)
		if err != nil {
			return
		}
		if got := encodeReports(reports...); string(got) != string(b) {
			t.Fatalf("accepted %x but encodes %x", b, got)
		}
	})
}
