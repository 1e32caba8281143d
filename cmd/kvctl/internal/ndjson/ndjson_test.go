package ndjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/ringfort/ringfort/client"
	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseLine(t *testing.T) {
	for text, want := range map[string]string{
		`{"key":"a","value":"b"}`:                     "a=b",
		`{"value":"","key":"a"}`:                      "a=",
		`{"key":"é","value":"\u00e9\ud83d\ude00\n"}`:  "é=é😀\n",
		`{"key":"a","value":"\\ud800"}`:               `a=\ud800`,
		`{"key":"a","value":"` + "\uFFFD" + `"}`:      "a=\uFFFD",
		`{"key":"a","value_base64":"/wA="}`:           "a=\xff\x00",
		`{"key":"a","value":"b","value_base64":null}`: "a=b",
		`{"key_base64":"/wA=","value":""}`:            "\xff\x00=",
	} {
		r, err := parseLine([]byte(text))
		if err != nil || r.Key+"="+string(r.Value) != want {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
}

// I3: what cannot be taken as it was meant is refused.
func TestI3_BadLinesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"key":"a","value":"` + "\xff" + `"}`:              "not UTF-8",
		`{"key":"a","value":"\ud800"}`:                      "surrogate",
		`{"key":"a","value":"\ud800\ud800"}`:                "surrogate",
		`{"key":"a","value":"\udc00"}`:                      "surrogate",
		`{"key":"a","value":"\ud800\\udc00"}`:               "surrogate",
		`{"key":"","value":"b"}`:                            "key is empty",
		`{"value":"b"}`:                                     `no "key"`,
		`{"key":"a"}`:                                       `no "value"`,
		`{"key":"a","value":null}`:                          `no "value"`,
		`{"key":"a","value":1}`:                             "not a record",
		`{"key":"a","value":"b"}{}`:                         "more than one",
		`{"key":"a","value":"b","ttl":1}`:                   "unknown field",
		`{"key":"a","value":"b","ttl_ms":0}`:                "ttl_ms",
		`{"key":"a","value":"b","ttl_ms":-5}`:               "ttl_ms",
		`{"key":"a","value":"b","ttl_ms":1.5}`:              "ttl_ms",
		`{"key":"a","value":"b","ttl_ms":1e99}`:             "ttl_ms",
		`{"key":"a","value":"b","ttl_ms":3153600000001}`:    "ttl_ms",
		`{"key":"a","value":"b","ttl_ms":"5"}`:              `"ttl_ms" is not a number`,
		`{"key":5,"value":"b"}`:                             `"key" is not a string`,
		`{"key_base64":"","value":"b"}`:                     "key is empty",
		`{"key":"a","key_base64":"YQ==","value":"b"}`:       "exclude",
		`{"key_base64":"YR==","value":"b"}`:                 "key_base64",
		`{"key":"a","value":"b`:                             "no end",
		`["a","b"]`:                                         "not a record",
		`{"key":"a","value":"b","value_base64":"Yg=="}`:     "exclude",
		`{"key":"a","value_base64":"Y"}`:                    "value_base64",
		`["a"]`:                                             "not a record: a line is one JSON object",
		`{"key":"a","value":{"b":"c"}}`:                     `"value" is not a string`,
		`{"Key":"a","value":"b"}`:                           `unknown field "Key"`,
		`{"key":"a","key":"b","value":"c"}`:                 `"key" is there twice`,
		`{"key":"a","value"}`:                               "not a record",
		`{"key":"a",,"value":"b"}`:                          "not a record",
		`{"key"`:                                            "no end",
		`a b`:                                               "not a record",
		`{"key":"a","value":"b"} x`:                         "more than one",
		`{"key":"a","value":"b","value":"` + "\xed" + `\""`: "not UTF-8",
	} {
		if _, err := parseLine([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Whatever bytes keys and values are of, a line is one line that is read back to
// them; what is left to live is rounded up.
func TestLinesAreReadBackByteForByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 40), rapid.Map(rapid.StringN(1, 40, 160), func(s string) []byte { return []byte(s) }))
		want := &Record{
			Key: string(raw.Draw(t, "key")), Value: rapid.OneOf(raw, rapid.Just([]byte{})).Draw(t, "value"),
			TTL: time.Duration(rapid.Int64Range(0, maxTTL*int64(time.Millisecond)).Draw(t, "ttl")),
		}
		line := AppendLine([]byte("before"), want)[len("before"):]
		if n := bytes.IndexByte(line, '\n'); n != len(line)-1 {
			t.Fatalf("%q is not one line", line)
		}
		r := NewReader(bytes.NewReader(line))
		got, err := r.Next()
		if err != nil || got.Key != want.Key || !bytes.Equal(got.Value, want.Value) {
			t.Fatalf("%q: %+v, %v", line, got, err)
		}
		if early := got.TTL - want.TTL; early < 0 || early >= time.Millisecond || want.TTL == 0 && got.TTL != 0 {
			t.Fatalf("%q: %v became %v", line, want.TTL, got.TTL)
		}
	})
}

// Acknowledgements and problems name also keys that are no text.
func TestAcksOfKeysThatAreNoText(t *testing.T) {
	var file bytes.Buffer
	acks := NewAcks(&file)
	for i, key := range []string{"a", "\xff\x00", "\ufffd"} {
		if err := acks.Append(&Record{Line: i + 1, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	acked, err := ReadAcks(&file)
	if want := (Acked{"a": 1, "\xff\x00": 2, "\ufffd": 3}); err != nil || !maps.Equal(acked, want) {
		t.Errorf("%v, %v", acked, err)
	}
	text, err := json.Marshal(Problem{Line: 2, Key: "\xff\x00", Problem: "missing"})
	if want := `{"line":2,"key_base64":"/wA=","problem":"missing"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

func TestReaderNumbersLines(t *testing.T) {
	r := NewReader(strings.NewReader("\n" + `{"key":"a","value":"1"}` + "\n  \nbad\n" + `{"key":"b","value":"2"}`))
	if rec, err := r.Next(); err != nil || rec.Line != 2 || rec.Key != "a" {
		t.Fatalf("%+v, %v", rec, err)
	}
	var bad *LineError
	if _, err := r.Next(); !errors.As(err, &bad) || bad.Line != 4 {
		t.Fatalf("%v", err)
	}
	if rec, err := r.Next(); err != nil || rec.Line != 5 || rec.Key != "b" {
		t.Fatalf("%+v, %v", rec, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
}

// A line over the limit is passed over, and not kept; what follows counts.
func TestTooLongLineIsPassedOver(t *testing.T) {
	const most = 1 << 20
	good := func(key string, size int) string {
		head := `{"key":"` + key + `","value":"`
		return head + strings.Repeat("x", size-len(head)-len("\"}\n")) + "\"}\n"
	}
	r := NewReader(strings.NewReader(good("a", 100) + good("long", most+1) + good("b", most) + good("end", 3*most)))
	r.max = most
	for line, want := range []string{"a", "", "b", ""} {
		rec, err := r.Next()
		var bad *LineError
		switch {
		case want != "" && (err != nil || rec.Key != want || rec.Line != line+1):
			t.Errorf("line %d: %+v, %v", line+1, rec, err)
		case want == "" && (!errors.As(err, &bad) || bad.Line != line+1 || bad.Err.Error() != "longer than 1 MiB"):
			t.Errorf("line %d: %v", line+1, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if cap(r.text) > 2*most {
		t.Errorf("%d bytes are kept", cap(r.text))
	}
}

// endless has no end and no records, and interrupts the import in the middle.
type endless struct {
	line      string
	interrupt func()
	reads     int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.reads++; e.reads == 100 {
		e.interrupt()
	}
	return copy(p, e.line), nil
}

// An interrupt ends the reading also of what never becomes a record.
func TestReadingEndsWithItsContext(t *testing.T) {
	stop := errors.New("interrupted")
	for what, line := range map[string]string{"bad lines": "bad\n", "one long line": "xxxx"} {
		for _, verify := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			input := &endless{line: line, interrupt: func() { cancel(stop) }}
			opts := Options{Concurrency: 1, MaxBytes: 1, Timeout: time.Minute, SkipBad: true}
			var err error
			if verify {
				_, err = Verify(ctx, input, nil, nil, opts)
			} else {
				_, err = Load(ctx, input, nil, opts)
			}
			if !errors.Is(err, stop) || input.reads > 200 {
				t.Errorf("%s, verify %v: %v after %d reads", what, verify, err, input.reads)
			}
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"key":"a","value":"\ud83d\ude00"}`))
	f.Add([]byte(`{"key":"a","value_base64":"/wA="}`))
	f.Add([]byte(`{"key":"a","value":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseLine(text)
		if err != nil {
			return
		}
		again, err := parseLine(bytes.TrimSuffix(AppendLine(nil, r), []byte("\n")))
		if err != nil || again.Key != r.Key || !bytes.Equal(again.Value, r.Value) || again.TTL != r.TTL {
			t.Fatalf("%q became %+v, %v", text, again, err)
		}
	})
}

// store is a map that takes its time and counts what is in flight.
type store struct {
	mu     sync.Mutex
	values map[string]string
	open   map[string]bool
	most   int
	broken bool // two operations of one key at the same time
	delay  func(key string, value []byte) time.Duration
	fail   func(key string, value []byte) error
}

func newStore() *store { return &store{values: map[string]string{}, open: map[string]bool{}} }

func (s *store) Put(ctx context.Context, key string, value []byte, _ time.Duration) error {
	s.mu.Lock()
	s.broken = s.broken || s.open[key]
	s.open[key] = true
	s.most = max(s.most, len(s.open))
	s.mu.Unlock()
	if s.delay != nil {
		time.Sleep(s.delay(key, value))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, key)
	if s.fail != nil {
		if err := s.fail(key, value); err != nil {
			return err
		}
	}
	s.values[key] = string(value)
	return ctx.Err()
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(key, nil); err != nil {
			return nil, err
		}
	}
	value, ok := s.values[key]
	if !ok {
		return nil, &client.Error{Op: "get", Key: key, Kind: client.ErrNotFound}
	}
	return []byte(value), nil
}

func lines(records ...string) string {
	var b strings.Builder
	for _, r := range records {
		key, value, _ := strings.Cut(r, "=")
		fmt.Fprintf(&b, "{\"key\":%q,\"value\":%q}\n", key, value)
	}
	return b.String()
}

func options() Options { return Options{Concurrency: 4, MaxBytes: 1 << 20, Timeout: time.Minute} }

// I1: whatever the delays, the last line of each key wins, and no two writes of
// one key are under way at once.
func TestI1_LastLineWins(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ Key, Value, Delay int }
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{rapid.IntRange(0, 4).Draw(t, "key"), rapid.IntRange(0, 1000).Draw(t, "value"), rapid.IntRange(0, 50).Draw(t, "ms")}
		}), 0, 60).Draw(rt, "steps")
		concurrency := rapid.IntRange(1, 8).Draw(rt, "concurrency")
		maxBytes := rapid.Int64Range(1, 40).Draw(rt, "bytes")
		// A failure inside the bubble is told outside, where rapid can shrink it.
		fault := ""
		defer func() {
			if fault != "" {
				rt.Fatal(fault)
			}
		}()
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			want := map[string]string{}
			var text []string
			delays := map[string]time.Duration{}
			for i, st := range steps {
				key, value := fmt.Sprint("k", st.Key), fmt.Sprintf("%d.%d", i, st.Value)
				delays[value] = time.Duration(st.Delay) * time.Millisecond
				text = append(text, key+"="+value)
				want[key] = value
			}
			s.delay = func(_ string, value []byte) time.Duration { return delays[string(value)] }
			input := lines(text...)
			opts := Options{Concurrency: concurrency, MaxBytes: maxBytes, Timeout: time.Minute}
			got, err := Load(t.Context(), strings.NewReader(input), s, opts)
			switch {
			case err != nil || got.Acknowledged != len(steps) || got.Records != len(steps):
				fault = fmt.Sprintf("%+v, %v", got, err)
			case s.broken || s.most > concurrency:
				fault = fmt.Sprintf("one key twice at once: %v; %d in flight of %d allowed", s.broken, s.most, concurrency)
			case !maps.Equal(s.values, want):
				fault = fmt.Sprintf("%v, want %v", s.values, want)
			}
			found, err := Verify(t.Context(), strings.NewReader(input), s, nil, opts)
			if fault == "" && (err != nil || found.Equal != len(want) || found.Keys != len(want)) {
				fault = fmt.Sprintf("verify: %+v, %v", found, err)
			}
		})
	})
}

// I2: the counts tell acknowledged, failed and in doubt apart, and the acks
// hold the first only.
func TestI2_OutcomesAreToldApart(t *testing.T) {
	s := newStore()
	s.fail = func(key string, _ []byte) error {
		switch key {
		case "doubt":
			return &client.Error{Op: "put", Key: key, Kind: client.ErrTimeout, InDoubt: true}
		case "fail":
			return &client.Error{Op: "put", Key: key, Kind: client.ErrUnavailable}
		}
		return nil
	}
	var acks bytes.Buffer
	opts := options()
	opts.KeepGoing, opts.Acks = true, NewAcks(&acks)
	got, err := Load(t.Context(), strings.NewReader(lines("a=1", "doubt=1", "fail=1", "b=22")), s, opts)
	var failed *RecordError
	if !errors.As(err, &failed) || got.Acknowledged != 2 || got.InDoubt != 1 || got.Failed != 1 ||
		got.Records != 4 || got.Bytes != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
	acked, err := ReadAcks(&acks)
	if err != nil || len(acked) != 2 || acked["a"] != 1 || acked["b"] != 4 {
		t.Fatalf("acks %v, %v", acked, err)
	}
}

func TestLoadStopsAtTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.delay = func(string, []byte) time.Duration { return time.Millisecond }
		s.fail = func(key string, _ []byte) error {
			if key == "k3" {
				return &client.Error{Kind: client.ErrUnavailable}
			}
			return nil
		}
		var text []string
		for i := range 1000 {
			text = append(text, fmt.Sprintf("k%d=v", i))
		}
		got, err := Load(t.Context(), strings.NewReader(lines(text...)), s, options())
		var failed *RecordError
		if !errors.As(err, &failed) || failed.Line != 4 || !errors.Is(err, client.ErrUnavailable) {
			t.Fatal(err)
		}
		// What was in flight beside it is finished and counted.
		if got.Failed != 1 || got.Records != got.Acknowledged+1 || got.Records > 20 {
			t.Fatalf("%+v", got)
		}
	})
}

func TestBadLineStopsOrIsCounted(t *testing.T) {
	input := lines("a=1") + "nonsense\n" + lines("b=2")
	got, err := Load(t.Context(), strings.NewReader(input), newStore(), options())
	var bad *LineError
	if !errors.As(err, &bad) || bad.Line != 2 || got.Acknowledged != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	opts := options()
	opts.SkipBad = true
	s := newStore()
	got, err = Load(t.Context(), strings.NewReader(input), s, opts)
	if err != nil || got.BadLines != 1 || got.Acknowledged != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := Verify(t.Context(), strings.NewReader(input), s, nil, options()); !errors.As(err, &bad) {
		t.Fatal(err)
	}
	if found, err := Verify(t.Context(), strings.NewReader(input), s, nil, opts); err != nil || found.Equal != 2 || found.BadLines != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := newStore()
		s.delay = func(string, []byte) time.Duration { return time.Second }
		time.AfterFunc(3500*time.Millisecond, func() { cancel(why) })
		var text []string
		for i := range 100 {
			text = append(text, fmt.Sprintf("k%d=v", i))
		}
		got, err := Load(ctx, strings.NewReader(lines(text...)), s, options())
		if !errors.Is(err, why) && !errors.Is(err, context.Canceled) || got.Records >= 100 || got.Acknowledged != 12 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := options()
		opts.Rate = 10
		var text []string
		for i := range 31 {
			text = append(text, fmt.Sprintf("k%d=v", i))
		}
		got, err := Load(t.Context(), strings.NewReader(lines(text...)), newStore(), opts)
		if err != nil || got.Seconds < 2.9 || got.Seconds > 3.1 {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	s := newStore()
	s.values = map[string]string{"same": "1", "twice": "new", "other": "x", "old": "1"}
	input := lines("same=1", "twice=old", "gone=1", "other=2", "twice=new", "old=1", "old=2")
	var progress int
	opts := options()
	opts.Progress = func(n int) { progress += n }
	found, err := Verify(t.Context(), strings.NewReader(input), s, nil, opts)
	if err != nil || found.Records != 7 || found.Keys != 5 || found.Equal != 2 || found.Missing != 1 || found.Different != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	want := []Problem{{3, "gone", "missing"}, {4, "other", "another value (1 bytes)"}, {7, "old", "another value (1 bytes)"}}
	if fmt.Sprint(found.Examples) != fmt.Sprint(want) {
		t.Fatalf("examples %v", found.Examples)
	}
	if progress != len(input) {
		t.Errorf("progress %d of %d bytes", progress, len(input))
	}
}

func TestVerifyOfAcknowledgedKeys(t *testing.T) {
	input := lines("a=1", "b=1", "c=1", "a=2", "b=2", "c=2", "d=1")
	acks := `{"line":1,"key":"a"}` + "\n" + `{"line":5,"key":"b"}` + "\n" + `{"line":3,"key":"c"}` + "\n" + `{"line":7,"k`
	acked, err := ReadAcks(strings.NewReader(acks))
	if err != nil {
		t.Fatal(err)
	}
	s := newStore()
	// a: the write after the acknowledged one got through too. b: lost its
	// acknowledged write. c: as acknowledged. d: never acknowledged, not there.
	s.values = map[string]string{"a": "2", "b": "1", "c": "1"}
	found, err := Verify(t.Context(), strings.NewReader(input), s, acked, options())
	if err != nil || found.Keys != 3 || found.Equal != 2 || found.Different != 1 || found.Examples[0].Key != "b" {
		t.Fatalf("%+v, %v", found, err)
	}
	// A second run over the same input was cut off after the first line of b.
	acked, err = ReadAcks(strings.NewReader(`{"line":5,"key":"b"}` + "\n" + `{"line":2,"key":"b"}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	found, err = Verify(t.Context(), strings.NewReader(input), s, acked, options())
	if err != nil || found.Equal != 1 || found.Keys != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := ReadAcks(strings.NewReader("{\"line\":0}\n")); err == nil {
		t.Error("an acks line without a key was taken")
	}
	if _, err := ReadAcks(strings.NewReader("x\n")); err == nil {
		t.Error("nonsense was taken for acks")
	}
}

func TestVerifyStopsWhenItCannotRead(t *testing.T) {
	s := newStore()
	s.fail = func(string, []byte) error { return &client.Error{Op: "get", Kind: client.ErrUnavailable} }
	var text []string
	for i := range 1000 {
		text = append(text, fmt.Sprintf("k%d=v", i))
	}
	found, err := Verify(t.Context(), strings.NewReader(lines(text...)), s, nil, options())
	if !errors.Is(err, client.ErrUnavailable) || found.Unreadable == 0 || found.Unreadable > 20 {
		t.Fatalf("%+v, %v", found, err)
	}
	opts := options()
	opts.KeepGoing = true
	found, err = Verify(t.Context(), strings.NewReader(lines(text...)), s, nil, opts)
	if !errors.Is(err, client.ErrUnavailable) || found.Unreadable != 1000 || len(found.Examples) != maxExamples {
		t.Fatalf("%+v, %v", found, err)
	}
}

func FuzzReadAcks(f *testing.F) {
	f.Add([]byte(`{"line":1,"key":"a"}` + "\n"))
	f.Add([]byte(`{"line":1,"key":"a"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		acked, err := ReadAcks(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for key, line := range acked {
			if key == "" || line < 1 {
				t.Fatalf("%q at line %d", key, line)
			}
		}
	})
}
