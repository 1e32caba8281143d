package client

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// RequestIDLifetime is how long after NewRequestID a write may be repeated
// under the id. Later it is refused with ErrExpired.
const RequestIDLifetime = 5 * time.Minute

// RequestID names one write for good: store its text before the first try, and
// the write can be repeated after a crash without being applied twice. The
// validity is fixed at birth: if each try renewed it, a late copy of one could
// be applied after the shards had forgotten the others.
type RequestID struct {
	client   [16]byte
	notAfter uint64 // shard time in µs
}

// NewRequestID draws an id that is valid for RequestIDLifetime.
func (c *Client) NewRequestID() RequestID {
	return RequestID{client: c.random.clientID(), notAfter: c.shardTime.now() + micros(RequestIDLifetime)}
}

// IsZero reports whether the id is the zero value, which names no write.
func (id RequestID) IsZero() bool { return id == RequestID{} }

const (
	requestIDPrefix = "rq1" // numbered: a later form gets another one
	requestIDLength = len(requestIDPrefix) + 1 + 32 + 1 + 16
)

// String is the id's text: one word of letters, digits and dashes.
func (id RequestID) String() string {
	return fmt.Sprintf("%s-%x-%016x", requestIDPrefix, id.client, id.notAfter)
}

// MarshalText implements encoding.TextMarshaler.
func (id RequestID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *RequestID) UnmarshalText(text []byte) error {
	parsed, err := ParseRequestID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// ParseRequestID reads the text of an id. Anything else is ErrInvalid.
func ParseRequestID(text string) (RequestID, error) {
	var id RequestID
	if len(text) != requestIDLength || text != strings.ToLower(text) {
		return id, invalid("request id", "", "%s is not the text of a request id", quoteKey(text))
	}
	parts := strings.Split(text, "-")
	if len(parts) != 3 || parts[0] != requestIDPrefix || len(parts[1]) != 32 {
		return id, invalid("request id", "", "%s is not the text of a request id", quoteKey(text))
	}
	if _, err := hex.Decode(id.client[:], []byte(parts[1])); err != nil {
		return RequestID{}, invalid("request id", "", "%s: %w", quoteKey(text), err)
	}
	notAfter, err := strconv.ParseUint(parts[2], 16, 64)
	if err != nil {
		return RequestID{}, invalid("request id", "", "%s: %w", quoteKey(text), err)
	}
	id.notAfter = notAfter
	return id, nil
}
