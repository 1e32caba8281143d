package transport

import (
	"time"

	peerv1 "github.com/ringfort/ringfort/api/peer/v1"
)

// call is an RPC that waits for its answer. Whoever takes it out of its link's
// table, under the link's lock, has the right and the duty to finish it; so it
// is finished exactly once.
type call struct {
	// patient calls wait for a peer that is down, the others fail at once.
	patient bool
	// expire, unless 0, is after how long the link itself gives the call up.
	expire time.Duration
	// finish is called with the answer or with an error, outside all locks. It
	// must not block.
	finish func(*peerv1.Message, error)

	// Below is guarded by the link's lock.

	rpc    uint64
	parcel *parcel // nil when a Tamper has the message
	sent   bool
	// connected is closed when the link comes up. Nil when it was up before.
	connected chan struct{}
	timer     *time.Timer
}
