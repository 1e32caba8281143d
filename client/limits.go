package client

import (
	"fmt"
	"sync/atomic"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// The limits assumed until a node's hello has named its own, in bytes.
const (
	defaultMaxKey   = 4 << 10
	defaultMaxValue = 1 << 20
	defaultMaxFrame = defaultMaxValue + defaultMaxKey + operationOverhead
)

// limits are the sizes the servers enforce, by the latest hello. Refusing early
// saves sending a megabyte to learn that it is too much.
type limits struct{ key, value, frame atomic.Int64 }

func (l *limits) init() {
	l.key.Store(defaultMaxKey)
	l.value.Store(defaultMaxValue)
	l.frame.Store(defaultMaxFrame)
}

func (l *limits) hello(h *kvv1.ServerHello) {
	if n := h.GetMaxKeyBytes(); n > 0 {
		l.key.Store(int64(n))
	}
	if n := h.GetMaxValueBytes(); n > 0 {
		l.value.Store(int64(n))
	}
	if n := h.GetMaxFrameBytes(); n > 0 {
		l.frame.Store(int64(n))
	}
}

// check returns nil, or why the request can never succeed.
func (l *limits) check(v verb, key string, value []byte) *Error {
	switch maxKey, maxValue := l.key.Load(), l.value.Load(); {
	case key == "":
		return invalid(v.String(), "", "the key is empty; a key has 1 to %d bytes", maxKey)
	case int64(len(key)) > maxKey:
		return tooLarge(v, key, "the key has %d bytes, the limit is %d", len(key), maxKey)
	case int64(len(value)) > maxValue:
		return tooLarge(v, key, "the value has %d bytes, the limit is %d", len(value), maxValue)
	}
	return nil
}

func tooLarge(v verb, key, format string, args ...any) *Error {
	return &Error{Op: v.String(), Key: key, Kind: ErrTooLarge, Err: fmt.Errorf(format, args...)}
}
