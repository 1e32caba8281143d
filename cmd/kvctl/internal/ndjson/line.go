package ndjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendLine appends a record as a line that Reader reads back to the same bytes.
// What is left to live is rounded up to a millisecond.
func AppendLine(line []byte, r *Record) []byte {
	line = append(line, '{')
	line = appendBytes(line, "key", []byte(r.Key))
	line = append(line, ',')
	line = appendBytes(line, "value", r.Value)
	if r.TTL > 0 {
		line = append(line, `,"ttl_ms":`...)
		line = strconv.AppendInt(line, int64((r.TTL+time.Millisecond-1)/time.Millisecond), 10)
	}
	return append(line, '}', '\n')
}

// appendBytes appends a member: text as it is, and base64 under another name if the
// bytes are no text.
func appendBytes(line []byte, name string, raw []byte) []byte {
	line = append(append(line, '"'), name...)
	if !utf8.Valid(raw) {
		line = append(line, `_base64":"`...)
		line = base64.StdEncoding.AppendEncode(line, raw)
		return append(line, '"')
	}
	line = append(line, `":`...)
	if isPlain(raw) {
		line = append(append(line, '"'), raw...)
		return append(line, '"')
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(string(raw)); err != nil {
		panic(err) // a string that is text can be encoded
	}
	return append(line, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// isPlain: nothing has to be escaped. U+2028 and U+2029 need not be.
func isPlain(raw []byte) bool {
	for _, c := range raw {
		if c < ' ' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
