package kvtest

import (
	"testing"

	"go.uber.org/goleak"

	_ "github.com/ringfort/ringfort/internal/racebubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
