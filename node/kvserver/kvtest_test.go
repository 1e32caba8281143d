package kvserver

import (
	"testing"

	"github.com/ringfort/ringfort/client/kvtest"
)

// A test server that took more than a node would have users find out in production.
func TestKvtestHasTheLimitsOfANode(t *testing.T) {
	l := Limits{}.withDefaults()
	if l.MaxKeyBytes != kvtest.MaxKeyBytes || l.MaxValueBytes != kvtest.MaxValueBytes || l.MaxFrameBytes != kvtest.MaxFrameBytes {
		t.Errorf("a node takes keys of %d, values of %d and frames of %d bytes, kvtest %d, %d and %d",
			l.MaxKeyBytes, l.MaxValueBytes, l.MaxFrameBytes, kvtest.MaxKeyBytes, kvtest.MaxValueBytes, kvtest.MaxFrameBytes)
	}
}
