package bench

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/ringfort/ringfort/client"
)

// Latencies are recorded in microseconds with three significant digits.
const (
	lowestMicros  = 1
	highestMicros = 10 * 60 * 1_000_000
	digits        = 3
)

// stripes is how many recorders share the load: few enough that their
// histograms are small, enough that clients rarely wait for each other.
const stripes = 16

// recorder holds the outcomes of some of the clients.
type recorder struct {
	mu       sync.Mutex
	get, put *hdrhistogram.Histogram
	errors   map[string]uint64
	inDoubt  uint64
}

func newRecorder() *recorder {
	return &recorder{get: newHistogram(), put: newHistogram(), errors: map[string]uint64{}}
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestMicros, highestMicros, digits)
}

func (r *recorder) success(read bool, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.put
	if read {
		h = r.get
	}
	// Never out of range: clamped.
	_ = h.RecordValue(min(max(took.Microseconds(), lowestMicros), highestMicros))
}

func (r *recorder) failure(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[kindName(err)]++
	if errors.Is(err, client.ErrInDoubt) {
		r.inDoubt++
	}
}

// kinds are the names under which errors are counted, most specific first.
var kinds = []struct {
	target error
	name   string
}{
	{client.ErrNotFound, "not_found"},
	{client.ErrTooLarge, "too_large"},
	{client.ErrInvalid, "invalid"},
	{client.ErrOverloaded, "overloaded"},
	{client.ErrNoSpace, "no_space"},
	{client.ErrUnavailable, "unavailable"},
	{client.ErrExpired, "expired"},
	{client.ErrTimeout, "timeout"},
	{client.ErrCanceled, "canceled"},
	{client.ErrNotInitialized, "not_initialized"},
	{client.ErrWrongCluster, "wrong_cluster"},
	{client.ErrClosed, "closed"},
	{client.ErrInDoubt, "outcome_unknown"},
}

func kindName(err error) string {
	for _, k := range kinds {
		if errors.Is(err, k.target) {
			return k.name
		}
	}
	return "other"
}

// Latency sums up a histogram, in microseconds.
type Latency struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P95   int64   `json:"p95"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p99_9"`
	Max   int64   `json:"max"`
}

func summarize(h *hdrhistogram.Histogram) Latency {
	return Latency{
		Count: uint64(h.TotalCount()), Mean: h.Mean(),
		P50: h.ValueAtQuantile(50), P95: h.ValueAtQuantile(95), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}
