// Package kverr is the one taxonomy of errors: every error that a caller may
// act on has a Kind, and a Kind says what the caller may do next.
//
// It does not carry routing data (a newer record, a leader hint); those travel
// beside the error. No decision anywhere is made on an error's text.
package kverr

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what happened to the request and so what may be done about it. A
// Kind is itself an error, so errors.Is(err, kverr.Overloaded) works. Numbers
// are those of kv.v1.ErrorKind: append only.
type Kind uint8

// The kinds. All but OutcomeUnknown mean "not applied by this attempt".
const (
	None           Kind = 0
	Invalid        Kind = 1  // final: the request can never succeed as it is
	WrongShard     Kind = 2  // route again with the record beside the answer
	NotLeader      Kind = 3  // go to the hinted leader
	Unavailable    Kind = 4  // no quorum, starting, stopping: back off, try again
	Overloaded     Kind = 5  // a bounded queue is full: try again after RetryAfter
	OutcomeUnknown Kind = 6  // may have been applied: repeat only under a request id
	Expired        Kind = 7  // shard time has passed the request's not-after
	StaleDuplicate Kind = 8  // the request's number was closed before
	Deadline       Kind = 9  // the caller's time ran out before work began
	NotInitialized Kind = 10 // the node belongs to no cluster yet
	WrongCluster   Kind = 11 // the other side belongs to another cluster
	Format         Kind = 12 // an on-disk or on-wire format this build does not know
	Internal       Kind = 13 // a bug, or a refused impossibility
	Closed         Kind = 14 // the object was closed
	Conflict       Kind = 15 // an admin call found something in the way
	NoSpace        Kind = 16 // the disk is full: reads and deletes go on; free space, try again after RetryAfter
	CondFailed     Kind = 17 // the condition of a write did not hold
	CrossSlot      Kind = 18 // final: the keys of a transaction lie in different slots
	Compacted      Kind = 19 // the changes asked for are no longer remembered here
	NotANumber     Kind = 20 // an add met a value that is no decimal 64-bit number
	Overflow       Kind = 21 // an add would leave the range of a 64-bit number
)

var kindNames = [...]string{
	None: "no error", Invalid: "invalid request", WrongShard: "wrong shard", NotLeader: "not leader",
	Unavailable: "unavailable", Overloaded: "overloaded", OutcomeUnknown: "outcome unknown",
	Expired: "request expired", StaleDuplicate: "stale duplicate", Deadline: "deadline exceeded",
	NotInitialized: "cluster not initialized", WrongCluster: "wrong cluster", Format: "unknown format",
	Internal: "internal error", Closed: "closed", Conflict: "conflict",
	NoSpace: "no space", CondFailed: "condition failed", CrossSlot: "keys in different slots",
	Compacted: "changes no longer remembered", NotANumber: "not a number", Overflow: "number overflow",
}

// Kinds lists every kind but None, for tests that must cover all.
func Kinds() []Kind {
	ks := make([]Kind, 0, len(kindNames)-1)
	for k := Invalid; int(k) < len(kindNames); k++ {
		ks = append(ks, k)
	}
	return ks
}

// String names the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return k.String() }

// Applied reports whether the request may have taken effect.
func (k Kind) Applied() bool { return k == OutcomeUnknown }

// Error is an error with a kind. Fields that do not apply are zero.
type Error struct {
	Kind       Kind
	Message    string        // what, where and what to do next, in one line
	Shard      uint64        // the shard concerned
	Node       string        // the node that said so
	RetryAfter time.Duration // with Overloaded and NoSpace
	Err        error         // the cause, if any
}

// New returns an *Error with a formatted message; %w in the format becomes Err.
func New(kind Kind, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// Error returns the message, or the kind's name when there is none.
func (e *Error) Error() string {
	if e.Message != "" {
		return e.Message
	}
	return e.Kind.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches a Kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of the outermost *Error in err's chain: None for nil,
// Internal when there is no *Error.
func KindOf(err error) Kind {
	if err == nil {
		return None
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	return Internal
}
