package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ringfort/ringfort/client"
	"github.com/ringfort/ringfort/cluster/local"
	"github.com/ringfort/ringfort/cmd/kvctl/internal/config"
	"github.com/ringfort/ringfort/internal/kverr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func clientError(kind error, inDoubt bool, cause error) error {
	return fmt.Errorf("wrapped: %w", &client.Error{Op: "put", Key: "k", Kind: kind, InDoubt: inDoubt, Err: cause})
}

// K2: the table of exit codes, kind by kind.
func TestK2_ExitCodes(t *testing.T) {
	noQuorum := kverr.New(kverr.Unavailable, "shard 2: no quorum since …")
	refused := status.Error(codes.Unavailable, "connection refused")
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"nothing", nil, exitOK},
		{"any", errors.New("x"), exitOther},
		{"usage", usageErrorf("", "x"), exitUsage},
		{"chosen", &commandError{code: exitUnhealthy, err: clientError(client.ErrTimeout, true, nil)}, exitUnhealthy},
		{"not found", clientError(client.ErrNotFound, false, nil), exitNotFound},
		{"invalid", clientError(client.ErrInvalid, false, nil), exitUsage},
		{"too large", clientError(client.ErrTooLarge, false, nil), exitUsage},
		{"unavailable", clientError(client.ErrUnavailable, false, nil), exitUnavailable},
		{"overloaded", clientError(client.ErrOverloaded, false, nil), exitUnavailable},
		{"no space", clientError(client.ErrNoSpace, false, kverr.New(kverr.NoSpace, "x")), exitNoSpace},
		{"condition", clientError(client.ErrConditionFailed, false, kverr.New(kverr.CondFailed, "x")), exitCondition},
		{"no number", clientError(client.ErrNotANumber, false, nil), exitConflict},
		{"overflow", clientError(client.ErrOverflow, false, nil), exitConflict},
		{"compacted", clientError(client.ErrCompacted, false, nil), exitCompacted},
		{"cross slot", clientError(client.ErrCrossSlot, false, nil), exitUsage},
		{"bad token", clientError(client.ErrBadToken, false, nil), exitUsage},
		{"not initialized", clientError(client.ErrNotInitialized, false, nil), exitUnavailable},
		{"timeout", clientError(client.ErrTimeout, false, nil), exitTimeout},
		{"timeout, slow answer", clientError(client.ErrTimeout, false, kverr.New(kverr.Deadline, "x")), exitTimeout},
		{"timeout, no quorum", clientError(client.ErrTimeout, false, noQuorum), exitUnavailable},
		{"timeout, refused", clientError(client.ErrTimeout, false, fmt.Errorf("node at x: %w", refused)), exitUnavailable},
		{"timeout in doubt", clientError(client.ErrTimeout, true, noQuorum), exitOutcomeUnknown},
		{"in doubt", clientError(client.ErrInDoubt, true, nil), exitOutcomeUnknown},
		{"canceled in doubt", clientError(client.ErrCanceled, true, nil), exitOutcomeUnknown},
		{"format", clientError(client.ErrFormat, false, nil), exitOther},
		{"context", context.DeadlineExceeded, exitTimeout},
		{"no cluster", fmt.Errorf("x: %w", local.ErrNoCluster), exitNotFound},
		{"unknown node", fmt.Errorf("x: %w", local.ErrUnknownNode), exitNotFound},
		{"not running", fmt.Errorf("x: %w", local.ErrNotRunning), exitConflict},
		{"not ready", &local.NotReadyError{Err: context.DeadlineExceeded}, exitUnhealthy},
		{"died at start", &local.StartError{}, exitOther},
		{"flags refused", &local.FlagsError{}, exitUsage},
		{"interrupted", errInterrupted, exitInterrupted},
		{"several", errors.Join(errors.New("x"), kverr.New(kverr.Unavailable, "y")), exitUnavailable},
	} {
		if got := exitCode(t.Context(), c.err); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	// Every kind of the taxonomy has a code by intent, not by falling through.
	want := map[kverr.Kind]int{
		kverr.Invalid: exitUsage, kverr.WrongShard: exitUnavailable, kverr.NotLeader: exitUnavailable,
		kverr.Unavailable: exitUnavailable, kverr.Overloaded: exitUnavailable, kverr.OutcomeUnknown: exitOutcomeUnknown,
		kverr.Expired: exitOther, kverr.StaleDuplicate: exitOther, kverr.Deadline: exitTimeout,
		kverr.NotInitialized: exitUnavailable, kverr.WrongCluster: exitOther, kverr.Format: exitOther,
		kverr.Internal: exitOther, kverr.Closed: exitUnavailable, kverr.Conflict: exitConflict,
		kverr.NoSpace: exitNoSpace, kverr.CondFailed: exitCondition, kverr.CrossSlot: exitUsage,
		kverr.Compacted: exitCompacted, kverr.NotANumber: exitConflict, kverr.Overflow: exitConflict,
	}
	for _, kind := range kverr.Kinds() {
		code, listed := want[kind]
		if got := exitCode(t.Context(), kverr.New(kind, "x")); !listed || got != code {
			t.Errorf("%v: %d, want %d (listed: %v)", kind, got, code, listed)
		}
	}
}

func TestInterruptOutranksWhatItCaused(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	if got := exitCode(ctx, clientError(client.ErrCanceled, true, nil)); got != exitInterrupted {
		t.Errorf("exit code %d", got)
	}
	// What ended well in spite of it ended well, such as logs -f.
	if got := exitCode(ctx, nil); got != exitOK {
		t.Errorf("exit code %d", got)
	}
}

func TestHelpListsEveryExitCode(t *testing.T) {
	for _, code := range []int{
		exitOK, exitOther, exitUsage, exitNotFound, exitConflict, exitUnavailable, exitTimeout,
		exitOutcomeUnknown, exitUnauthenticated, exitUnhealthy, exitDiffer, exitUnverified, exitNoSpace,
		exitCondition, exitCompacted, exitInterrupted,
	} {
		if !strings.Contains(exitCodesHelp, fmt.Sprintf("\n%5d  ", code)) {
			t.Errorf("%d is not in the help", code)
		}
	}
}

func TestHints(t *testing.T) {
	a := &app{target: config.Target{Endpoints: []string{"h:1"}, From: "the flag"}}
	sent := &client.Error{Op: "get", Kind: client.ErrUnavailable, Attempts: 3}
	for _, c := range []struct {
		err  error
		want string
	}{
		{clientError(client.ErrTimeout, true, nil), "repeat the command"},
		{&client.Error{Op: "add", Kind: client.ErrInDoubt, InDoubt: true}, "might be applied twice"},
		{clientError(client.ErrCompacted, false, nil), "kvctl scan --report"},
		{clientError(client.ErrCrossSlot, false, nil), "hash tag"},
		{clientError(client.ErrNotInitialized, false, nil), "kvctl cluster init"},
		{clientError(client.ErrUnavailable, false, nil), "h:1 come from the flag"},
		{sent, "kvctl cluster status"},
		{clientError(client.ErrTimeout, false, nil), "--timeout"},
		{fmt.Errorf("x: %w", local.ErrNoCluster), "kvctl local up"},
		{fmt.Errorf("x: %w", local.ErrNoBinary), "make build"},
		{&local.StartError{ExitCode: 3}, "another process uses"},
		{&local.NotReadyError{}, "kvctl local status"},
		{&answered{kverr.New(kverr.Unavailable, "3 nodes needed, 1 alive")}, "kvctl cluster status shows which nodes"},
		{clientError(client.ErrTimeout, false, errors.New("x")), "no node has answered at h:1 (from the flag)"},
		{&client.Error{Op: "get", Kind: client.ErrTimeout, Attempts: 1}, "allow more time"},
		{usageErrorf("do this", "x"), "do this"},
		{errors.New("x"), ""},
	} {
		if got := a.hintFor(c.err); !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
	var out bytes.Buffer
	a.stderr = &out
	a.complain(usageErrorf("h", "a\nb"))
	if want := "error: a\n       b\nhint: h\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
