package client

import (
	"fmt"
	"math/bits"
	"time"

	kvv1 "github.com/ringfort/ringfort/api/kv/v1"
)

// maxDuration is the longest TTL or age that is taken for meant: longer ones are
// mistakes in the unit, and would leave what a version can hold.
const maxDuration = 100 * 365 * 24 * time.Hour

// params is what the options of one call ask for.
type params struct {
	// Of writes.
	identity  identity
	given     RequestID
	condition kvv1.Condition
	ifVersion uint64
	expiry    kvv1.Expiry
	ttl       uint64 // µs
	previous  bool

	// Of reads.
	level        kvv1.ReadLevel
	replicas     replicas
	token        *Token // nil: none
	inSession    bool   // the token is that of session
	maxAge       uint64 // µs
	ifNotVersion uint64
	keysOnly     bool

	session *Session // collects

	used optionSet
	flaw string // the first thing wrong with the options
}

// optionSet says which kinds of option were given.
type optionSet uint16

const (
	optIdentity optionSet = 1 << iota
	optCondition
	optExpiry
	optPrevious
	optSession
	optLevel
	optReplica
	optKeysOnly
	optIfNotVersion
	optWithoutCache
)

const (
	optWrites = optIdentity | optSession
	optReads  = optSession | optLevel | optReplica | optKeysOnly
)

// optionNames is for errors, in the order of the bits.
var optionNames = [...]string{
	"a request id option", "a condition", "a TTL option", "WithPrevious", "a session", "a read level",
	"a choice of replicas", "KeysOnly", "IfNotVersion", "WithoutCache",
}

// spoil notes what is wrong with the options; the first fault is reported.
func (p *params) spoil(format string, args ...any) {
	if p.flaw == "" {
		p.flaw = fmt.Sprintf(format, args...)
	}
}

// check returns what is wrong with the options for a verb, "" if nothing is.
func (p *params) check(v verb) string {
	if alien := p.used &^ verbs[v].allows; alien != 0 && p.flaw == "" {
		return fmt.Sprintf("%s does not go with %s", optionNames[bits.TrailingZeros16(uint16(alien))], v)
	}
	if p.flaw == "" && p.identity == identityGiven && p.given.IsZero() {
		return "the request id is the zero value: use NewRequestID"
	}
	return p.flaw
}

// require adds a condition. A write has one: to ask for two that agree is as
// pointless as to ask for two that do not is hopeless.
func (p *params) require(c kvv1.Condition, version uint64) {
	if p.used&optCondition != 0 && (p.condition != c || p.ifVersion != version) {
		p.spoil("more than one condition: choose one of IfVersion, IfAbsent and IfPresent")
	}
	if c == kvv1.Condition_CONDITION_VERSION && version == 0 {
		p.spoil("no value has version 0: for a key that must not exist, use IfAbsent")
	}
	p.used |= optCondition
	p.condition, p.ifVersion = c, version
}

// expire says what the write does to the deadline.
func (p *params) expire(e kvv1.Expiry, ttl time.Duration) {
	if p.used&optExpiry != 0 && p.expiry != e {
		p.spoil("WithTTL and KeepTTL contradict each other")
	}
	p.used |= optExpiry
	p.expiry = e
	if e != kvv1.Expiry_EXPIRY_AFTER {
		return
	}
	if flaw := ttlFlaw(ttl); flaw != "" {
		p.spoil("%s", flaw)
		return
	}
	p.ttl = ttlMicros(ttl)
}

// ttlFlaw says what is wrong with a TTL, "" if nothing is.
func ttlFlaw(ttl time.Duration) string {
	switch {
	case ttl <= 0:
		return fmt.Sprintf("a TTL must be positive, not %v; to remove the key use Delete, to remove its TTL Persist", ttl)
	case ttl > maxDuration:
		return fmt.Sprintf("a TTL is at most 100 years, not %v", ttl)
	}
	return ""
}

// ttlMicros rounds up: a key is never gone early.
func ttlMicros(ttl time.Duration) uint64 {
	return uint64((ttl + time.Microsecond - 1) / time.Microsecond)
}
