package node_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/ringfort/ringfort/api/admin/v1"
	"github.com/ringfort/ringfort/node/nodetest"
)

// The level changes while the node runs, says what it was, and shows in the log
// whichever way it goes; what is no level changes nothing.
func TestLogLevelChangesWhileTheNodeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var level slog.LevelVar
		var out lockedBuffer
		c := nodetest.New(t, nodetest.Options{
			Nodes: 1, LogLevel: &level,
			Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level})),
		})
		if err := c.Servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		conn := c.Conn(0)
		defer conn.Close()
		admin := adminv1.NewAdminClient(conn)
		changes := func() int { return strings.Count(out.String(), "the log level is changed") }
		was, logged := "info", 0
		for _, to := range []string{"", "debug", "", "error", "WARN", "error", "error", "info", "info"} {
			resp, err := admin.LogLevel(t.Context(), &adminv1.LogLevelRequest{Level: to})
			if err != nil {
				t.Fatalf("%q: %v", to, err)
			}
			want := strings.ToLower(to)
			if to == "" {
				want = was
			}
			if want != was {
				logged++
			}
			if resp.GetLevel() != want || resp.GetWas() != was || level.Level().String() != strings.ToUpper(want) {
				t.Errorf("%q: %v, %s in force; want %s after %s", to, resp, level.Level(), want, was)
			}
			if got := changes(); got != logged {
				t.Errorf("%q after %q: %d changes are logged, want %d", to, was, got, logged)
			}
			was = want
		}
		_, err := admin.LogLevel(t.Context(), &adminv1.LogLevelRequest{Level: "loud"})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"loud" is not debug, info, warn or error`) {
			t.Error(err)
		}
		if level.Level() != slog.LevelInfo || changes() != logged {
			t.Errorf("a refused change has an effect: %s", level.Level())
		}
	})
}

// A node whose log is somebody else's says so.
func TestLogLevelMayBeFixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := nodetest.New(t, nodetest.Options{Nodes: 1})
		if err := c.Servers[0].Start(); err != nil {
			t.Fatal(err)
		}
		conn := c.Conn(0)
		defer conn.Close()
		_, err := adminv1.NewAdminClient(conn).LogLevel(t.Context(), &adminv1.LogLevelRequest{})
		if err == nil || !strings.Contains(err.Error(), "fixed log level") {
			t.Error(err)
		}
	})
}

// lockedBuffer is written and read by several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
