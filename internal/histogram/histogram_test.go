package histogram

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestObserve(t *testing.T) {
	var h Histogram
	for d, n := range map[time.Duration]uint64{
		-1: 1, 0: 1, 100 * time.Microsecond: 1, 100*time.Microsecond + 1: 10, 200 * time.Microsecond: 10,
		6553600 * time.Microsecond: 100, 6553600*time.Microsecond + 1: 1000, time.Hour: 1000,
	} {
		h.Observe(d, n)
	}
	s := h.Snapshot()
	if s.Cumulative[0] != 3 || s.Cumulative[1] != 23 || s.Cumulative[Buckets-2] != 23 || s.Cumulative[Buckets-1] != 123 || s.Count != 2123 {
		t.Errorf("%+v", s)
	}
	if want := 1000*time.Hour + 1100*6553600*time.Microsecond + 31*100*time.Microsecond + 1010; s.Sum != want {
		t.Errorf("sum %s, want %s", s.Sum, want)
	}
}

// The bucket is found as by looking at all bounds.
func TestBucketOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(20*time.Second)), rapid.Int64Min(0)).Draw(t, "d"))
		if rapid.Bool().Draw(t, "near a bound") {
			d = Bound(rapid.IntRange(0, Buckets-1).Draw(t, "bucket")) + time.Duration(rapid.IntRange(-1, 1).Draw(t, "off"))
		}
		want := 0
		for want < Buckets && Bound(want) < d {
			want++
		}
		if got := bucketOf(d); got != want {
			t.Fatalf("%s is in bucket %d, want %d", d, got, want)
		}
	})
}

func TestConcurrentObservationsAreAllCounted(t *testing.T) {
	var h Histogram
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Observe(time.Millisecond, 2)
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(); s.Count != 16000 || s.Sum != 16*time.Second {
		t.Errorf("%+v", s)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for b.Loop() {
		h.Observe(3*time.Millisecond, 16)
	}
}
