package ndjson

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxLine bounds one line, in bytes. It leaves room for the largest value a
// cluster may be configured to take, with every byte escaped.
const MaxLine = 64 << 20

// Record is one line.
type Record struct {
	Line  int // counted from 1
	Key   string
	Value []byte
	TTL   time.Duration // what the key is to live; 0: for ever
	Size  int           // of the line, in bytes
}

// LineError says which line cannot be used, and why.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Reader reads records. Blank lines are passed over.
type Reader struct {
	from *bufio.Reader
	line int
	text []byte // of the latest line
	max  int    // bytes of a line
}

// NewReader returns a reader of r's lines.
func NewReader(r io.Reader) *Reader {
	return &Reader{from: bufio.NewReaderSize(r, 64<<10), max: MaxLine}
}

// Next returns the next record, io.EOF after the last, or a *LineError, after
// which the next call goes on with the next line.
func (r *Reader) Next() (*Record, error) {
	for {
		size, err := r.readLine()
		if err == io.EOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("after line %d: %w", r.line, err)
		}
		r.line++
		if size > r.max {
			return nil, &LineError{Line: r.line, Err: fmt.Errorf("longer than %d MiB", r.max>>20)}
		}
		if len(bytes.TrimSpace(r.text)) == 0 {
			continue
		}
		record, err := parseLine(r.text)
		if err != nil {
			return nil, &LineError{Line: r.line, Err: err}
		}
		record.Line, record.Size = r.line, size
		return record, nil
	}
}

// readLine reads one line into text, or, if it is longer than max, past its end
// without keeping it. It returns io.EOF when there is no more line, and the
// reader's error also in the middle of one.
func (r *Reader) readLine() (size int, err error) {
	r.text = r.text[:0]
	for {
		part, err := r.from.ReadSlice('\n')
		size += len(part)
		if size <= r.max {
			r.text = append(r.text, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
		case err == io.EOF && size > 0:
			return size, nil
		default:
			return size, err
		}
	}
}

// contextReader reads no more once the context has ended.
type contextReader struct {
	ctx  context.Context
	from io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.from.Read(p)
}

// CheckText refuses what encoding/json would replace by U+FFFD without a word (I3).
func CheckText(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8; give such keys and values as key_base64 and value_base64")
	}
	if hasLoneSurrogate(text) {
		return errors.New(`half a surrogate pair in a \u escape; give such keys and values as key_base64 and value_base64`)
	}
	return nil
}

// maxTTL is 100 years, in milliseconds: more is a mistake in the unit.
const maxTTL = 100 * 365 * 24 * 60 * 60 * 1000

// parseLine takes an object of exactly the members "key" and "value", or
// "key_base64" and "value_base64" for what is not text, and "ttl_ms".
func parseLine(text []byte) (*Record, error) {
	if err := CheckText(text); err != nil {
		return nil, err
	}
	members, err := parseMembers(text)
	if err != nil {
		return nil, err
	}
	key, err := members.bytes("key")
	if err != nil {
		return nil, err
	}
	if len(key) == 0 {
		return nil, errors.New("the key is empty")
	}
	record := &Record{Key: string(key)}
	if record.Value, err = members.bytes("value"); err != nil {
		return nil, err
	}
	if left, given := members["ttl_ms"]; given {
		ms, err := strconv.ParseInt(left, 10, 64)
		if err != nil || ms < 1 || ms > maxTTL {
			return nil, fmt.Errorf("ttl_ms is not a whole number of milliseconds from 1 to 100 years: %s", left)
		}
		record.TTL = time.Duration(ms) * time.Millisecond
	}
	return record, nil
}

// members are those of an object, by name, as text; null is as if it was not there.
type members map[string]string

// bytes are those of a member, or of its form in base64.
func (m members) bytes(name string) ([]byte, error) {
	plain, hasPlain := m[name]
	encoded, hasEncoded := m[name+"_base64"]
	switch {
	case !hasPlain && !hasEncoded:
		return nil, fmt.Errorf("there is no %q", name)
	case hasPlain && hasEncoded:
		return nil, fmt.Errorf("%q and %q exclude each other", name, name+"_base64")
	case hasPlain:
		return []byte(plain), nil
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s_base64 is not base64", name)
	}
	return raw, nil
}

var names = []string{"key", "key_base64", "value", "value_base64", "ttl_ms"}

// parseMembers reads an object token by token: decoding into a struct would take
// "Key" for "key" and the last of several "key" without a word (I3).
func parseMembers(text []byte) (members, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	next := func() (json.Token, error) {
		token, err := decoder.Token()
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the JSON object has no end")
		}
		if err != nil {
			return nil, fmt.Errorf("not a record: %w", err)
		}
		return token, nil
	}
	token, err := next()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, errors.New("not a record: a line is one JSON object")
	}
	found := members{}
	for {
		token, err := next()
		if err != nil {
			return nil, err
		}
		name, isName := token.(string)
		if !isName {
			break // the closing brace
		}
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("not a record: unknown field %q; there are %s", name, strings.Join(names, ", "))
		}
		if _, twice := found[name]; twice {
			return nil, fmt.Errorf("not a record: %q is there twice", name)
		}
		if token, err = next(); err != nil {
			return nil, err
		}
		if token == nil {
			continue // null: as if it was not there
		}
		number, isNumber := token.(json.Number)
		content, isText := token.(string)
		switch {
		case name == "ttl_ms" && !isNumber:
			return nil, fmt.Errorf("not a record: %q is not a number", name)
		case name == "ttl_ms":
			content = number.String()
		case !isText:
			return nil, fmt.Errorf("not a record: %q is not a string", name)
		}
		found[name] = content
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	return found, nil
}

// hasLoneSurrogate looks for \uD800 to \uDFFF escapes that are not a pair.
func hasLoneSurrogate(text []byte) bool {
	wantLow := false // the escape before this place was a high surrogate
	for i := 0; i < len(text); i++ {
		unit := uint64(0)
		size := 1
		if text[i] == '\\' {
			size = 2
			if i+6 <= len(text) && text[i+1] == 'u' {
				if u, err := strconv.ParseUint(string(text[i+2:i+6]), 16, 16); err == nil {
					unit, size = u, 6
				}
			}
		}
		isLow := unit >= 0xDC00 && unit <= 0xDFFF
		if isLow != wantLow {
			return true
		}
		wantLow = unit >= 0xD800 && unit <= 0xDBFF
		i += size - 1
	}
	return wantLow
}
