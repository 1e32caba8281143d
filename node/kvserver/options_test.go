package kvserver

import (
	"strings"
	"testing"

	"github.com/ringfort/ringfort/internal/clock"
)

func TestOptionsListAllFaults(t *testing.T) {
	_, err := New(Options{Limits: Limits{
		MaxValueBytes: 9 << 20, MaxOpsPerFrame: 5000, MaxInFlightOps: 10, MaxInFlightBytes: 5, MaxStreams: -1, MaxHeldBytes: 4,
	}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"ClusterID", "Self", "Shards", "Clock", "the ceiling is 8388608", "above MaxInFlightOps, 10",
		"MaxInFlightBytes is 5", "MaxHeldBytes is 4, below MaxInFlightBytes, 5", "MaxStreams must be above 0, not -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func TestLimitsFit(t *testing.T) {
	opts := func(l Limits) Options {
		return Options{ClusterID: func() string { return "" }, Self: self, Shards: &fakeShards{}, Clock: clock.NewVirtual(), Limits: l}
	}
	s, err := New(opts(Limits{MaxValueBytes: MaxValueCeiling}))
	if err != nil {
		t.Fatalf("the ceiling: %v", err)
	}
	if l := s.Limits(); l.MaxFrameBytes < MaxValueCeiling || l.MaxInFlightBytes < l.MaxFrameBytes {
		t.Errorf("limits %+v", l)
	}
	if _, err := New(opts(Limits{MaxHeldBytes: 16 << 20})); err != nil {
		t.Errorf("all may hold what one stream may: %v", err)
	}
	for name, l := range map[string]Limits{
		"frame below one operation": {MaxFrameBytes: 1 << 20},
		"frame above one write":     {MaxFrameBytes: 12 << 20},
		"all below one stream":      {MaxHeldBytes: 16<<20 - 1},
	} {
		if _, err := New(opts(l)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
