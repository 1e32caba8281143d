package ndjson

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"unicode/utf8"
)

// Acks writes one line per acknowledged record, {"line":17,"key":"k"}, or
// "key_base64" for a key that is no text, each
// with one Write of its own: what was acknowledged before this process died is
// in the file. Safe for concurrent use.
type Acks struct {
	mu sync.Mutex
	w  io.Writer
}

// NewAcks appends to w, which should not buffer.
func NewAcks(w io.Writer) *Acks { return &Acks{w: w} }

type ackLine struct {
	Line   int    `json:"line"`
	Key    string `json:"key,omitempty"`
	Base64 []byte `json:"key_base64,omitempty"`
}

func ackOf(r *Record) ackLine {
	if !utf8.ValidString(r.Key) {
		return ackLine{Line: r.Line, Base64: []byte(r.Key)}
	}
	return ackLine{Line: r.Line, Key: r.Key}
}

func (l ackLine) key() string { return cmp.Or(l.Key, string(l.Base64)) }

// Append notes that the store acknowledged a record.
func (a *Acks) Append(r *Record) error {
	text, err := json.Marshal(ackOf(r))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := a.w.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("acks: %w", err)
	}
	return nil
}

// Acked holds, for each key acknowledged at least once, the line of its last
// acknowledgement.
type Acked map[string]int

// ReadAcks reads what Acks wrote, possibly in several runs one after the other.
// An unfinished last line is passed over: its writer died in the middle of it.
func ReadAcks(r io.Reader) (Acked, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	acked := Acked{}
	number := 0
	for line := range bytes.Lines(raw) {
		number++
		if line[len(line)-1] != '\n' {
			break
		}
		var ack ackLine
		if err := json.Unmarshal(line, &ack); err != nil {
			return nil, &LineError{Line: number, Err: errors.New("not an acknowledgement")}
		}
		if ack.key() == "" || ack.Line < 1 {
			return nil, &LineError{Line: number, Err: errors.New("not an acknowledgement")}
		}
		// The order of the file counts, not the number of the line: a later run
		// over the same input may have written an earlier line again.
		acked[ack.key()] = ack.Line
	}
	return acked, nil
}
