package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What can go wrong, for errors.Is. Every error of this package is an *Error of
// one of these kinds. ErrInDoubt may hold beside another kind.
var (
	// ErrNotFound: the key has no value.
	ErrNotFound = errors.New("key not found")
	// ErrInvalid: the request can never succeed as it is.
	ErrInvalid = errors.New("invalid request")
	// ErrTooLarge: the key, the value or the transaction is over the limit. It is
	// ErrInvalid too.
	ErrTooLarge error = invalidKind("too large")
	// ErrCrossSlot: the keys of a transaction do not share a slot. It is ErrInvalid
	// too.
	ErrCrossSlot error = invalidKind("keys in different slots")
	// ErrBadToken: the token is garbled, of another cluster, or does not say what
	// it would have to. It is ErrInvalid too.
	ErrBadToken error = invalidKind("bad token")
	// ErrConditionFailed: the condition of the write did not hold, and nothing was
	// changed. The *Error has the key's Version and whether it Exists.
	ErrConditionFailed = errors.New("condition failed")
	// ErrNotANumber: an Add met a value that is not a decimal 64-bit number.
	ErrNotANumber = errors.New("not a number")
	// ErrOverflow: an Add would leave the range of a 64-bit number.
	ErrOverflow = errors.New("number overflow")
	// ErrCompacted: a watch would have to go on from changes that no replica
	// remembers any more.
	ErrCompacted = errors.New("changes no longer remembered")
	// ErrUnavailable: no replica could serve the key within the call's time.
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: a bounded queue of the server stayed full.
	ErrOverloaded = errors.New("overloaded")
	// ErrNoSpace: the disk of the key's leader is full. Reads go on, and some
	// deletes; a put is taken again when somebody has freed space.
	ErrNoSpace = errors.New("no space left on the leader's disk")
	// ErrInDoubt: the write may or may not have been applied.
	ErrInDoubt = errors.New("outcome unknown")
	// ErrTimeout: the call's time ran out. It is context.DeadlineExceeded too.
	ErrTimeout = errors.New("timed out")
	// ErrCanceled: the call's context was cancelled. It is context.Canceled too.
	ErrCanceled = errors.New("canceled")
	// ErrExpired: the validity of the write's request id is over.
	ErrExpired = errors.New("request expired")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client closed")
	// ErrNotInitialized: the nodes belong to no cluster yet.
	ErrNotInitialized = errors.New("cluster not initialized")
	// ErrWrongCluster: an endpoint belongs to another cluster than the others.
	ErrWrongCluster = errors.New("wrong cluster")
	// ErrFormat: the nodes speak a wire format that this client does not know.
	ErrFormat = errors.New("unknown wire format")
	// ErrInternal: the server met a bug, or an answer makes no sense.
	ErrInternal = errors.New("internal error")
)

// invalidKind is a sort of ErrInvalid that does not say so twice.
type invalidKind string

func (k invalidKind) Error() string { return string(k) }

// Unwrap returns ErrInvalid.
func (invalidKind) Unwrap() error { return ErrInvalid }

// Error is why a call failed. It tells the truth about writes: InDoubt is false
// only when the write was certainly not applied and never will be.
type Error struct {
	Op   string // "get", "put", …, or "open"
	Key  string // empty where there is none, or many
	Kind error  // one of the sentinels
	// InDoubt: the write may or may not have been applied. Under WithRequestID it
	// speaks of this call only, not of earlier ones under the same id.
	InDoubt bool
	// Attempts is how often the operation was sent to a node.
	Attempts int
	// Shard and Node are where the last word came from; 0 and "" when unknown.
	Shard uint64
	Node  string
	// RetryAfter is when an overloaded or full server would like to be asked again.
	RetryAfter time.Duration
	// Exists and Version are the key's, with ErrConditionFailed: what there was
	// instead of what the condition asked for. Version is 0 when there was no key.
	Exists  bool
	Version uint64
	// Err is the last thing that went wrong, nil when Kind says it all.
	Err error
}

// Error says what failed, whether it took effect, and the last cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Key != "" {
		fmt.Fprintf(&b, " %s", quoteKey(e.Key))
	}
	fmt.Fprintf(&b, ": %v", e.Kind)
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " after %d attempts", e.Attempts)
	}
	if e.InDoubt && e.Kind != ErrInDoubt {
		b.WriteString(" (outcome unknown: it may or may not have been applied)")
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap makes errors.Is and errors.As see the kind, the doubt, the context's
// error and the cause.
func (e *Error) Unwrap() []error {
	all := make([]error, 0, 4)
	all = append(all, e.Kind)
	if e.InDoubt {
		all = append(all, ErrInDoubt)
	}
	switch e.Kind {
	case ErrTimeout:
		all = append(all, context.DeadlineExceeded)
	case ErrCanceled:
		all = append(all, context.Canceled)
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}

// quoteKey shows a key on one line of bounded length.
func quoteKey(key string) string {
	const most = 64
	if len(key) > most {
		return fmt.Sprintf("%q… (%d bytes)", key[:most], len(key))
	}
	return fmt.Sprintf("%q", key)
}

func invalid(op, key, format string, args ...any) *Error {
	return &Error{Op: op, Key: key, Kind: ErrInvalid, Err: fmt.Errorf(format, args...)}
}

// endKind is the kind of a call that ended for a reason of its caller's.
func endKind(cause error) error {
	switch {
	case errors.Is(cause, ErrClosed):
		return ErrClosed
	case errors.Is(cause, context.Canceled):
		return ErrCanceled
	default:
		return ErrTimeout
	}
}
