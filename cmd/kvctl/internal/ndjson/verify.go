package ndjson

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/ringfort/ringfort/client"
)

// maxExamples is how many problems Verify describes; it counts all.
const maxExamples = 10

// Verified is what Verify found. Keys = Equal + Missing + Different +
// Unreadable, unless it was ended early.
type Verified struct {
	Records    int       `json:"records"` // lines read
	BadLines   int       `json:"bad_lines"`
	Keys       int       `json:"keys"` // distinct, and acknowledged if acks were given
	Equal      int       `json:"equal"`
	Missing    int       `json:"missing"`
	Different  int       `json:"different"`
	Unreadable int       `json:"unreadable"`
	Seconds    float64   `json:"seconds"`
	PerSecond  float64   `json:"keys_per_second"`
	Examples   []Problem `json:"examples,omitempty"`
}

// Problem is one key that is not as it should be.
type Problem struct {
	Line    int // the line that the key's value should come from
	Key     string
	Problem string
}

// MarshalJSON shows a key that is no text as key_base64.
func (p Problem) MarshalJSON() ([]byte, error) {
	ack := ackOf(&Record{Line: p.Line, Key: p.Key})
	return json.Marshal(struct {
		ackLine
		Problem string `json:"problem"`
	}{ack, p.Problem})
}

// Verify reads back every key of r and compares: the value must be that of the
// key's last line. With acked only acknowledged keys are looked at, and a later
// line than the acknowledged one is as good, since it may have been written
// without an acknowledgement.
//
// It keeps a digest for every key in memory, about 100 bytes and the key. The
// error, if any, is the input's, the context's cause, or the first read that
// failed, and the counts stand beside it; what is missing or different is no
// error here.
func Verify(ctx context.Context, r io.Reader, store Store, acked Acked, opts Options) (Verified, error) {
	began := time.Now()
	v := &verifier{store: store, opts: opts}
	expected, err := v.expect(ctx, NewReader(contextReader{ctx, r}), acked)
	if err != nil {
		return v.mu.found, err
	}
	err = v.compareAll(ctx, expected)

	found := v.mu.found
	found.Seconds = time.Since(began).Seconds()
	if found.Seconds > 0 {
		found.PerSecond = float64(found.Equal+found.Missing+found.Different) / found.Seconds
	}
	slices.SortFunc(found.Examples, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return found, err
}

type digest [16]byte

func digestOf(value []byte) digest {
	sum := sha256.Sum256(value)
	return digest(sum[:16])
}

// expectation is what a key's value may be; any of allowed is right.
type expectation struct {
	key     string
	line    int
	allowed []digest
	bytes   int // of the lines, for the progress
}

type verifier struct {
	store Store
	opts  Options
	stop  context.CancelCauseFunc

	mu struct {
		sync.Mutex
		found Verified
		first error
	}
}

// expect reads the whole input and returns what each key should hold, in the
// order of their first lines.
func (v *verifier) expect(ctx context.Context, records *Reader, acked Acked) ([]*expectation, error) {
	byKey := map[string]*expectation{}
	var all []*expectation
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		record, err := records.Next()
		if err == io.EOF {
			v.mu.found.Keys = len(all)
			return all, nil
		}
		if bad := (*LineError)(nil); errors.As(err, &bad) && v.opts.SkipBad {
			v.mu.found.BadLines++
			continue
		}
		if err != nil {
			return nil, err
		}
		v.mu.found.Records++
		if acked != nil && record.Line < acked[record.Key] {
			continue // overwritten by the acknowledged one
		}
		if _, is := acked[record.Key]; acked != nil && !is {
			continue
		}
		e := byKey[record.Key]
		if e == nil {
			e = &expectation{key: record.Key}
			byKey[record.Key] = e
			all = append(all, e)
		}
		if acked == nil {
			e.allowed = e.allowed[:0]
		}
		e.allowed = append(e.allowed, digestOf(record.Value))
		e.line = record.Line
		e.bytes += record.Size
	}
}

func (v *verifier) compareAll(ctx context.Context, expected []*expectation) error {
	// Cancelled by the first key that cannot be read: it ends the asking, not
	// the reads in flight.
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	v.stop = stop
	limit := newLimiter(v.opts.Rate)
	work := make(chan *expectation)
	var workers sync.WaitGroup
	for range v.opts.Concurrency {
		workers.Go(func() {
			for e := range work {
				v.compare(ctx, e)
			}
		})
	}
	var ended error
	for _, e := range expected {
		if err := limit.Wait(asking); err != nil || asking.Err() != nil {
			ended = cmp.Or(context.Cause(asking), err)
			break
		}
		work <- e // workers never stop before it is closed
	}
	close(work)
	workers.Wait()
	return cmp.Or(v.mu.first, ended)
}

func (v *verifier) compare(ctx context.Context, e *expectation) {
	opCtx, cancel := context.WithTimeout(ctx, v.opts.Timeout)
	value, err := v.store.Get(opCtx, e.key)
	cancel()
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, client.ErrNotFound):
		v.mu.found.Missing++
		v.exampleLocked(e, "missing")
	case err != nil:
		v.mu.found.Unreadable++
		v.exampleLocked(e, err.Error())
		failure := error(&RecordError{Line: e.line, Key: e.key, Err: err})
		v.mu.first = cmp.Or(v.mu.first, failure)
		if !v.opts.KeepGoing {
			v.stop(failure)
		}
	case !slices.Contains(e.allowed, digestOf(value)):
		v.mu.found.Different++
		v.exampleLocked(e, fmt.Sprintf("another value (%d bytes)", len(value)))
	default:
		v.mu.found.Equal++
	}
	if v.opts.Progress != nil {
		v.opts.Progress(e.bytes)
	}
}

func (v *verifier) exampleLocked(e *expectation, problem string) {
	if len(v.mu.found.Examples) < maxExamples {
		v.mu.found.Examples = append(v.mu.found.Examples, Problem{Line: e.line, Key: e.key, Problem: problem})
	}
}
