package transport

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
)

// TestOutbox_AgainstModel compares the outbox with a plain slice.
func TestOutbox_AgainstModel(t *testing.T) {
	type waiting struct {
		rpc    uint64
		size   int
		parcel *parcel
	}
	rapid.Check(t, func(t *rapid.T) {
		const maxCount, maxBytes = 40, 1000
		o := newOutbox(maxCount, maxBytes)
		var model []waiting
		bytes := func() (n int) {
			for _, w := range model {
				n += w.size
			}
			return n
		}
		rpc := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				rpc++
				size := rapid.IntRange(1, 1200).Draw(t, "size")
				fits := len(model) < maxCount && (len(model) == 0 || bytes()+size <= maxBytes)
				p := o.push(&peerv1.Message{Rpc: rpc}, size)
				if (p != nil) != fits {
					t.Fatalf("pushed %t, expected %t", p != nil, fits)
				}
				if fits {
					model = append(model, waiting{rpc, size, p})
				}
			},
			"push small": func(t *rapid.T) {
				rpc++
				if p := o.push(&peerv1.Message{Rpc: rpc}, 1); p != nil {
					model = append(model, waiting{rpc, 1, p})
				}
			},
			"drop": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				p := model[i].parcel
				o.drop(p)
				o.drop(p) // harmless
				model = slices.Delete(model, i, i+1)
			},
			"take": func(t *rapid.T) {
				limit := rapid.IntRange(0, 1500).Draw(t, "limit")
				n, sum := 0, 0
				for n < len(model) && (n == 0 || sum+model[n].size <= limit) {
					sum += model[n].size
					n++
				}
				batch := o.take(limit)
				if len(batch) != n {
					t.Fatalf("took %d messages, expected %d", len(batch), n)
				}
				for i, m := range batch {
					if m.GetRpc() != model[i].rpc {
						t.Fatalf("took message %d, expected %d", m.GetRpc(), model[i].rpc)
					}
					o.drop(model[i].parcel) // taken: harmless
				}
				model = model[n:]
			},
			"": func(t *rapid.T) {
				if o.empty() != (len(model) == 0) || o.mu.bytes != bytes() || o.mu.live != len(model) {
					t.Fatalf("outbox has %d messages, %d bytes; expected %d, %d", o.mu.live, o.mu.bytes, len(model), bytes())
				}
				if dead := len(o.mu.waiting) - o.mu.live; dead > 17+o.mu.live {
					t.Fatalf("%d dead parcels beside %d", dead, o.mu.live)
				}
			},
		})
	})
}

func TestOutbox_Close(t *testing.T) {
	o := newOutbox(10, 1000)
	p := o.push(&peerv1.Message{}, 10)
	o.close()
	o.drop(p)
	if o.push(&peerv1.Message{}, 10) != nil || o.take(1000) != nil || !o.empty() {
		t.Fatal("a closed outbox holds messages")
	}
}
