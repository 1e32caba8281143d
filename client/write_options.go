package client

import (
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// WriteOption configures one write. An option that means nothing to the verb it
// is given to is an error of kind ErrInvalid, and nothing is sent.
type WriteOption interface{ write(p *params) }

type writeOption func(p *params)

func (o writeOption) write(p *params) { o(p) }

// IfVersion applies a Put or Delete only if the key exists and its version is
// v, which is that of an earlier read or write of the key. Otherwise the error is
// ErrConditionFailed and names the key's present version. It is decided when the
// write is applied, and that decision is kept under the write's request id like
// any other answer: repetitions are told the same.
func IfVersion(v uint64) WriteOption {
	return writeOption(func(p *params) { p.require(kvv1.Condition_CONDITION_VERSION, v) })
}

// IfAbsent applies a Put or Delete only if the key does not exist; in all else
// like IfVersion.
func IfAbsent() WriteOption {
	return writeOption(func(p *params) { p.require(kvv1.Condition_CONDITION_ABSENT, 0) })
}

// IfPresent applies a Put or Delete only if the key exists; in all else like
// IfVersion.
func IfPresent() WriteOption {
	return writeOption(func(p *params) { p.require(kvv1.Condition_CONDITION_PRESENT, 0) })
}

// WithPrevious makes the result bring what a Put or Delete replaced. It costs
// the shard a read.
func WithPrevious() WriteOption {
	return writeOption(func(p *params) { p.used |= optPrevious; p.previous = true })
}

// WithTTL gives the value of a Put a deadline: the key is gone at the earliest d
// after the write, and within a second of that while its shard is well. Time is
// shard time, so no single wrong clock and no outage makes it early. d is
// rounded up to a microsecond, and at most 100 years.
func WithTTL(d time.Duration) WriteOption {
	return writeOption(func(p *params) { p.expire(kvv1.Expiry_EXPIRY_AFTER, d) })
}

// KeepTTL makes a Put leave the key's deadline, or its having none, as it is.
// Without it, and without WithTTL, a Put removes the deadline.
func KeepTTL() WriteOption {
	return writeOption(func(p *params) { p.expire(kvv1.Expiry_EXPIRY_KEEP, 0) })
}

// WithRequestID gives the write an identity that outlives this client: repeated
// under the same id, even by another process, it takes effect at most once. The
// write must be the same each time: an id is remembered by the shard of the key, so
// another write under a used id is lost, with the first one's answer, if it goes to
// the same shard, and applied if it goes to another.
func WithRequestID(id RequestID) WriteOption {
	return writeOption(func(p *params) { p.used |= optIdentity; p.given, p.identity = id, identityGiven })
}

// WithoutRequestID sends the write without an identity, which saves the shards
// remembering it. It is tried again only when it was certainly not applied; in
// doubt it fails with ErrInDoubt.
func WithoutRequestID() WriteOption {
	return writeOption(func(p *params) { p.used |= optIdentity; p.identity = identityNone })
}
