package state

import (
	"fmt"
	"testing"
)

// discard is a Writer that costs nothing.
type discard struct{}

func (discard) Set(_, _ []byte) error            { return nil }
func (discard) Delete(_ []byte) error            { return nil }
func (discard) Get([]byte) ([]byte, bool, error) { panic("a plain write reads") }

// benchEntry is a merged entry: 256-byte values, 24-byte keys, eight clients.
func benchEntry(ops int) *Entry {
	e := &Entry{ShardTime: 1 << 50, Term: 5, Proposal: ProposalID{Replica: 7, Nonce: 1 << 60, Counter: 1}}
	for i := range ops {
		e.Ops = append(e.Ops, Op{
			Kind:    OpPut,
			Key:     fmt.Appendf(nil, "benchmark/key/%010d", i),
			Value:   make([]byte, 256),
			Request: RequestID{Client: ClientID{byte(i % 8)}, NotAfter: e.ShardTime + 30e6},
		})
	}
	return e
}

// number gives every operation the next number of its client, which keeps 64
// numbers per operation of an entry open.
func number(e *Entry, next *uint64) {
	for i := range e.Ops {
		*next++
		r := &e.Ops[i].Request
		r.Number, r.NotAfter = *next, e.ShardTime+30e6
		if window := uint64(64 + len(e.Ops)); *next > window {
			r.LowestOpen = *next - window
		}
	}
}

func BenchmarkApplyEntry(b *testing.B) {
	for _, numbered := range []bool{false, true} {
		for _, ops := range []int{1, 64, 256} {
			b.Run(fmt.Sprintf("numbered=%t/ops=%d", numbered, ops), func(b *testing.B) {
				m := newMachine(b, fullRecord(), defaultLimits)
				e := benchEntry(ops)
				var next uint64
				index := uint64(birthIndex)
				// Encoding is measured apart: prepare some entries at a time.
				const prepared = 64
				var encoded [prepared][]byte
				b.ReportAllocs()
				for b.Loop() {
					if (index-birthIndex)%prepared == 0 {
						b.StopTimer()
						for j := range encoded {
							e.ShardTime += 100
							if numbered {
								number(e, &next)
							}
							encoded[j] = e.AppendTo(encoded[j][:0])
						}
						b.StartTimer()
					}
					index++
					_, results, err := m.ApplyEntry(discard{}, index, e.Term, encoded[(index-1-birthIndex)%prepared])
					if err != nil || results[0].Verdict != Applied || results[0].Repeated {
						b.Fatal(results[0], err)
					}
					if err := m.Finish(discard{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*ops), "ns/write")
			})
		}
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	for _, ops := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(ops), func(b *testing.B) {
			e := benchEntry(ops)
			var next uint64
			number(e, &next)
			data := e.AppendTo(nil)
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := DecodeEntry(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendEntry(b *testing.B) {
	e := benchEntry(64)
	var next uint64
	number(e, &next)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = e.AppendTo(dst[:0])
	}
}
