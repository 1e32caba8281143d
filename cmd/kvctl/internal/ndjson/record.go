package ndjson

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	Size  int // of the line, in bytes
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
	scanner *bufio.Scanner
	line    int
}

// NewReader returns a reader of r's lines.
func NewReader(r io.Reader) *Reader {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 64<<10), MaxLine)
	return &Reader{scanner: scanner}
}

// Next returns the next record, io.EOF after the last, or a *LineError, after
// which the next call goes on with the next line unless the line was too long.
func (r *Reader) Next() (*Record, error) {
	for r.scanner.Scan() {
		r.line++
		text := r.scanner.Bytes()
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		key, value, err := parseLine(text)
		if err != nil {
			return nil, &LineError{Line: r.line, Err: err}
		}
		return &Record{Line: r.line, Key: key, Value: value, Size: len(text) + 1}, nil
	}
	switch err := r.scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, &LineError{Line: r.line + 1, Err: fmt.Errorf("longer than %d MiB", MaxLine>>20)}
	case err != nil:
		return nil, fmt.Errorf("after line %d: %w", r.line, err)
	}
	return nil, io.EOF
}

// parseLine takes an object of exactly the members "key" and "value", or
// "value_base64" for a value that is not text.
func parseLine(text []byte) (key string, value []byte, err error) {
	// encoding/json replaces what is not Unicode by U+FFFD without a word (I3).
	if !utf8.Valid(text) {
		return "", nil, errors.New("not UTF-8; give such values as value_base64")
	}
	if hasLoneSurrogate(text) {
		return "", nil, errors.New(`half a surrogate pair in a \u escape; give such values as value_base64`)
	}
	var members struct {
		Key    *string `json:"key"`
		Value  *string `json:"value"`
		Base64 *string `json:"value_base64"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&members); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return "", nil, errors.New("the JSON object has no end")
		}
		return "", nil, fmt.Errorf("not a record: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return "", nil, errors.New("more than one JSON value")
	}
	switch {
	case members.Key == nil:
		return "", nil, errors.New(`there is no "key"`)
	case *members.Key == "":
		return "", nil, errors.New("the key is empty")
	case members.Value == nil && members.Base64 == nil:
		return "", nil, errors.New(`there is no "value"`)
	case members.Value != nil && members.Base64 != nil:
		return "", nil, errors.New(`"value" and "value_base64" exclude each other`)
	case members.Value != nil:
		return *members.Key, []byte(*members.Value), nil
	}
	value, err = base64.StdEncoding.DecodeString(*members.Base64)
	if err != nil {
		return "", nil, fmt.Errorf("value_base64: %w", err)
	}
	return *members.Key, value, nil
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
